"""What torch.profiler recorded, as columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ds_inspector.capture.operands import Operands
from ds_inspector.recording.table import Array, Texts

_IGNORED = ("[memory]", "[OutOfMemory]")
_KERNELS = ("kernel", "concurrent_kernel", "gpu_memcpy", "gpu_memset")


@dataclass
class Raw:
    """Events of one profile, ordered by lane and start, parents before children; all columns alike.

    Attributes:
        start: Nanoseconds on the profiler's clock.
        duration: Nanoseconds.
        name: As torch says it.
        activity: As `cpu_op`, `kernel`, `user_annotation`.
        lane: Thread or stream.
        thread: Of the host.
        sequence: Number of the autograd node that a forward operator made or a backward one is.
        forward_thread: Where a backward operator's forward ran; 0 for others.
        correlation: Of an operator.
        linked: Correlation of the operator that launched a kernel; 0 for others.
    """

    start: Array
    duration: Array
    name: Texts
    activity: Texts
    lane: Texts
    thread: Array
    sequence: Array
    forward_thread: Array
    correlation: Array
    linked: Array
    shapes: Texts
    dtype: Texts
    flops: Array
    bytes: Array


def columns(events: Iterable[Any]) -> Raw:
    """Read kineto's events, each once."""
    kept = [event for event in events if event.name() not in _IGNORED]
    numbers = _numbers(kept)
    start = numbers(lambda event: event.start_ns())
    duration = numbers(lambda event: event.duration_ns())
    lane = Texts.of([_lane(event) for event in kept])
    order = np.lexsort((-duration, start, lane.codes))
    kept = [kept[row] for row in order.tolist()]
    numbers = _numbers(kept)
    operands = Operands()
    known = [operands.of(event) for event in kept]
    return Raw(
        start=start[order],
        duration=duration[order],
        name=Texts.of([event.name() for event in kept]),
        activity=Texts.of([event.activity_type() for event in kept]),
        lane=lane.take(order),
        thread=numbers(lambda event: event.start_thread_id()),
        sequence=numbers(lambda event: event.sequence_nr()),
        forward_thread=numbers(lambda event: event.fwd_thread_id()),
        correlation=numbers(lambda event: event.correlation_id()),
        linked=numbers(lambda event: event.linked_correlation_id()),
        shapes=Texts.of([one.shapes for one in known]),
        dtype=Texts.of([one.dtype for one in known]),
        flops=np.array([event.flops() or np.nan for event in kept], float),
        bytes=np.array([one.bytes for one in known], float),
    )


def _numbers(events: list[Any]) -> Callable[[Callable[[Any], int]], Array]:
    return lambda read: np.fromiter((read(event) for event in events), np.int64, len(events))


def _lane(event: Any) -> str:
    device = event.device_type().name.lower()
    if device == "cpu" or event.activity_type() not in _KERNELS:
        return f"cpu {event.start_thread_id()}"
    return f"{device}:{event.device_index()} stream {event.device_resource_id()}"


def kinds(activity: Texts, name: Texts) -> Texts:
    """What `recording.schema` calls each kind of activity."""
    found = {
        "cpu_op": "operator",
        "user_annotation": "annotation",
        "gpu_user_annotation": "annotation",
        "cuda_runtime": "runtime",
        "cuda_driver": "runtime",
        "privateuse1_runtime": "runtime",
        **dict.fromkeys(_KERNELS, "kernel"),
    }
    by_activity = [found.get(value, "other") for value in activity.values]
    frames = np.array([value.startswith(_FRAMES) for value in name.values], bool)
    codes = np.array([_KINDS.index(kind) for kind in by_activity], "<u4")[activity.codes]
    codes[frames[name.codes] & (codes == 0)] = _KINDS.index("annotation")
    return Texts(codes, _KINDS)


_KINDS = ["operator", "module", "kernel", "annotation", "runtime", "other"]
_FRAMES = ("autograd::engine::", "ds_inspector.")
"""Operators to the profiler that compute nothing: what surrounds others."""
