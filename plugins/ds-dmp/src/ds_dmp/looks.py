"""Looks at all layers: a table on the device, copied to the host while training goes on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING, Any

from ds_dmp import watch
from ds_dmp.evidence import Evidence
from ds_dmp.layers import Layer, Region

if TYPE_CHECKING:
    import torch
    from torch import Tensor

NEIGHBOURS = 8
"""Layers, called before and after one, that its impact is compared with."""


class Looks:
    """The statistics of all layers, from the device to evidence on the host.

    A look is over when its step is: the table is reduced over ranks and begins to travel. It is
    read after the next step, when it has long arrived, so that nobody waits for it.
    """

    def __init__(self, layers: Sequence[Layer], region: Region, device: torch.device) -> None:
        import torch

        self.layers = layers
        self.device = device
        self._tables: dict[torch.device, Tensor] = {}
        homes: dict[torch.device, list[Layer]] = {}
        for layer in layers:
            weight = next(layer.module.parameters(), None)
            home = weight.device if weight is not None else device
            homes.setdefault(home, []).append(layer)
        for home, inside in homes.items():
            table = torch.zeros(len(inside), watch.WIDTH, device=home)
            self._tables[home] = table
            for index, layer in enumerate(inside):
                layer.row = table[index]
        # The last row is the model's output's.
        self._output = torch.zeros(1, watch.WIDTH, device=device)
        region.row = self._output[0]
        self._order = [layer for inside in homes.values() for layer in inside]
        self._pending: Tensor | None = None
        self._scale = 1.0
        self._arrived: Any = None

    @property
    def pending(self) -> bool:
        """Whether a look is under way to the host."""
        return self._pending is not None

    def note_weights(self) -> None:
        """Take note of weights whose gradients are not finite."""
        import torch

        for layer in self.layers:
            if layer.row is None:
                continue
            found = [
                watch.peak(p.grad)[1]
                for p in layer.module.parameters()
                if p.grad is not None and p.grad.layout is torch.strided
            ]
            if found:
                watch.add(layer.row, "weight_bad", torch.stack(found).amax())

    def send(self, reduce: Callable[[Tensor, str], Any], scale: float) -> None:
        """End the look of this step and begin to copy it.

        Args:
            reduce: Called with a tensor and an operation; reduces it over ranks, in place.
            scale: The loss scale that gradients carried.
        """
        import torch

        table = torch.cat([one.to(self.device) for one in self._all()])
        for one in self._all():
            one.zero_()
        sums, peaks = table[:, : len(watch.SUMS)].contiguous(), table[:, len(watch.SUMS) :]
        peaks = peaks.contiguous()
        reduce(sums, "sum")
        reduce(peaks, "max")
        table = torch.cat([sums, peaks], 1)
        self._scale = scale
        self._arrived = None
        if self.device.type == "cpu":
            self._pending = table
            return
        try:
            self._pending = torch.empty(table.shape, pin_memory=True).copy_(
                table, non_blocking=True
            )
            self._arrived = torch.Event(self.device.type)
            self._arrived.record()
        except (RuntimeError, NotImplementedError):  # a device without pinned memory or events
            self._pending, self._arrived = table.cpu(), None

    def receive(self, dtypes: Sequence[str]) -> dict[str, Evidence]:
        """What the last look found, by layer."""
        if self._pending is None:
            return {}
        if self._arrived is not None:
            self._arrived.synchronize()
        rows, self._pending = self._pending.tolist(), None
        found = {
            layer.name: watch.evidence(row, dtypes, self._scale, rows[-1])
            for layer, row in zip(self._order, rows[:-1], strict=True)
        }
        called = sorted(self._order, key=lambda layer: layer.order)
        named = [layer.name for layer in called if found[layer.name].impact]
        for name, usual in _usual([found[name].impact for name in named], named).items():
            found[name] = replace(found[name], usual_impact=usual)
        return found

    def _all(self) -> list[Tensor]:
        return [*self._tables.values(), self._output]

    def forget(self) -> None:
        """Drop a look that is under way, and what was gathered since."""
        self._pending = None
        for table in self._all():
            table.zero_()

    def state_dict(self) -> dict[str, Any]:
        """A look under way, by layer."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return {
            "scale": self._scale,
            "names": [layer.name for layer in self._order],
            "pending": None if self._pending is None else self._pending.clone(),
            "gathered": [table.detach().cpu().clone() for table in self._all()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; a look at other layers is dropped."""
        self.forget()
        self._scale = state["scale"]
        if state["names"] != [layer.name for layer in self._order]:
            return
        self._arrived = None
        self._pending = None if state["pending"] is None else state["pending"].clone()
        for table, gathered in zip(self._all(), state["gathered"], strict=True):
            table.copy_(gathered)


def _usual(
    impacts: Sequence[Mapping[str, float]], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """For each layer, by dtype, the median impact of those called just before and after it.

    Towards its input a deep net amplifies errors more and more: no layer is far from its
    neighbours, though the first may be far from the last.
    """
    found = {}
    for index, name in enumerate(names):
        first = min(max(index - NEIGHBOURS // 2, 0), max(len(names) - NEIGHBOURS - 1, 0))
        near = [i for i in range(first, min(first + NEIGHBOURS + 1, len(names))) if i != index]
        found[name] = {
            dtype: median(impacts[i].get(dtype, 0.0) for i in near) if near else 0.0
            for dtype in impacts[index]
        }
    return found
