"""The observer `inspector`: records a window of a training's steps."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pydantic

from ds_core.components import Observer, Options
from ds_core.errors import RefusedError
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.components import Backend
    from ds_core.hookspecs import Around
    from ds_core.session import Session
    from ds_inspector.capture.recorder import Recorder
    from ds_inspector.live import Publisher


class Inspector(Observer):
    """Records where time and memory go in some steps of a training, in one file.

    Before and after its window nothing is on the model, and it is called once a step at most.
    """

    name = "inspector"

    class Config(Options):
        """Which steps are recorded, how, and where the recording goes."""

        start: int = pydantic.Field(default=2, ge=0)
        """Steps before the first that is recorded; of inference at least one."""
        steps: int = pydantic.Field(default=5, ge=1)
        """Steps that each collector records. Plain ones in between tell what recording costs."""
        collectors: tuple[Literal["time", "lifetimes", "graph"], ...] = (
            "time",
            "lifetimes",
            "graph",
        )
        """What is recorded: operators' times, tensors' lives, the model's graph."""
        output: str = "run.dsrec"
        """The file."""
        ranks: Literal["first", "all"] = "first"
        """Under torchrun, `all` has every process write a file, with its rank in the name."""
        live: bool = False
        """Publish each step's time and memory to `ds inspect attach`."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._steps = 0
        self._done = False
        self._written = ""
        self._problems: list[str] = []
        self._costs: dict[str, float] = {}
        self._recorder: Recorder | None = None
        self._publisher: Publisher | None = None
        self._last = 0.0

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Refuse where the recording cannot be written."""
        folder = Path(self.config.output).absolute().parent
        if not folder.is_dir():
            raise RefusedError(
                f"observer 'inspector' cannot write {self.config.output}: there is no folder "
                f"{folder}.",
                mend="Make it, or give another output.",
            )

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """Count forwards as steps where there is no optimizer."""
        if session.optimizers:
            return None
        from torch.compiler import is_compiling

        def around(call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            output = call(*args, **kwargs)
            if not is_compiling():
                self._step_ended(session)
            return output

        return around

    @hookimpl
    def ds_before_step(self, optimizer: Optimizer) -> None:
        """Tell an optimizer's part of a step."""
        if self._recorder is not None:
            self._recorder.before_optimizer(optimizer)

    @hookimpl
    def ds_after_step(self, session: Session, optimizer: Optimizer) -> None:
        """A step has ended; the next one begins."""
        if self._recorder is not None:
            self._recorder.after_optimizer(optimizer)
        if optimizer is session.optimizers[0]:
            self._step_ended(session)

    @hookimpl
    def ds_model_changed(self, session: Session) -> None:
        """Begin the window anew, as modules may be others."""
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
            self._problems.append("The model changed in the window, which was begun anew.")

    @hookimpl
    def ds_session_end(self, session: Session) -> None:
        """Write what there is of a window that has not ended."""
        if self._recorder is not None:
            self._write(session, self._recorder)
        if self._publisher is not None:
            self._publisher.close()
            self._publisher = None

    def _step_ended(self, session: Session) -> None:
        self._steps += 1
        if self.config.live:
            self._publish(session)
        if self._done:
            self._rest(session)
            return
        try:
            self._advance(session)
        except Exception as error:  # nobody's training fails because it is watched
            self._fail(error)

    def _advance(self, session: Session) -> None:
        from ds_inspector.capture.ranks import is_recorded

        recorder = self._recorder
        if recorder is None:
            if not is_recorded(self.config.ranks == "all"):
                self._done = True
                self._rest(session)
            elif self._steps >= self.config.start:
                self._recorder = self._new_recorder(session)
                self._recorder.begin()
            return
        recorder.end()
        if recorder.done:
            self._write(session, recorder)
            self._rest(session)
        else:
            recorder.begin()

    def _new_recorder(self, session: Session) -> Recorder:
        from ds_inspector.capture.recorder import Recorder

        backend = session.backend
        known = backend.device_type != "cpu" and backend.memory().allocated is not None
        return Recorder(
            session.model,
            steps=self.config.steps,
            collectors=self.config.collectors,
            read=(lambda: backend.memory().allocated) if known else None,
        )

    def _write(self, session: Session, recorder: Recorder) -> None:
        from ds_inspector.capture.finishing import finish
        from ds_inspector.capture.ranks import ranked

        self._recorder, self._done = None, True
        try:
            recorder.close()
            if not any(role != "plain" for role in recorder.recorded.seconds):
                self._problems.append("The session ended before a step was recorded.")
                return
            names = [f"{part.kind} {part.name}" for part in session.passes if part is not self]
            with session.plainly():
                recording = finish(recorder, self.config.collectors, passes=names)
            output = Path(self.config.output)
            target = ranked(output) if self.config.ranks == "all" else output
            self._written = str(recording.save(target))
        except Exception as error:
            self._fail(error)
            return
        about = recording.about
        self._problems += about.problems
        self._costs = {one.name: round(one.overhead, 3) for one in about.collectors if one.overhead}

    def _fail(self, error: Exception) -> None:
        from ds_inspector.capture.graph import first_line

        self._done = True
        if self._recorder is not None:
            self._recorder.close()
            self._recorder = None
        self._problems.append(f"Recording ended early: {first_line(error)}.")

    def _rest(self, session: Session) -> None:
        if not self.config.live:
            session.rest(self)

    def _publish(self, session: Session) -> None:
        from ds_inspector.live import Publisher

        now = time.perf_counter()
        if self._publisher is None:
            self._publisher = Publisher(type(session.model).__name__)
        else:
            figures = session.backend.memory()
            self._publisher.step(now - self._last, figures.allocated, figures.peak)
        self._last = now

    def explain(self, backend: Backend) -> list[str]:
        options = self.config
        return [
            f"Records {options.steps} steps with {', '.join(options.collectors)} after "
            f"{options.start}, into {options.output}."
        ]

    def report(self) -> dict[str, Any]:
        return {
            "steps seen": self._steps,
            "recording": self._written,
            "state": "done" if self._done else "recording" if self._recorder else "waiting",
            "overhead": self._costs,
            "problems": list(self._problems),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self._steps, "done": self._done, "written": self._written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._steps, self._done = state["steps"], state["done"]
        self._written = state["written"]
