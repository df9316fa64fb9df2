"""The precision policy: sets layers up, looks at them now and then, and acts on what it saw."""

from __future__ import annotations

import contextlib
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from ds_core.changes import Changes
from ds_core.components import PrecisionPolicy
from ds_core.errors import RefusedError, SessionError
from ds_core.hookspecs import hookimpl
from ds_core.nested import map_tensors
from ds_core.scaling import LossScale
from ds_dmp.comparison import Comparison
from ds_dmp.evidence import NORMAL, Evidence
from ds_dmp.ladder import FULL, agreed, check_parameters, ladder_for
from ds_dmp.options import DmpOptions
from ds_dmp.recipe import Recipe
from ds_dmp.scale import Interval, fit, nearest

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_core.components import Backend
    from ds_core.hookspecs import Around
    from ds_core.session import Session
    from ds_dmp.complaints import Complaints
    from ds_dmp.lean.memory import LeanMemory
    from ds_dmp.looks import Looks
    from ds_dmp.plan import Plan
    from ds_dmp.trace import TraceWriter

COMPILED = 16
"""Combinations of dtypes that torch.compile is asked for: each costs seconds to minutes."""

RECOMPILE_LIMIT = 4 * COMPILED
"""What torch may keep of one forward: each combination plain, watched and without gradients."""

VANISHED = 2.0**12
"""By how much the loss scale grows where all gradients of a layer are zero, if others bear it."""


class _Rest(NamedTuple):
    """Since when there is nothing to do, and how far steps were counted in the meantime."""

    session: weakref.ref[Session]
    counted: int
    since: int


class Dmp(PrecisionPolicy):
    """Each layer in 16 bit while its gradients are stable, in float32 while they are not.

    Layers that multiply matrices are watched at run time: the distribution of their gradients, the
    rounding error of their products on a sample, overflows and what vanishes. Unstable ones become
    float32 islands; they return once they have been quiet for long. Normalisations, softmax and
    losses are left to autocast.
    """

    name = "dmp"
    rank = 30
    conformance = {"tolerance": 5e-2}
    Config = DmpOptions
    config: DmpOptions

    def __init__(self, config: Any = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._ladder: list[str] = [FULL]
        self._reason = ""
        self._notes: list[str] = []
        self._plan: Plan | None = None
        self._looks: Looks | None = None
        self._complaints: Complaints | None = None
        self._scale: LossScale | None = None
        self._lean: LeanMemory | None = None
        self._trace: TraceWriter | None = None
        self._comparison = Comparison()
        self._surrounded = Changes()
        self._resting: _Rest | None = None
        self._last: dict[str, Evidence] = {}
        self._step = 0
        self._next_look = 1
        self._good_scale = 1.0
        self._carried = 1.0
        self._compiled = False

    @property
    def requires(self) -> frozenset[str]:
        dtypes = () if self.config.dtypes == "auto" else self.config.dtypes
        return frozenset(f"dtype:{dtype}" for dtype in dtypes)

    # Setting up

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Choose the dtypes, and refuse models that autocast cannot handle."""
        self._ladder, self._reason = ladder_for(self.config, session.backend)
        check_parameters(session.model)
        _recipe(self.config, session.total_steps)

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Take hold of the layers' forwards and of what is saved for the backward."""
        self._plan = self._looks = self._scale = self._lean = None
        if self.config.memory != "standard":
            from ds_dmp.lean.memory import LeanMemory

            # First, as it recomputes only modules whose forwards are still torch's own.
            self._lean = LeanMemory(
                model,
                session.changes,
                plus=self.config.memory == "lean+",
                budget=self.config.budget(),
                seed=self.config.seed,
            )
            self._lean.measure()
        if not agreed(self._ladder, session):
            self._ladder, self._reason = [FULL], "ranks differ in which 16-bit dtype is fast"
        if len(self._ladder) > 1:
            self._make_plan(session, model)

    def _make_plan(self, session: Session, model: Module) -> None:
        from ds_dmp.complaints import Complaints
        from ds_dmp.layers import Region
        from ds_dmp.plan import Plan

        self._complaints = Complaints()
        session.changes.on_undo(self._surrounded.undo)
        region = Region(session.backend.autocast)
        recipe = _recipe(self.config, session.total_steps)
        self._plan = Plan(self.config, self._ladder, region, recipe)
        self._take(session, model)
        if not self._plan.units:
            self._plan = None
            self._reason = "the model has no layer that multiplies matrices"

    def _take(self, session: Session, model: Module) -> None:
        """Find the layers of a model, and surround those that are new."""
        from ds_dmp.layers import Layer, find

        plan = self._plan
        assert plan is not None
        self._notes = []
        known = {id(layer.module): layer for layer in plan.layers}
        layers = []
        for name, module, kind in find(model, self._skip):
            layer = known.get(id(module)) or Layer(name, module, kind, plan.region)
            layer.name = name
            layers.append(layer)
        plan.take(layers, self._step)
        self._surround()

    def _surround(self) -> None:
        from ds_dmp.layers import surround

        for layer in self._plan.layers if self._plan is not None else ():
            if layer.probe is None:
                surround(layer, self._ladder[:-1], self._surrounded)

    def _skip(self, name: str, why: str) -> None:
        self._notes.append(f"{name or 'the model'} is left to autocast: {why}")

    @hookimpl
    def ds_loss_scale(self, session: Session) -> LossScale | None:
        """A loss scale, where a layer may compute in float16."""
        if self._plan is not None and "fp16" in self._ladder:
            config = self.config
            self._scale = LossScale(
                config.init_scale, min_scale=config.min_scale, max_scale=config.max_scale
            )
            self._good_scale = self._carried = self._scale.value
        return self._scale

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """A region of the preferred dtype, and around it what saves memory."""
        region = None
        if self._plan is not None:
            from ds_dmp.looks import Looks

            # Only now is the model where it will stay.
            self._looks = Looks(self._plan.layers, self._plan.region, session.device)
            self._watch_next(session)
            self._open_trace(session)
            region = self._surrounding(session)
        lean = self._lean.around() if self._lean is not None else None
        return _nested(lean, region) if lean and region else lean or region

    def _surrounding(self, session: Session) -> Around:
        import torch

        from ds_dmp.layers import watch_output
        from ds_dmp.products import NAMES

        device_type, comparison = session.device.type, self._comparison

        assert self._plan is not None
        region, dtype = self._plan.region, getattr(torch, NAMES[self._ladder[0]])
        region.dtype = dtype
        # A gradient that enters beside the loss scale's boundary would stay scaled.
        region.opens_frozen = bool(session.optimizers) and self._scale is None

        def wide(tensor: Tensor) -> Tensor:
            return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            compiling = torch.compiler.is_compiling()
            if compiling:
                region.compiled = True
            elif comparison.running and torch.is_grad_enabled() and not region.watching:
                comparison.forward(args, kwargs)
            if region.closed:
                return call(*args, **kwargs)
            if torch.is_autocast_enabled(device_type):
                if not compiling:
                    self._abstain()
                return call(*args, **kwargs)
            region.on = True
            try:
                with region.autocast(dtype):
                    output = call(*args, **kwargs)
            finally:
                region.on = False
            output = map_tensors(wide, output)
            return watch_output(region, output) if region.watching else output

        return around

    def _abstain(self) -> None:
        assert self._complaints is not None
        self._complaints.say(
            "autocast",
            "The model was called within an autocast region of the training loop's own, which "
            "precision 'dmp' leaves to decide. Remove that region to have dmp work.",
        )

    # Step by step

    @hookimpl
    def ds_before_step(self, session: Session, optimizer: Optimizer) -> None:
        """Look at the weights' gradients too, where the step is watched."""
        if self._lean is not None:
            self._lean.before_step(optimizer)
        plan, looks = self._plan, self._looks
        if plan is None or looks is None or optimizer is not session.optimizers[0]:
            return
        if plan.region.watching:
            looks.note_weights()
        else:
            self._comparison.before_step()

    @hookimpl
    def ds_after_step(self, session: Session, optimizer: Optimizer, skipped: str | None) -> None:
        """Count, read the last look, decide, and say whether the next step is looked at."""
        if self._lean is not None:
            self._lean.after_step(optimizer)
        plan, looks = self._plan, self._looks
        if optimizer is not session.optimizers[0]:
            return
        if plan is None or looks is None:
            self._rest(session)
            return
        self._step += 1
        plan.count_step()
        if plan.region.compiled and not self._compiled:
            self._compiled = True
            _allow_recompiling(session)
        if looks.pending:
            self._decide(session)
        if plan.region.watching:
            looks.send(session.all_reduce, self._carried)
            if skipped:
                self._decide(session)  # the host has waited for this step anyway
        if self._scale is not None and not skipped:
            self._good_scale = self._scale.value
        plan.hold(self._step)
        self._watch_next(session, urgent=skipped is not None)
        self._comparison.after_step(session, plan, self._step, self._compiled)
        if plan.region.closed and not self._comparison.running:
            self._rest(session)

    def _rest(self, session: Session) -> None:
        """Cost nothing any more, as there is nothing to gain."""
        if self._lean is not None:
            return
        self._resting = _Rest(weakref.ref(session), session.steps, self._step)
        self._let_go()
        session.rest(self)

    def _let_go(self) -> None:
        """Give layers their own forwards back."""
        with contextlib.suppress(SessionError):  # others have changed layers since
            self._surrounded.undo()
        for layer in self._plan.layers if self._plan is not None else ():
            layer.probe = None

    def _catch_up(self) -> None:
        """Count the steps that were taken at rest."""
        session = self._resting.session() if self._resting is not None else None
        if self._resting is None or session is None:
            return
        taken = session.steps - self._resting.counted
        self._resting = self._resting._replace(counted=session.steps)
        self._step += taken
        if self._plan is not None:
            self._plan.count_step(taken)

    def _watch_next(self, session: Session, urgent: bool = False) -> None:
        """Say whether the step that comes is looked at."""
        plan = self._plan
        assert plan is not None
        step = self._step + 1
        due = step >= self._next_look
        frozen = self._compiled and len(plan.combinations) >= COMPILED
        idle = plan.region.closed or frozen or not session.optimizers
        plan.region.watching = (due or urgent) and not idle
        self._carried = self._scale.value if self._scale is not None else 1.0
        if due:
            every = self.config.every
            self._next_look = step * 2 if step * 2 <= every else (step // every + 1) * every
        if plan.region.watching:
            if self._lean is not None:
                self._lean.measure()
            plan.region.order = 0
            for layer in plan.layers:
                layer.begin()

    def _decide(self, session: Session) -> None:
        """Read a look and act on it."""
        plan, looks = self._plan, self._looks
        assert plan is not None
        assert looks is not None
        assert self._complaints is not None
        found = looks.receive(self._ladder[:-1])
        self._last |= {name: one for name, one in found.items() if one.calls}
        if plan.gates is None and self.config.cost_gate and not self._compiled:
            plan.weigh_costs(session, self._step)
        scalable = self._scale is not None and self._scale.value > self._scale.min_scale
        model = type(session.model).__name__
        self._complaints.of_look(model, self._step, plan, found, scalable)
        by_unit = {unit.name: [found[layer.name] for layer in unit.layers] for unit in plan.units}
        conflicts = self._fit_scale(found, by_unit)
        scale = self._scale.value if self._scale is not None else 1.0
        flips = plan.look(by_unit, self._step, scale, conflicts)
        if self._lean is not None:
            self._lean.choose({name: one.mean_square for name, one in found.items() if one.calls})
        if self._trace is not None:
            self._trace.write(
                {
                    "step": self._step,
                    "scale": self._scale.value if self._scale is not None else None,
                    "dtypes": {unit.name: plan.decisions.dtype(unit.name) for unit in plan.units},
                    "dangers": {name: min(one, 1e6) for name, one in plan.dangers().items()},
                    "work": {unit.name: unit.multiply_adds for unit in plan.units},
                    "flips": [asdict(flip) for flip in flips],
                }
            )

    def _fit_scale(
        self, found: Mapping[str, Evidence], by_unit: Mapping[str, list[Evidence]]
    ) -> list[str]:
        """Move the loss scale to where gradients want it; returns units that it cannot serve."""
        from ds_dmp.complaints import input_spoiled

        plan, scale = self._plan, self._scale
        if scale is None or plan is None:
            return []
        if any(one.broken == "forward" for one in found.values()) or input_spoiled(plan, found):
            scale.set(self._good_scale)  # no scale mends what breaks in the forward
            return []
        intervals = {}
        for unit in plan.units:
            seen = [one for one in by_unit[unit.name] if one.calls]
            if seen and plan.decisions.dtype(unit.name) == "fp16":
                intervals[unit.name] = Interval(
                    max(one.needed_scale(self.config.flush_limit / 2) for one in seen),
                    min(one.tolerated_scale() for one in seen),
                    unit.multiply_adds,
                )
        low, high, conflicts = fit(intervals, scale.min_scale)
        vanished = [one.scale for one in found.values() if one.vanished]
        if vanished:
            low = max(low, max(vanished) * VANISHED)
        low = min(low * NORMAL, high)  # full precision where overflow allows it
        target = nearest(scale.value, low, high)
        if target != scale.value:
            scale.set(target)
        return conflicts

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Take hold of new layers; decisions stay with the names."""
        if self._plan is None:
            return
        from ds_dmp.looks import Looks

        self._comparison.forget()
        self._catch_up()
        self._resting = None
        self._let_go()  # modules may be of other classes now
        self._take(session, model)
        self._looks = Looks(self._plan.layers, self._plan.region, session.device)

    @hookimpl
    def ds_session_end(self, session: Session) -> None:
        """Close the trace."""
        if self._trace is not None:
            self._trace.close()

    # State and speech

    def _open_trace(self, session: Session) -> None:
        from ds_dmp.trace import TraceWriter

        alone = os.environ.get("RANK", "0") == "0"  # all ranks decide alike: one tells
        if self.config.trace is None or self._plan is None or not alone:
            return
        if self._trace is not None:
            self._trace.close()
        units = [{"name": unit.name, "kind": unit.kind} for unit in self._plan.units]
        header = {"model": type(session.model).__name__, "ladder": self._ladder, "units": units}
        self._trace = TraceWriter(self.config.trace, header)

    def state_dict(self) -> dict[str, Any]:
        self._catch_up()
        return {
            "ladder": list(self._ladder),
            "step": self._step,
            "next_look": self._next_look,
            "good_scale": self._good_scale,
            "watching": self._plan.region.watching if self._plan is not None else False,
            "plan": self._plan.state_dict() if self._plan is not None else None,
            "looks": self._looks.state_dict() if self._looks is not None else None,
            "lean": self._lean.state_dict() if self._lean is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["ladder"] != self._ladder:
            self._notes.append(
                f"The state was saved where {', '.join(state['ladder'])} were the dtypes; here "
                f"they are {', '.join(self._ladder)}, and decisions start anew."
            )
            return
        self._step, self._next_look = state["step"], state["next_look"]
        self._good_scale = state["good_scale"]
        self._carried = self._scale.value if self._scale is not None else 1.0
        if self._plan is not None and state["plan"] is not None:
            self._plan.load_state_dict(state["plan"])
            self._plan.region.watching = state["watching"]
            self._comparison.forget()
            self._resting = None
            self._surround()
        if self._looks is not None and state["looks"] is not None:
            self._looks.load_state_dict(state["looks"])
        if self._lean is not None and state["lean"] is not None:
            self._lean.load_state_dict(state["lean"])

    def explain(self, backend: Backend) -> list[str]:
        try:
            ladder, reason = ladder_for(self.config, backend)
        except RefusedError as error:
            return [f"would refuse: {error}"]
        if len(ladder) == 1:
            return [f"every layer computes in fp32: {reason}"]
        low = " or ".join(ladder[:-1])
        sentences = [f"each layer computes in {low} while it is stable, else in fp32: {reason}"]
        sentences.append(f"looks at steps 1, 2, 4, ... and then every {self.config.every}")
        if "fp16" in ladder:
            sentences.append("gradients carry a loss scale that follows their magnitudes")
        return sentences

    def report(self) -> dict[str, Any]:
        self._catch_up()
        plan = self._plan
        notes = [*self._notes, *(self._complaints.said if self._complaints is not None else ())]
        return {
            "dtypes": list(self._ladder),
            "why": self._reason,
            "16-bit share of multiply-adds": plan.share() if plan is not None else 0.0,
            "flips": len(plan.decisions.flips) if plan is not None else 0,
            **({"notes": notes} if notes else {}),
            **({"at rest since step": self._resting.since} if self._resting else {}),
            **({"memory": self._lean.report()} if self._lean is not None else {}),
            "layers": plan.rows(self._last) if plan is not None else [],
        }


def _nested(outer: Around, inner: Around) -> Around:
    def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def inside(*args: Any, **kwargs: Any) -> Any:
            return inner(call, args, kwargs)

        return outer(inside, args, kwargs)

    return around


def _allow_recompiling(session: Session) -> None:
    """Have torch keep as many graphs as there may be combinations, until the session ends."""
    import torch._dynamo

    config: Any = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
    before = getattr(config, name)
    if before < RECOMPILE_LIMIT:
        setattr(config, name, RECOMPILE_LIMIT)
        session.changes.on_undo(lambda: setattr(config, name, before))


def _recipe(config: DmpOptions, total: int | None) -> Recipe | None:
    if config.schedule != "progressive":
        return None
    if config.tail and total is None:
        raise RefusedError(
            "precision 'dmp' cannot know when the last steps begin.",
            mend="Say how long the training is: ds.attach(..., config={'total_steps': N}).",
        )
    warmup = config.warmup
    if warmup is None:
        warmup = total // 20 if total else 100
    return Recipe(warmup, 2 * warmup if config.ramp is None else config.ramp, config.tail, total)
