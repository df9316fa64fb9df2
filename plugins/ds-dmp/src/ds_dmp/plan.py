"""Who computes in what: decisions, and what a schedule or a cost fixes beside them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ds_dmp import cost
from ds_dmp.decisions import Decisions, Flip
from ds_dmp.evidence import Evidence, Limits
from ds_dmp.ladder import FULL
from ds_dmp.layers import Layer, Region
from ds_dmp.options import DmpOptions
from ds_dmp.products import NAMES
from ds_dmp.recipe import Recipe
from ds_dmp.trial import ADVISED, ALL, NONE, Verdict
from ds_dmp.units import Unit, grouped

if TYPE_CHECKING:
    from ds_core.session import Session


class Plan:
    """The units of one model and their dtypes, put into effect on the layers.

    Args:
        config: The policy's options.
        ladder: Dtypes from the preferred to float32.
        region: What the layers share.
        recipe: The progressive schedule, if there is one.
    """

    def __init__(
        self, config: DmpOptions, ladder: Sequence[str], region: Region, recipe: Recipe | None
    ) -> None:
        self.config = config
        self.ladder = ladder
        self.region = region
        self.recipe = recipe
        self.units: list[Unit] = []
        self.decisions = self._decisions([])
        self.gates: dict[str, str] | None = None
        """Units that 16 bit makes slower, with the reason; None before costs were measured."""
        self.way = ADVISED
        """How the next step is taken, while ways are compared."""
        self.settled = False
        """Whether ways have been compared."""
        self.combinations: set[tuple[str, ...]] = set()
        """All that was in effect so far."""
        self.steps: dict[str, dict[str, int]] = {}
        """Steps that each unit spent in each dtype."""

    def _decisions(self, units: Sequence[str]) -> Decisions:
        config = self.config
        limits = Limits(
            config.error_limit, config.impact_limit, config.flush_limit, config.logit_limit
        )
        return Decisions(
            units, self.ladder, limits, config.sustain, config.patience, config.max_flips
        )

    @property
    def layers(self) -> list[Layer]:
        """All layers, by unit."""
        return [layer for unit in self.units for layer in unit.layers]

    def dtype_of(self, layer: str) -> str:
        """What a layer computes in, by its name."""
        for unit in self.units:
            if any(one.name == layer for one in unit.layers):
                return self.decisions.dtype(unit.name)
        return FULL

    def take(self, layers: Sequence[Layer], step: int) -> None:
        """Plan for these layers from now on; what was decided on those of the same name stays."""
        earlier = self.decisions.state_dict()
        self.units = grouped(layers, self.config.group)
        self.decisions = self._decisions([unit.name for unit in self.units])
        self.decisions.load_state_dict(earlier)
        self.gates, self.way, self.settled = None, ADVISED, False
        self.hold(step)
        self.apply()

    def count_step(self, times: int = 1) -> None:
        """Take note of steps in the dtypes as they are."""
        for unit in self.units:
            steps = self.steps.setdefault(unit.name, {})
            dtype = self.decisions.dtype(unit.name)
            steps[dtype] = steps.get(dtype, 0) + times

    def look(
        self,
        evidence: Mapping[str, Sequence[Evidence]],
        step: int,
        scale: float,
        conflicts: Sequence[str],
    ) -> list[Flip]:
        """Decide on what a look found; returns the changes, which are in effect."""
        held = set(self.gates or ())
        if self.recipe is not None:
            held |= set(self.recipe.held(step, self.dangers()))
        flips = self.decisions.look(evidence, step, scale, held, conflicts)
        if flips:
            self.apply()
        return flips

    def dangers(self) -> dict[str, float]:
        """How near each unit was to a limit in 16 bit at the last look."""
        return {unit.name: self.decisions.standings[unit.name].danger for unit in self.units}

    def hold(self, step: int) -> None:
        """Have the schedule put units into float32 and let them out."""
        if self.recipe is None:
            return
        held = set(self.recipe.held(step, self.dangers()))
        phase, before = self.recipe.phase(step), len(self.decisions.flips)
        for unit in self.units:
            standing = self.decisions.standings[unit.name]
            if unit.name in held and standing.dtype != FULL:
                self.decisions.put(unit.name, FULL, step, phase)
            elif unit.name not in held and standing.why in ("warm-up", "ramp", "tail"):
                # Those at risk are let go of, too: they return by the rules for all.
                if standing.danger <= 1 and unit.name not in (self.gates or ()):
                    self.decisions.put(unit.name, self.ladder[0], step, "entered by schedule")
                else:
                    standing.why = "at risk when it was to enter"
        if len(self.decisions.flips) != before:
            self.apply()

    def weigh_costs(self, session: Session, step: int) -> None:
        """Time each shape of layer, alike on all ranks, and fix what 16 bit makes slower."""
        import torch

        layers = self.layers
        measured = cost.measure(session.backend, layers, self.ladder[0])
        rows = [measured.get(layer.name, (0.0, 0.0, 0.0)) for layer in layers]
        table = torch.tensor(rows, dtype=torch.float32).to(session.device)
        session.all_reduce(table, "sum")
        slow = cost.gate(
            {
                layer.name: cost.Cost(*row)
                for layer, row in zip(layers, table.tolist(), strict=True)
                if layer.name in measured
            }
        )
        self.gates = {
            unit.name: slow[unit.layers[0].name]
            for unit in self.units
            if all(layer.name in slow for layer in unit.layers)
        }
        for name, why in self.gates.items():
            self.decisions.put(name, FULL, step, why)
        self.apply()

    def comparable(self, step: int) -> bool:
        """Whether it is open, and can be found out now, which way to take a step is fastest."""
        free = self.recipe is None or self.recipe.phase(step) == "open"
        return self.gates is not None and not self.settled and not self.region.closed and free

    def ways(self) -> list[str]:
        """Ways to take a step that are worth comparing, the one in effect first."""
        return [ADVISED, NONE, *([ALL] if self.gates else [])]

    def identity(self) -> list[Hashable]:
        """What the time of a step depends on, but for the machine."""
        return [
            (
                self.config.memory,
                self.ladder[0],
                layer.kind,
                *layer.shapes,
                self.dtype_of(layer.name),
            )
            for layer in self.layers
        ]

    def take_way(self, way: str) -> None:
        """Have the next step taken in another way."""
        if way != self.way:
            self.way = way
            self.apply()

    def settle(self, verdict: Verdict, step: int) -> None:
        """Go on in the way that was found to be the fastest."""
        self.settled, self.way = True, ADVISED
        if verdict.way == NONE:
            why = f"a whole step takes {1 / verdict.ratio:.2f}x as long with layers in 16 bit"
            self.gates = {unit.name: why for unit in self.units}
            for name in self.gates:
                self.decisions.put(name, FULL, step, why)
        elif verdict.way == ALL:
            for name in self.gates or ():
                why = f"a whole step takes {verdict.ratio:.2f}x as long with it in 16 bit"
                self.decisions.put(name, self.ladder[0], step, why)
            self.gates = {}
        self.apply()

    def apply(self) -> None:
        """Have the layers compute in what was decided."""
        import torch

        def low(dtype: str) -> torch.dtype:
            found: torch.dtype = getattr(torch, NAMES[dtype])
            return found

        first = self.ladder[0]
        freed = set(self.gates or ()) if self.way == ALL else set()
        dtypes = {
            layer.name: first if unit.name in freed else self.decisions.dtype(unit.name)
            for unit in self.units
            for layer in unit.layers
        }
        islands = [f"{name}." for name, dtype in dtypes.items() if dtype == FULL]
        for layer in self.layers:
            dtype = dtypes[layer.name]
            layer.island = dtype == FULL
            inside = any(layer.name.startswith(island) for island in islands)
            own = not layer.island and (inside or dtype != first)
            layer.dtype = low(dtype) if own else None
        all_gated = bool(self.gates) and len(self.gates or ()) == len(self.units)
        self.region.closed = self.way == NONE or (all_gated and self.way == ADVISED)
        self.combinations.add(tuple(dtypes.values()))

    def share(self) -> float:
        """Of all multiply-adds of all steps so far, those in 16 bit."""
        low = total = 0
        for unit in self.units:
            # Where no shape was seen, as under torch.compile, weights stand in.
            work = unit.multiply_adds or unit.weights
            for dtype, steps in self.steps.get(unit.name, {}).items():
                total += work * steps
                low += work * steps if dtype != FULL else 0
        return low / total if total else 0.0

    def rows(self, last: Mapping[str, Evidence]) -> list[dict[str, Any]]:
        """What there is to say of each unit.

        Args:
            last: The evidence of each layer's last look.
        """
        found = []
        for unit in self.units:
            standing = self.decisions.standings[unit.name]
            seen = [last[layer.name] for layer in unit.layers if layer.name in last]
            flips = [flip for flip in self.decisions.flips if flip.unit == unit.name]
            low = standing.dtype != FULL
            row: dict[str, Any] = {
                "layer": unit.name or "(the model)",
                "dtype": standing.dtype,
                "why": standing.why if standing.seen or not low else "never called",
                "flips": " ".join(f"{one.step}:{one.before}>{one.after}" for one in flips)
                or "none",
                "error": max((one.error(self.ladder[0]) for one in seen), default=0.0),
            }
            low_impact = (one.impact.get(self.ladder[0], 0.0) for one in seen)
            row["impact"] = max(low_impact, default=0.0)
            if "fp16" in self.ladder:
                row["flushed"] = max((one.flushed() for one in seen), default=0.0)
            row["bytes saved"] = sum(layer.saved for layer in unit.layers) if low else 0
            found.append(row)
        return found

    def state_dict(self) -> dict[str, Any]:
        """Decisions, costs and counts."""
        return {
            "decisions": self.decisions.state_dict(),
            "gates": self.gates,
            "settled": self.settled,
            "steps": {name: dict(steps) for name, steps in self.steps.items()},
            "work": {layer.name: layer.multiply_adds for layer in self.layers},
            "order": {layer.name: layer.order for layer in self.layers},
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.decisions.load_state_dict(state["decisions"])
        self.gates = None if state["gates"] is None else dict(state["gates"])
        self.settled, self.way = state["settled"], ADVISED
        self.steps = {name: dict(steps) for name, steps in state["steps"].items()}
        for layer in self.layers:
            layer.multiply_adds = state["work"].get(layer.name, 0)
            layer.order = state["order"].get(layer.name, 0)
        self.apply()
