"""How long a forward takes, as a function of what is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pydantic

from ds_core.components import disk_cache
from ds_core.components.layout import undisturbed
from ds_prune.structure import Kept, Structure
from ds_prune.tally import Tally
from ds_prune.timing.layers import Called, called_layers
from ds_prune.timing.timer import Run, Timer, interleaved

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch.nn import Module

    from ds_core.components import Backend

_SHARES = (1 / 8, 1 / 3, 2 / 3, 1)
"""Of a layer's width, at which it is measured."""

_FORMAT = "2"


@dataclass(frozen=True)
class _Table:
    """What a layer takes at some widths.

    Attributes:
        layer: Whose.
        inputs: `[n]` widths, ascending.
        outputs: `[m]` widths, ascending.
        seconds: `[n, m]`, ascending in both directions.
    """

    layer: Called
    inputs: NDArray[np.float64]
    outputs: NDArray[np.float64]
    seconds: NDArray[np.float64]

    def at(self, inputs: int, outputs: int) -> float:
        """Between the widths that were measured, linearly; below the least, as the least."""
        column = [np.interp(outputs, self.outputs, row) for row in self.seconds]
        return float(np.interp(inputs, self.inputs, column))


class Latency:
    """Seconds of one forward in evaluation mode, without gradients, with some atoms kept.

    Linear layers and convolutions, the modules of torch, count as what they took at their input's
    shape at a few widths, and in between linearly. Measured times that fell as a layer became wider
    are raised to that of the narrower one. Everything else, which is what the whole forward took
    beyond them, is assumed proportional to the numbers that these layers give out: true of
    activations and normalisations, not of attention's products nor of the overhead of launching
    kernels. Layers that run at the same time on several streams are counted one after another.

    Args:
        structure: Of the model.
        tables: Of its layers.
        whole: Seconds of the whole model's forward.
    """

    def __init__(self, structure: Structure, tables: Sequence[_Table], whole: float) -> None:
        self._tally = Tally(structure)
        self._layers: list[tuple[_Table, int, int, int, int, dict[tuple[int, int], float]]] = [
            (
                table,
                self._tally.number(table.layer.inputs),
                self._tally.number(table.layer.outputs),
                self._tally.number(table.layer.given),
                table.layer.positions,
                {},
            )
            for table in tables
        ]
        self._rest = 0.0
        layers, self._given = self._count({})
        self._rest = max(whole - layers, 0.0)

    def __call__(self, kept: Kept) -> float:
        """Seconds with these atoms kept."""
        layers, given = self._count(kept)
        return layers + self._rest * (given / self._given if self._given else 1.0)

    def _count(self, kept: Kept) -> tuple[float, int]:
        """Seconds of the layers and how many numbers they give out."""
        sizes = self._tally.sizes(kept).tolist()
        seconds, given = 0.0, 0
        for table, inputs, outputs, numbers, positions, known in self._layers:
            widths = sizes[inputs], sizes[outputs]
            if widths not in known:
                known[widths] = table.at(*widths)
            seconds += known[widths]
            given += positions * sizes[numbers]
        return seconds, given


def measure_latency(
    backend: Backend,
    model: Module,
    structure: Structure,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    round_to: int = 1,
    timer: Timer | None = None,
) -> Latency:
    """Measure a model's layers at several widths, on the device that it is on.

    Results are kept on disk for each device and shape. The model, its modes and random state are
    left as they are.

    Args:
        backend: Whose device the model is on.
        model: What `structure` is of.
        structure: Its layers that may shrink are measured.
        args: Of the forward that counts.
        kwargs: Of the same.
        round_to: Widths are measured at multiples of it, where the layer has as many.
        timer: Measures; without one, the backend's device is timed.
    """
    kwargs = kwargs or {}
    cache = _Cache(backend) if timer is None else None
    time = timer or interleaved(backend)
    with undisturbed(backend, model):
        layers = called_layers(model, structure, args, kwargs)
        tables = [_measure(layer, round_to, time, cache) for layer in layers]
        (whole,) = time([Run(model, args, kwargs)])
    if cache is not None:
        cache.store()
    return Latency(structure, tables, whole)


def _measure(layer: Called, round_to: int, time: Timer, cache: _Cache | None) -> _Table:
    inputs, outputs = (
        sorted({_near(share * extent.size({}), round_to, extent.size({})) for share in _SHARES})
        if extent.parts
        else [extent.size({})]
        for extent in (layer.inputs, layer.outputs)
    )
    pairs = [(i, o) for i in inputs for o in outputs]
    total = np.zeros(len(pairs))
    for call in range(len(layer.shapes)):

        def fresh(missing: Sequence[tuple[int, int]], call: int = call) -> list[float]:
            return time([layer.at(i, o, call) for i, o in missing])

        keys = [layer.key(i, o, call) for i, o in pairs]
        total += fresh(pairs) if cache is None else cache.get(keys, pairs, fresh)
    seconds = total.reshape(len(inputs), len(outputs))
    seconds = np.maximum.accumulate(np.maximum.accumulate(seconds, 0), 1)
    return _Table(layer, np.array(inputs, np.float64), np.array(outputs, np.float64), seconds)


def _near(width: float, round_to: int, whole: int) -> int:
    if width >= whole or whole <= round_to:
        return whole
    return min(max(round(width / round_to), 1) * round_to, whole)


class _Entry(pydantic.BaseModel):
    seconds: dict[str, float]


class _Cache:
    """Seconds on disk by layer and shape, in one file for each device."""

    def __init__(self, backend: Backend) -> None:
        import torch

        info = backend.info()
        identity = [info.name, info.arch, torch.__version__, torch.get_num_threads(), _FORMAT]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
        self._file = f"prune-latency-{digest}.json"
        self._known = self._load()
        self._fresh: dict[str, float] = {}

    def get(
        self,
        keys: Sequence[str],
        pairs: Sequence[tuple[int, int]],
        measure: Callable[[Sequence[tuple[int, int]]], list[float]],
    ) -> list[float]:
        """What is known for these keys; all are measured in turns unless all are known."""
        if not all(key in self._known for key in keys):
            seconds = dict(zip(keys, measure(pairs), strict=True))
            self._known.update(seconds)
            self._fresh.update(seconds)
        return [self._known[key] for key in keys]

    def store(self) -> None:
        if self._fresh:
            every = {**self._load(), **self._fresh}
            disk_cache.store(self._file, _Entry(seconds=every).model_dump_json())

    def _load(self) -> dict[str, float]:
        text = disk_cache.load(self._file)
        try:
            return _Entry.model_validate_json(text).seconds if text else {}
        except ValueError:
            return {}
