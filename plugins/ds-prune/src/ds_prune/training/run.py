"""One model on its way from whole to small."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_core.notices import warn
from ds_prune.analysis.analysis import Analysis
from ds_prune.choice import choose
from ds_prune.importance.installed import make_criterion
from ds_prune.lots import RoundTo, check_normalised, step_of
from ds_prune.report import Result, copied, layers_of, measure_both, reasons_of
from ds_prune.structure import Kept
from ds_prune.training.agreement import agree_on_cut, agree_on_masks, agree_on_scores, tells
from ds_prune.training.gates import Gates
from ds_prune.training.schedule import Schedule

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.session import Session
    from ds_prune.surgery.shrink import Outcome
    from ds_prune.training.inputs import Batch
    from ds_prune.training.options import ChannelOptions


class PruningRun:
    """Gates that move by a schedule, and the removal in the end.

    Args:
        session: Whose model is pruned.
        options: Of the pruner.
        steps: After which it begins, makes its last choice and removes.
        batch: Example inputs.

    Raises:
        RefusedError: The model cannot be followed, has no channel that could go, or the target
            cannot be reached. It is unchanged then.
    """

    def __init__(
        self,
        session: Session,
        options: ChannelOptions,
        steps: tuple[int, int, int],
        batch: Batch,
    ) -> None:
        begin, freeze, end = steps
        self._options, self._batch = options, batch
        self._schedule = Schedule(options.target(), begin, freeze, end, options.every)
        with session.plainly():
            self._analysis = Analysis(session.model, *batch, keep=options.keep)
        self.structure = self._analysis.structure
        self._tensors = dict(session.model.named_parameters())
        self._left = _frozen(self._tensors, self.structure.groups)
        self._criterion = make_criterion(options.criterion, options.criterion_options)
        self._gates = Gates(self._tensors, self.structure)
        self._latency, self._round_to = self._measure(session)
        self._kept: dict[str, np.ndarray[Any, np.dtype[np.bool_]]] = {}
        self._step = 0
        self._history: list[tuple[int, dict[str, int]]] = []
        self._open = False
        self._beginning = copy.deepcopy(self.state_dict())
        self._check()

    def _measure(self, session: Session) -> tuple[Any, RoundTo]:
        from ds_prune.timing.latency import measure_latency
        from ds_prune.timing.rounding import suggest_round_to

        options, model, backend = self._options, session.model, session.backend
        args, kwargs = self._batch
        with session.plainly():
            multiple: RoundTo = (
                suggest_round_to(backend, model, self.structure, args, kwargs)
                if options.round_to == "measured"
                else options.round_to
            )
            if options.latency is None:
                return None, multiple
            step = step_of(multiple)
            times = measure_latency(backend, model, self.structure, args, kwargs, round_to=step)
        return times, multiple

    def _check(self) -> None:
        """Whether the target can be reached at all, before anything is changed."""
        from ds_core.errors import RefusedError

        names = [group.name for group in self.structure.groups if group.name not in self._left]
        if not names:
            reasons = sorted(
                {one.reason for one in self.structure.frozen} | set(self._left.values())
            )
            raise RefusedError(
                "pruner 'channel' found no channel that could go: " + "; ".join(reasons) + ".",
                mend="Leave the pruner out.",
            )
        check_normalised(self.structure, self._schedule.target, self._options.normalised)
        self._choose(
            self._schedule.target,
            {name: np.ones(self.structure.group(name).count) for name in names},
        )

    # Step by step

    def before_step(self, first: bool) -> None:
        """Give the optimizer the dense weights; `first` of a batch's optimizers shows gradients."""
        self.give_back()
        if first and self._step < self._schedule.freeze:
            self._criterion.observe(self._tensors, self.structure)

    def after_step(self, session: Session, counts: bool) -> Result | None:
        """Choose, move gates and put them on the weights; or remove for good, and say what."""
        result = None
        try:
            if counts:
                result = self._proceed(session)
        finally:
            if result is None:  # also where it failed, so that training may go on
                self._gates.close()
                self._open = False
        return result

    def _proceed(self, session: Session) -> Result | None:
        self._step += 1
        schedule = self._schedule
        if schedule.due(self._step):
            self._kept = self._best(session)
        if self._step > schedule.begin and self._step % schedule.every == 0:
            self._gates.move(self._kept, self._options.decay)
            self._remember()
        return self._remove(session) if self._step >= schedule.end else None

    def _best(self, session: Session) -> dict[str, np.ndarray[Any, np.dtype[np.bool_]]]:
        scores = self._criterion.scores(self._tensors, self.structure)
        scores = {name: one for name, one in scores.items() if name not in self._left}
        scores = agree_on_scores(session, scores)
        kept = self._choose(self._schedule.at(self._step), scores)
        return agree_on_masks(session, kept, self.structure)

    def _choose(self, target: Any, scores: Mapping[str, Any]) -> Kept:
        options = self._options
        return choose(
            self.structure,
            scores,
            target,
            round_to=self._round_to,
            latency=self._latency,
            scope=options.scope,
            by_saving=self._criterion.additive,
            normalised=options.normalised,
        )

    def _remember(self) -> None:
        counts = {
            group.name: int(self._kept[group.name].sum())
            if group.name in self._kept
            else group.count
            for group in self.structure.groups
        }
        self._history.append((self._step, counts))

    def _remove(self, session: Session) -> Result:
        with session.plainly():
            self._whole = copied(session.model)
            self._outcome = self._cut(session)
        self._kept = dict(self._outcome.kept)
        self._remember()
        result = Result.of(self.structure, self._outcome, None, self._history, self._left)
        self._outcome.removal.commit()
        return result

    def _cut(self, session: Session) -> Outcome:
        """Remove what every rank proves by its own batch."""
        from ds_prune.surgery.shrink import shrink

        wanted: Kept = self._kept
        left: dict[str, str] = {}
        while True:
            outcome = shrink(
                session.model,
                self._analysis,
                wanted,
                *self._batch,
                session.optimizers,
                tolerance=self._options.tolerance,
            )
            try:
                agreed, alike = agree_on_cut(session, wanted, outcome.kept)
            except BaseException:
                outcome.removal.undo()
                raise
            left |= outcome.left
            if alike:
                return replace(outcome, left=left)
            outcome.removal.undo()
            left |= dict.fromkeys(outcome.kept.keys() - agreed, "not all ranks could prove it")
            wanted = {name: mask for name, mask in wanted.items() if name in agreed}

    def timed(self, session: Session, result: Result) -> Result:
        """The same with the seconds of both models, where that can be measured."""
        with session.plainly():
            seconds = measure_both(session.backend, self._whole, session.model, self._batch)
        return result.model_copy(update={"seconds": seconds})

    def tell(self, model: Module, result: Result) -> None:
        """Say what was not removed, and keep what was where the options say."""
        options, left = self._options, self._outcome.left
        if left:
            warn(
                f"pruner 'channel' left {', '.join(left)} whole, which were to shrink: "
                f"{'; '.join(sorted(set(left.values())))}."
            )
        if not tells():
            return
        if options.save is not None:
            from ds_prune.plan import Plan

            record = self._outcome.removal.record
            Plan.of(model, record, result=result).save(options.save)
        if options.picture is not None:
            from ds_prune.picture import draw

            totals = {group.name: group.count for group in self.structure.groups}
            draw(self._history, totals, options.picture)

    def give_back(self) -> None:
        """Put the dense weights into the model."""
        if not self._open:
            self._gates.open()
            self._open = True

    # State and speech

    def report(self) -> dict[str, Any]:
        """What there is to say of each layer."""
        kept, structure = self._kept, self.structure
        return {
            "target": self._schedule.target.model_dump(exclude_defaults=True),
            "channels are removed after step": self._schedule.end,
            "parameters": structure.parameters(kept) / structure.parameters({}),
            "multiply-adds": structure.multiply_adds(kept) / max(structure.multiply_adds({}), 1),
            "layers": layers_of(structure, kept),
            "left whole": reasons_of(structure, self._left),
        }

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs, but for the model."""
        return {
            "over": None,
            "step": self._step,
            "kept": {name: mask.tolist() for name, mask in self._kept.items()},
            "gates": self._gates.state_dict(),
            "criterion": self._criterion.state_dict(),
            "round to": self._round_to,
            "history": [[step, dict(counts)] for step, counts in self._history],
        }

    def load_state_dict(self, state: Mapping[str, Any] | None) -> None:
        """Take back what `state_dict` returned; None is what it was before the first step."""
        state = copy.deepcopy(self._beginning) if state is None else state
        self._open = False
        self._step = state["step"]
        self._kept = {name: np.array(mask, np.bool_) for name, mask in state["kept"].items()}
        self._gates.load_state_dict(state["gates"])
        self._criterion.load_state_dict(state["criterion"])
        self._round_to = state["round to"]
        self._history = [(step, dict(counts)) for step, counts in state["history"]]


def _frozen(tensors: Mapping[str, Any], groups: Any) -> dict[str, str]:
    """Groups that the user's frozen parameters are part of, with the reason."""
    if not any(tensor.requires_grad for tensor in tensors.values()):
        return {}
    left = {}
    for group in groups:
        for member in group.members:
            tensor = tensors.get(member.tensor)
            if tensor is not None and not tensor.requires_grad:
                left[group.name] = f"{member.tensor} is frozen"
                break
    return left
