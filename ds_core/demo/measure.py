"""Figures of a model, each measured on the model as it is: attached, pruned, compiled or plain.

No function here changes what it measures: training flags, buffers and random state are put back.
"""

from __future__ import annotations

import statistics
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ds_core.errors import ConfigError, DsError
from ds_core.nested import tensors_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor
    from torch.nn import Module


class ParameterCount(NamedTuple):
    """How many numbers a model learns."""

    total: int
    nonzero: int


class Timing(NamedTuple):
    """Seconds that a call takes: the median, and the range that four calls of five lie in."""

    median: float
    p10: float
    p90: float


def parameters(model: Module) -> ParameterCount:
    """Count the model's parameters, shared ones once, and those among them that are not zero."""
    every = list(model.parameters())
    return ParameterCount(
        total=sum(parameter.numel() for parameter in every),
        nonzero=sum(int(parameter.detach().count_nonzero()) for parameter in every),
    )


def multiply_adds(model: Module, x: Tensor) -> int:
    """Multiply-adds of one sample's forward, in evaluation mode.

    Half of what `torch.utils.flop_counter.FlopCounterMode` counts: matrix products, convolutions
    and attention, as they are dispatched; elementwise work, normalisation and pooling are not
    counted. A weight of zero is multiplied like any other, so zeros alone save nothing here.

    Args:
        model: Called as `model(sample)`.
        x: A batch `[N, ...]`, of which the first sample is used.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    with _unchanged(model, x, training=False), torch.no_grad(), counter:
        model(x[:1])
    return counter.get_total_flops() // 2


def saved_bytes(model: Module, x: Tensor) -> int:
    """Bytes that one training forward keeps for its backward, over and above the model itself.

    Counts every storage that was made in the forward and is still there once only its graph is
    held: in full, once, and whoever keeps it, so that what is packed or cast for the backward
    counts as what it became. Parameters, buffers and the batch are in memory anyway and are left
    out.

    Args:
        model: Called as `model(x)`, in training mode, not compiled.
        x: A batch `[N, ...]`; the figure grows with it.
    """
    import torch

    made = _made_storages()
    with _unchanged(model, x, training=True), torch.enable_grad(), made:
        output = model(x)
        graph = [tensor.grad_fn for tensor in tensors_in(output)]
        del output
        found: int = made.alive(apart=[*model.parameters(), *model.buffers(), x])
        del graph
    return found


def _made_storages() -> Any:
    """A mode that takes note of every storage that is made while it is entered."""
    import torch
    from torch.multiprocessing.reductions import StorageWeakRef
    from torch.utils._python_dispatch import TorchDispatchMode

    class MadeStorages(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.seen: dict[int, StorageWeakRef] = {}

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            result = function(*args, **(kwargs or {}))
            for tensor in tensors_in(result):
                # While there is a weak reference, no other storage gets the same number.
                reference = StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]
                self.seen.setdefault(reference.cdata, reference)
            return result

        def alive(self, apart: Iterable[Tensor]) -> int:
            """Bytes of those that are still there, without the storages of `apart`."""
            others = {tensor.untyped_storage()._cdata for tensor in apart}
            weak = torch.UntypedStorage._new_with_weak_ptr
            found = [weak(number) for number in self.seen.keys() - others]
            return sum(storage.nbytes() for storage in found if storage is not None)

    return MadeStorages()


def accuracy(model: Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Fraction of samples whose highest score is that of their class, in evaluation mode.

    Args:
        model: Gives scores `[N, classes]` for a batch.
        batches: Pairs of a batch `[N, ...]` and its labels `[N]`, int64.

    Raises:
        DsError: There are no samples.
    """
    import torch

    right = total = 0
    with _mode(model, training=False), torch.no_grad():
        for x, y in batches:
            right += int((model(x).argmax(dim=1) == y).sum())
            total += len(y)
    if not total:
        raise DsError("Accuracy needs at least one sample, and there are none.")
    return right / total


def timed(call: Callable[[], Any], repeats: int = 30, *, warmup: int = 3) -> Timing:
    """Time one call; see [`interleaved`][ds_core.demo.measure.interleaved]."""
    return interleaved([call], repeats, warmup=warmup)[0]


def interleaved(
    calls: Sequence[Callable[[], Any]], repeats: int = 30, *, warmup: int = 3
) -> list[Timing]:
    """Time several calls in turns, so that whatever else the machine does hits all alike.

    Each round runs every call once, starting with another one each time. The accelerator, where
    there is one, is waited for before and after each call.

    Args:
        calls: What to time; results are thrown away.
        repeats: Rounds that are timed, at least 1.
        warmup: Rounds before them that are not.

    Returns:
        One `Timing` for each call, in their order.

    Raises:
        ConfigError: `repeats` is below 1.
    """
    if repeats < 1:
        raise ConfigError(f"Timing needs at least one repeat, not {repeats}.")
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(-warmup, repeats):
        for offset in range(len(calls)):
            index = (turn + offset) % len(calls)
            _wait()
            start = time.perf_counter()
            calls[index]()
            _wait()
            if turn >= 0:
                seconds[index].append(time.perf_counter() - start)
    return [_timing(sample) for sample in seconds]


def _timing(seconds: list[float]) -> Timing:
    if len(seconds) == 1:
        return Timing(seconds[0], seconds[0], seconds[0])
    tenths = statistics.quantiles(seconds, n=10, method="inclusive")
    return Timing(statistics.median(seconds), tenths[0], tenths[-1])


def _wait() -> None:
    import torch

    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


@contextmanager
def _mode(model: Module, *, training: bool) -> Iterator[None]:
    flags = [(module, module.training) for module in model.modules()]
    model.train(training)
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


@contextmanager
def _unchanged(model: Module, x: Tensor, *, training: bool) -> Iterator[None]:
    """A mode for one forward, after which buffers and random state are as they were."""
    import torch

    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    devices = [] if x.device.type == "cpu" else [x.device]
    with _mode(model, training=training), torch.random.fork_rng(devices):
        try:
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers:
                    buffer.copy_(value)
