"""The precision policy: sets layers up, looks at them now and then, and acts on what it saw."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ds_core.components import PrecisionPolicy
from ds_core.errors import RefusedError
from ds_core.hookspecs import hookimpl
from ds_core.nested import map_tensors
from ds_core.notices import warn
from ds_core.scaling import LossScale

from ds_dmp.decisions import Decisions, Flip
from ds_dmp.evidence import Evidence, Limits
from ds_dmp.options import DmpOptions
from ds_dmp.recipe import Recipe
from ds_dmp.scale import Interval, fit, nearest

if TYPE_CHECKING:
    import torch
    from ds_core.components import Backend
    from ds_core.hookspecs import Around
    from ds_core.session import Session
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_dmp.layers import Layer, Region
    from ds_dmp.lean.memory import LeanMemory
    from ds_dmp.looks import Looks
    from ds_dmp.trace import TraceWriter
    from ds_dmp.units import Unit

FULL = "fp32"
COMPILED = 16
"""Combinations of dtypes that torch.compile is asked for: each costs seconds to minutes."""

RECOMPILE_LIMIT = 4 * COMPILED
"""What torch may keep of one forward: each combination plain, watched and without gradients."""


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
        self._told: set[str] = set()
        self._units: list[Unit] = []
        self._decisions = Decisions((), (FULL,), self._limits)
        self._looks: Looks | None = None
        self._region: Region | None = None
        self._recipe: Recipe | None = None
        self._scale: LossScale | None = None
        self._good_scale = 1.0
        self._carried = 1.0
        self._lean: LeanMemory | None = None
        self._trace: TraceWriter | None = None
        self._step = 0
        self._next_look = 1
        self._gates: dict[str, str] | None = None
        self._costs: dict[str, tuple[float, float]] = {}
        self._spent: dict[str, dict[str, int]] = {}
        self._last: dict[str, Evidence] = {}
        self._compiled = False
        self._combinations: set[tuple[str, ...]] = set()

    @property
    def _limits(self) -> Limits:
        config = self.config
        return Limits(config.error_limit, config.flush_limit, config.logit_limit)

    @property
    def requires(self) -> frozenset[str]:
        if self.config.dtypes == "auto":
            return frozenset()
        return frozenset(f"dtype:{dtype}" for dtype in self.config.dtypes)

    # Setting up

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Choose the dtypes, and refuse models that autocast cannot handle."""
        self._ladder, self._reason = _ladder(self.config, session.backend)
        _check_parameters(session.model)
        if self.config.schedule == "progressive":
            self._recipe = _recipe(self.config, session.total_steps)

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Take hold of the layers' forwards and of what is saved for the backward."""
        from ds_dmp.layers import Region

        self._agree(session)
        self._notes = []
        self._region = Region(session.backend.autocast)
        self._take(session, model)
        if self.config.memory != "standard":
            from ds_dmp.lean.memory import LeanMemory

            self._lean = LeanMemory(
                model,
                session.changes,
                plus=self.config.memory == "lean+",
                budget=self.config.budget(),
                seed=self.config.seed,
            )

    @hookimpl
    def ds_loss_scale(self, session: Session) -> LossScale | None:
        """A loss scale, where a layer may compute in float16."""
        if "fp16" in self._ladder and self._units:
            config = self.config
            self._scale = LossScale(
                config.init_scale, min_scale=config.min_scale, max_scale=config.max_scale
            )
            self._good_scale = self._scale.value
        return self._scale

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """A region of the preferred dtype, and around it what saves memory."""
        from ds_dmp.looks import Looks

        layers = self._layers
        if layers:
            self._looks = Looks(layers, session.device)
            self._put_dtypes()
            self._set_watching(session)
            self._open_trace(session)
        region = self._around() if len(self._ladder) > 1 else None
        lean = self._lean.around() if self._lean is not None else None
        if region is None or lean is None:
            return region or lean
        return _nested(lean, region)

    def _take(self, session: Session, model: Module) -> None:
        """Find the layers of a model, and surround those that are new."""
        from ds_dmp.layers import Layer, find, surround
        from ds_dmp.units import grouped

        if len(self._ladder) == 1:
            return
        assert self._region is not None
        known = {id(layer.module): layer for layer in self._layers}
        layers = []
        for name, module, kind in find(model, self._skip):
            layer = known.get(id(module))
            if layer is None:
                layer = Layer(name, module, kind, self._region)
                surround(layer, self._ladder[:-1], session.changes)
            layer.name = name
            layers.append(layer)
        if not layers:
            self._reason = "the model has no layer that multiplies matrices"
        self._units = grouped(layers, self.config.group)
        earlier = self._decisions.state_dict()
        self._decisions = Decisions(
            [unit.name for unit in self._units],
            self._ladder,
            self._limits,
            self.config.sustain,
            self.config.patience,
            self.config.max_flips,
        )
        self._decisions.load_state_dict(earlier)
        self._hold(0)

    def _skip(self, name: str, why: str) -> None:
        self._notes.append(f"{name or 'the model'} is left to autocast: {why}")

    @property
    def _layers(self) -> list[Layer]:
        return [layer for unit in self._units for layer in unit.layers]

    def _agree(self, session: Session) -> None:
        """Ranks on different hardware settle for float32 alone."""
        import torch

        codes = {"": 0, "bf16": 1, "fp16": 2, "bf16 fp16": 3, "fp16 bf16": 4}
        code = codes[" ".join(self._ladder[:-1])]
        wish = torch.tensor([code, -code], device=session.device)
        high, low = session.all_reduce(wish, "max").tolist()
        if high != -low:
            self._ladder, self._reason = [FULL], "ranks differ in which 16-bit dtypes are fast"

    def _around(self) -> Around:
        import torch

        from ds_dmp.products import NAMES

        region, dtype = self._region, getattr(torch, NAMES[self._ladder[0]])
        assert region is not None
        region.dtype = dtype
        device_type = torch.device(self._looks.device if self._looks else "cpu").type

        def narrow(tensor: Tensor) -> Tensor:
            return tensor.float() if tensor.dtype in (torch.bfloat16, torch.float16) else tensor

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if torch.compiler.is_compiling():
                region.compiled = True
            if region.closed:
                return call(*args, **kwargs)
            if torch.is_autocast_enabled(device_type):
                self._abstain()
                return call(*args, **kwargs)
            region.on = True
            try:
                with region.autocast(dtype):
                    output = call(*args, **kwargs)
            finally:
                region.on = False
            return map_tensors(narrow, output)

        return around

    def _abstain(self) -> None:
        import torch

        if not torch.compiler.is_compiling():
            self._tell(
                "The model was called within an autocast region of the training loop's own, which "
                "precision 'dmp' leaves to decide. Remove that region to have dmp work."
            )

    # Step by step

    @hookimpl
    def ds_before_step(self, session: Session, optimizer: Optimizer) -> None:
        """Look at the weights' gradients too, where the step is watched."""
        if self._lean is not None:
            self._lean.before_step(optimizer)
        first = optimizer is session.optimizers[0]
        if first and self._looks is not None and self._region is not None and self._region.watching:
            self._looks.note_weights()

    @hookimpl
    def ds_after_step(self, session: Session, optimizer: Optimizer, skipped: str | None) -> None:
        """Count, read the last look, decide, and say whether the next step is looked at."""
        if self._lean is not None:
            self._lean.after_step(optimizer)
        if self._looks is None or optimizer is not session.optimizers[0]:
            return
        region, looks = self._region, self._looks
        assert region is not None
        self._step += 1
        self._account()
        if region.compiled and not self._compiled:
            self._compiled = True
            self._allow_recompiling(session)
        if looks.pending:
            self._decide(session)
        if region.watching:
            # The scale has been updated already; gradients carried the one before.
            looks.send(session.all_reduce, self._carried)
            if skipped:
                self._decide(session)  # the host has waited for this step anyway
        if not skipped and self._scale is not None:
            self._good_scale = self._scale.value
        if self._hold(self._step):
            self._put_dtypes()
        self._set_watching(session, urgent=skipped is not None)

    def _set_watching(self, session: Session, urgent: bool = False) -> None:
        region, looks = self._region, self._looks
        if region is None or looks is None:
            return
        due = self._step + 1 >= self._next_look or urgent
        region.watching = (
            due and not region.closed and not self._frozen and bool(session.optimizers)
        )
        self._carried = self._scale.value if self._scale is not None else 1.0
        if region.watching:
            if self._step + 1 >= self._next_look:
                every = self.config.every
                step = self._step + 1
                self._next_look = step * 2 if step * 2 <= every else (step // every + 1) * every
            region.order = 0
            for layer in looks.layers:
                layer.begin()

    @property
    def _frozen(self) -> bool:
        return self._compiled and len(self._combinations) >= COMPILED

    def _allow_recompiling(self, session: Session) -> None:
        """Have torch keep as many graphs as there may be combinations, until the session ends."""
        import torch._dynamo

        config: Any = torch._dynamo.config
        name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"
        before = getattr(config, name)
        if before < RECOMPILE_LIMIT:
            setattr(config, name, RECOMPILE_LIMIT)
            session.changes.on_undo(lambda: setattr(config, name, before))

    def _decide(self, session: Session) -> None:
        """Read a look and act on it."""
        assert self._looks is not None
        found = self._looks.receive(self._ladder[:-1])
        self._last.update({name: one for name, one in found.items() if one.calls})
        by_unit = {unit.name: [found[layer.name] for layer in unit.layers] for unit in self._units}
        if self._gates is None and self.config.cost_gate and not self._compiled:
            self._measure_costs(session)
        mended = self._mend_scale(found, by_unit)
        held = self._held()
        flips = self._decisions.look(
            by_unit,
            self._step,
            self._scale.value if self._scale is not None else 1.0,
            held,
            mended,
        )
        if flips:
            self._put_dtypes()
        if self._lean is not None and found:
            self._lean.choose({name: one.mean_square for name, one in found.items() if one.calls})
        self._warn_of_spoiled(session, found)
        self._record(flips)

    def _mend_scale(
        self, found: Mapping[str, Evidence], by_unit: Mapping[str, list[Evidence]]
    ) -> list[str]:
        """Move the loss scale to where gradients want it; returns units that it cannot serve."""
        scale = self._scale
        if scale is None:
            return []
        if any(one.broken == "forward" for one in found.values()) or self._spoiled_input(found):
            scale.set(self._good_scale)  # no scale mends what breaks in the forward
            return []
        intervals = {}
        for unit in self._units:
            seen = [one for one in by_unit[unit.name] if one.calls]
            if seen and self._decisions.dtype(unit.name) == "fp16":
                intervals[unit.name] = Interval(
                    max(one.needed_scale(self.config.flush_limit / 2) for one in seen),
                    min(one.tolerated_scale() for one in seen),
                    unit.multiply_adds,
                )
        low, high, out = fit(intervals, scale.min_scale)
        target = nearest(scale.value, low, high)
        if target != scale.value:
            scale.set(target)
        return out

    def _spoiled_input(self, found: Mapping[str, Evidence]) -> bool:
        first = self._first_called()
        return first is not None and first.name in found and found[first.name].spoiled_input

    def _first_called(self) -> Layer | None:
        called = [layer for layer in self._layers if layer.order]
        return min(called, key=lambda layer: layer.order, default=None)

    def _warn_of_spoiled(self, session: Session, found: Mapping[str, Evidence]) -> None:
        model = type(session.model).__name__
        broken = [name for name, one in found.items() if one.broken == "forward"]
        in_full = [name for name in broken if self._layer_dtype(name) == FULL]
        if self._spoiled_input(found):
            self._tell(
                f"inf or nan came into {model} by its input, seen at step {self._step}. Look at "
                "the data: what is computed from it is not finite either, in any precision."
            )
        elif in_full:
            self._tell(
                f"{in_full[0]!r} made inf or nan of finite numbers at step {self._step}, in "
                "float32: training diverges. Look at the learning rate."
            )
        elif not broken and any(one.spoiled_output for one in found.values()):
            if self._scale is None or self._scale.value <= self._scale.min_scale:
                self._tell(
                    f"Gradients that are not finite came back into {model} at step {self._step}: "
                    "the loss, or what stands between it and the model, is inf or nan."
                )

    def _layer_dtype(self, name: str) -> str:
        for unit in self._units:
            if any(layer.name == name for layer in unit.layers):
                return self._decisions.dtype(unit.name)
        return FULL

    def _tell(self, what: str) -> None:
        if what.partition(" at step")[0] not in self._told:
            self._told.add(what.partition(" at step")[0])
            self._notes.append(what)
            warn(what)

    # What is fixed from outside

    def _measure_costs(self, session: Session) -> None:
        """Time each shape once, alike on all ranks, and fix what 16 bit makes slower."""
        import torch

        from ds_dmp import cost

        layers = self._layers
        measured = cost.measure(session.backend, layers, self._ladder[0])
        names = [layer.name for layer in layers]
        table = torch.tensor(
            [measured.get(name, (0.0, 0.0, 0.0)) for name in names], dtype=torch.float64
        ).to(session.device, torch.float32)
        session.all_reduce(table, "sum")
        costs = {
            name: cost.Cost(*row)
            for name, row in zip(names, table.tolist(), strict=True)
            if name in measured
        }
        self._costs = {name: (one.low, one.full) for name, one in costs.items()}
        slow = cost.gate(costs)
        self._gates = {
            unit.name: slow[unit.layers[0].name]
            for unit in self._units
            if all(layer.name in slow for layer in unit.layers)
        }
        for unit, why in self._gates.items():
            self._decisions.put(unit, FULL, self._step, why)
        self._put_dtypes()

    def _held(self) -> set[str]:
        """Units that a schedule or a cost keeps in float32."""
        held = set(self._gates or ())
        if self._recipe is not None:
            held |= set(self._recipe.held(self._step, self._dangers()))
        return held

    def _dangers(self) -> dict[str, float]:
        standings = self._decisions.standings
        return {unit.name: standings[unit.name].danger for unit in self._units}

    def _hold(self, step: int) -> bool:
        """Have the schedule put units into float32 and let them out; True where one changed."""
        if self._recipe is None:
            return False
        held = set(self._recipe.held(step, self._dangers()))
        phase, before = self._recipe.phase(step), len(self._decisions.flips)
        for unit in self._units:
            standing = self._decisions.standings[unit.name]
            if unit.name in held and standing.dtype != FULL:
                self._decisions.put(unit.name, FULL, step, phase)
            elif unit.name not in held and standing.why in ("warm-up", "ramp", "tail"):
                # Those at risk are let go of, too: they return by the rules for all.
                if standing.danger <= 1 and unit.name not in (self._gates or ()):
                    self._decisions.put(unit.name, self._ladder[0], step, "entered by schedule")
                else:
                    standing.why = "at risk when it was to enter"
        return len(self._decisions.flips) != before

    def _put_dtypes(self) -> None:
        """Have the layers compute in what was decided."""
        import torch

        from ds_dmp.products import NAMES

        region = self._region
        if region is None:
            return
        islands = set()
        for unit in self._units:
            dtype = self._decisions.dtype(unit.name)
            for layer in unit.layers:
                layer.island = dtype == FULL
                inherits = dtype in (FULL, self._ladder[0])
                layer.dtype = None if inherits else getattr(torch, NAMES[dtype])
                if layer.island:
                    islands.add(layer.name)
        for layer in self._layers:
            inside = any(layer.name.startswith(f"{name}.") for name in islands)
            if inside and not layer.island and layer.dtype is None:
                layer.dtype = getattr(torch, NAMES[self._ladder[0]])
        self._combinations.add(tuple(self._decisions.dtype(unit.name) for unit in self._units))
        gated = self._gates is not None and len(self._gates) == len(self._units)
        region.closed = gated and bool(self._units)

    # Structure, end and state

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Take hold of new layers; decisions stay with the names."""
        if self._region is None or self._looks is None:
            return
        from ds_dmp.looks import Looks

        self._take(session, model)
        self._looks = Looks(self._layers, session.device)
        self._gates = None
        self._put_dtypes()

    @hookimpl
    def ds_session_end(self, session: Session) -> None:
        """Close the trace."""
        if self._trace is not None:
            self._trace.close()

    def state_dict(self) -> dict[str, Any]:
        return {
            "ladder": list(self._ladder),
            "step": self._step,
            "next_look": self._next_look,
            "watching": self._region.watching if self._region is not None else False,
            "good_scale": self._good_scale,
            "decisions": self._decisions.state_dict(),
            "gates": self._gates,
            "costs": {name: list(cost) for name, cost in self._costs.items()},
            "spent": {name: dict(steps) for name, steps in self._spent.items()},
            "work": {layer.name: layer.multiply_adds for layer in self._layers},
            "order": {layer.name: layer.order for layer in self._layers},
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
        self._decisions.load_state_dict(state["decisions"])
        self._gates = None if state["gates"] is None else dict(state["gates"])
        self._costs = {name: (low, full) for name, (low, full) in state["costs"].items()}
        self._spent = {name: dict(steps) for name, steps in state["spent"].items()}
        for layer in self._layers:
            layer.multiply_adds = state["work"].get(layer.name, 0)
            layer.order = state["order"].get(layer.name, 0)
        if self._looks is not None and state["looks"] is not None:
            self._looks.load_state_dict(state["looks"])
        if self._lean is not None and state["lean"] is not None:
            self._lean.load_state_dict(state["lean"])
        self._put_dtypes()
        if self._region is not None:
            self._region.watching = state["watching"]
        self._carried = self._scale.value if self._scale is not None else 1.0

    # Saying

    def _account(self) -> None:
        for unit in self._units:
            steps = self._spent.setdefault(unit.name, {})
            dtype = self._decisions.dtype(unit.name)
            steps[dtype] = steps.get(dtype, 0) + 1

    def _open_trace(self, session: Session) -> None:
        from ds_dmp.trace import TraceWriter

        if self.config.trace is None:
            return
        if self._trace is not None:
            self._trace.close()
        header = {
            "model": type(session.model).__name__,
            "ladder": self._ladder,
            "units": [{"name": unit.name, "kind": unit.kind} for unit in self._units],
        }
        self._trace = TraceWriter(self.config.trace, header)

    def _record(self, flips: list[Flip]) -> None:
        if self._trace is None:
            return
        self._trace.write(
            {
                "step": self._step,
                "scale": self._scale.value if self._scale is not None else None,
                "dtypes": {unit.name: self._decisions.dtype(unit.name) for unit in self._units},
                "dangers": {name: min(danger, 1e6) for name, danger in self._dangers().items()},
                "work": {unit.name: unit.multiply_adds for unit in self._units},
                "flips": [asdict(flip) for flip in flips],
            }
        )

    def explain(self, backend: Backend) -> list[str]:
        try:
            ladder, reason = _ladder(self.config, backend)
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
        return {
            "dtypes": list(self._ladder),
            "why": self._reason,
            "16-bit share of multiply-adds": self._share(),
            "flips": len(self._decisions.flips),
            **({"notes": list(self._notes)} if self._notes else {}),
            **({"memory": self._lean.report()} if self._lean is not None else {}),
            "layers": [self._row(unit) for unit in self._units],
        }

    def _share(self) -> float:
        """Of all multiply-adds of all steps so far, those in 16 bit."""
        low = total = 0
        for unit in self._units:
            work = _work(unit)
            for dtype, steps in self._spent.get(unit.name, {}).items():
                total += work * steps
                low += work * steps if dtype != FULL else 0
        return low / total if total else 0.0

    def _row(self, unit: Unit) -> dict[str, Any]:
        standing = self._decisions.standings[unit.name]
        found = [self._last[layer.name] for layer in unit.layers if layer.name in self._last]
        low = self._ladder[0]
        flips = [flip for flip in self._decisions.flips if flip.unit == unit.name]
        return {
            "layer": unit.name or "(the model)",
            "dtype": standing.dtype,
            "why": standing.why if standing.seen or standing.dtype == FULL else "never called",
            "flips": " ".join(f"{flip.step}:{flip.before}>{flip.after}" for flip in flips)
            or "none",
            "error": max((one.errors.get(low, 0.0) for one in found), default=0.0),
            "flushed in fp16": max(
                (max(one.outgoing.flushed(), one.incoming.flushed()) for one in found),
                default=0.0,
            ),
            "bytes saved": sum(layer.saved for layer in unit.layers)
            if standing.dtype != FULL
            else 0,
        }


def _work(unit: Unit) -> int:
    """Multiply-adds of a step; where no shape was seen, as under torch.compile, weights count."""
    return unit.multiply_adds or sum(
        p.numel() for layer in unit.layers for p in layer.module.parameters() if p.dim() > 1
    )


def _nested(outer: Around, inner: Around) -> Around:
    def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        def inside(*args: Any, **kwargs: Any) -> Any:
            return inner(call, args, kwargs)

        return outer(inside, args, kwargs)

    return around


def _ladder(config: DmpOptions, backend: Backend) -> tuple[list[str], str]:
    """Dtypes from the preferred to float32, and why.

    Raises:
        RefusedError: One that was asked for is slow here.
    """
    info = backend.info()
    if config.dtypes != "auto":
        for dtype in config.dtypes:
            support = info.dtypes.get(dtype)
            if support is None or not support.works:
                continue  # the session has refused it
            if not support.fast:
                raise RefusedError(
                    f"precision 'dmp' was asked for {dtype}, which is slow on {info.name}: "
                    f"{support.reason}",
                    mend="Leave out dtypes, or use precision "
                    f"{dtype!r}, which computes in it all the same.",
                )
        return [*dict.fromkeys(config.dtypes), FULL], "as asked for"
    # One dtype, the better: float16 beside bfloat16 would bring the loss scale's restrictions.
    fast = [info.best] if info.best != FULL else []
    if not fast:
        reasons = " ".join(
            f"{d}: {info.dtypes[d].reason}" for d in ("bf16", "fp16") if d in info.dtypes
        )
        return [FULL], f"no 16-bit dtype is fast on {info.name}. {reasons}"
    return [*fast, FULL], info.dtypes[fast[0]].reason


def _check_parameters(model: Module) -> None:
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float64 or parameter.is_complex():
            raise RefusedError(
                f"precision 'dmp': parameter {name!r} is {parameter.dtype}, which autocast leaves "
                "alone, so layers would meet mixed dtypes.",
                mend="Convert the model with model.float(), or use precision 'fp32'.",
            )
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise RefusedError(
                f"precision 'dmp': parameter {name!r} is {parameter.dtype} already, and small "
                "updates to it would be lost in rounding.",
                mend="Keep parameters in float32 (model.float()); computing is in 16 bit anyway.",
            )


def _recipe(config: DmpOptions, total: int | None) -> Recipe:
    if config.tail and total is None:
        raise RefusedError(
            "precision 'dmp' cannot know when the last steps begin.",
            mend="Say how long the training is: ds.attach(..., config={'total_steps': N}).",
        )
    warmup = config.warmup
    if warmup is None:
        warmup = total // 20 if total else 100
    ramp = 2 * warmup if config.ramp is None else config.ramp
    return Recipe(warmup, ramp, config.tail, total)
