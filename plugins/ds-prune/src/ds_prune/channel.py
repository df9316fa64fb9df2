"""The pruner `channel`: softly while the model trains, for good in the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.components import Pruner
from ds_core.errors import RefusedError, SessionError
from ds_core.hookspecs import hookimpl
from ds_core.subjects import process_group
from ds_prune.training.options import ChannelOptions

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.components import Backend
    from ds_core.hookspecs import Around
    from ds_core.session import Session
    from ds_prune.report import Result
    from ds_prune.training.inputs import FirstInputs
    from ds_prune.training.run import PruningRun

_USUAL_STEPS = 1000
_SHARE_OF_TRAINING = 0.75
_SHARE_OF_CHOICES = 0.75


class Channel(Pruner):
    """Removes channels and attention heads while the model trains.

    In the first step the dependencies between channels are found out. Then gates close on those
    that the loss would miss least, on a cubic schedule; a gate opens again where its channel proves
    to be missed. In the end the closed ones are removed from weights, buffers, optimizer state and
    module attributes in place, with a proof that the small model computes the same.
    """

    name = "channel"
    rank = 20
    Config = ChannelOptions
    config: ChannelOptions

    def __init__(self, config: Any = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._inputs: FirstInputs | None = None
        self._run: PruningRun | None = None
        self._result: Result | None = None
        self._schedule = (0, 0, 0)
        self._waiting: dict[str, Any] | None = None

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Refuse what could only fail later."""
        from ds_prune.importance.installed import make_criterion
        from ds_prune.training.agreement import tells

        if process_group(session.model) is not None:
            raise RefusedError(
                "pruner 'channel' changes the shapes of parameters, of which torch's "
                "DistributedDataParallel keeps copies.",
                mend="Attach the module inside it with topology='flat', without "
                "DistributedDataParallel.",
            )
        make_criterion(self.config.criterion, self.config.criterion_options)
        if self.config.picture is not None:
            from ds_prune.picture import check

            check(self.config.picture)
        if self.config.save is not None and tells():
            from ds_prune.surgery.folder import check_place

            check_place(self.config.save)
        self._schedule = self._steps(session.total_steps)

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Nothing but that what gates hold back is given back in the end."""
        from ds_prune.training.inputs import FirstInputs

        self._run, self._result, self._inputs = None, None, FirstInputs()
        session.changes.on_undo(self._give_back)

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """Keep the first batch: it is what the model is analysed with."""
        return self._inputs.around() if self._inputs is not None and session.optimizers else None

    @hookimpl
    def ds_before_step(self, session: Session, optimizer: Optimizer) -> None:
        """Give the optimizer the dense weights, and learn from their gradients."""
        if self._result is not None:
            return
        if self._run is None:
            self._run = self._begin(session)
        self._run.before_step(first=optimizer is session.optimizers[0])

    @hookimpl
    def ds_after_step(self, session: Session, optimizer: Optimizer, skipped: str | None) -> None:
        """Move the gates when it is time, put them on the weights, or remove what they closed."""
        run = self._run
        if run is not None:
            counts = optimizer is session.optimizers[0] and not skipped
            self._result = run.after_step(session, counts=counts)
        if self._result is None:
            return
        self._run = None  # and with it the dense weights and the graph
        if run is not None:
            session.model_changed()
        session.rest(self)
        if run is not None:
            self._result = run.timed(session, self._result)
            run.tell(session.model, self._result)

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Refuse to go on where someone else changed the model."""
        if self._run is not None:
            raise SessionError(
                "Another component changed the model while pruner 'channel' was at work.",
                mend="Change the model before or after pruning.",
            )

    def _begin(self, session: Session) -> PruningRun:
        from ds_prune.training.run import PruningRun

        batch = self._inputs.seen if self._inputs is not None else None
        if self._inputs is None or batch is None:
            raise RefusedError(
                "pruner 'channel' has seen no forward that it could follow: the model is compiled, "
                "or something else than the attached module is called.",
                mend="Call the attached model once before it is compiled; torch.no_grad() is fine.",
            )
        self._inputs.forget()
        run = PruningRun(session, self.config, self._schedule, batch)
        if self._waiting is not None:
            run.load_state_dict(self._waiting)
            self._waiting = None
        return run

    def _steps(self, total: int | None) -> tuple[int, int, int]:
        config = self.config
        end = config.end or max(round(_SHARE_OF_TRAINING * total), 2) if total else config.end
        end = end or config.begin + _USUAL_STEPS
        freeze = config.freeze or config.begin + max(
            round(_SHARE_OF_CHOICES * (end - config.begin)), 1
        )
        if not config.begin < freeze <= end:
            raise RefusedError(
                f"pruner 'channel': choices end at step {freeze} and channels are removed after "
                f"step {end}, but it begins at step {config.begin}.",
                mend="Give begin, freeze and end that follow each other.",
            )
        return config.begin, freeze, end

    def _give_back(self) -> None:
        if self._run is not None:
            self._run.give_back()

    def explain(self, backend: Backend) -> list[str]:
        bounds = self.config.target().bounds()
        wanted = ", ".join(f"{kind} to {share:g}x" for kind, share in bounds.items())
        begin, freeze, end = self._steps(None)
        return [
            f"brings {wanted or 'layers to their shares'} by criterion {self.config.criterion!r}",
            f"gates move from step {begin} to {freeze}; channels are removed after step {end}, "
            "or three quarters of total_steps",
        ]

    def report(self) -> dict[str, Any]:
        if self._result is not None:
            return self._result.report()
        if self._run is None:
            return {"target": self.config.target().model_dump(exclude_defaults=True)}
        return self._run.report()

    def state_dict(self) -> dict[str, Any]:
        if self._result is not None:
            return {"run": {"over": self._result.model_dump()}}
        if self._run is None:
            return {"run": self._waiting}
        return {"run": self._run.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        from ds_prune.report import Result

        self._waiting, self._result = state["run"], None
        if self._waiting is not None and self._waiting["over"] is not None:
            self._result, self._waiting = Result.model_validate(self._waiting["over"]), None
            self._run = None
        elif self._run is not None:
            self._run.load_state_dict(self._waiting)
            self._waiting = None
