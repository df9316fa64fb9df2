"""Has training steps taken in turns in each way, and the plan go on in the fastest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ds_core.nested import tensors_in
from ds_dmp import trial

if TYPE_CHECKING:
    from ds_core.session import Session
    from ds_dmp.plan import Plan

BEGIN = 17
"""Step after which ways are compared: the early looks have been acted on."""


class Comparison:
    """At most one trial for a plan, in steps of the training itself."""

    def __init__(self) -> None:
        self._trial: trial.Trial | None = None

    @property
    def running(self) -> bool:
        """Whether steps are being timed."""
        return self._trial is not None

    def forget(self) -> None:
        """Give up a trial that has begun."""
        self._trial = None

    def forward(self, *inputs: Any) -> None:
        """A forward of a training step begins."""
        if self._trial is not None:
            self._trial.forward(tuple(tuple(tensor.shape) for tensor in tensors_in(inputs)))

    def before_step(self) -> None:
        """All gradients of a step that is not watched are there."""
        if self._trial is not None:
            self._trial.step()

    def after_step(self, session: Session, plan: Plan, step: int, compiled: bool) -> None:
        """Begin a trial when it is time, choose the way of the next step, or end the trial."""
        if self._trial is None:
            if not compiled and step >= BEGIN and plan.comparable(step):
                self._begin(session, plan, step)
        elif compiled:  # every way would be compiled anew
            self.forget()
            plan.take_way(trial.ADVISED)
        elif self._trial.over:
            self._end(session, plan, step)
        if self._trial is not None:
            plan.take_way(trial.ADVISED if plan.region.watching else self._trial.way)

    def _begin(self, session: Session, plan: Plan, step: int) -> None:
        known = _agreed(session, plan)
        if known is None:
            self._trial = trial.Trial(
                plan.ways(), session.backend.synchronize, partial(_everywhere, session)
            )
        else:
            plan.settle(known, step)

    def _end(self, session: Session, plan: Plan, step: int) -> None:
        import torch

        assert self._trial is not None
        seconds = torch.tensor(self._trial.seconds(), dtype=torch.float32).to(session.device)
        session.all_reduce(seconds, "sum")  # all ranks decide alike
        verdict = trial.judge(self._trial.ways, seconds.tolist())
        trial.keep(_file(session, plan), verdict)
        self.forget()
        plan.settle(verdict, step)


def _file(session: Session, plan: Plan) -> str:
    import torch

    info = session.backend.info()
    machine = (info.name, info.arch, torch.__version__, torch.get_num_threads())
    return trial.file_for([*machine, type(session.model).__name__, *plan.identity()])


def _everywhere(session: Session, here: bool) -> bool:
    import torch

    votes = torch.tensor([int(here)], device=session.device)
    return bool(session.all_reduce(votes, "min").item())


def _agreed(session: Session, plan: Plan) -> trial.Verdict | None:
    """What an earlier run came to, where all ranks remember the same."""
    import torch

    known, ways = trial.recall(_file(session, plan)), plan.ways()
    code = ways.index(known.way) if known is not None and known.way in ways else -1
    wish = torch.tensor([code, -code], device=session.device)
    high, low = session.all_reduce(wish, "max").tolist()
    return known if high == -low and high >= 0 else None
