"""From the recorded steps of a model to its recording."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ds_inspector.capture.assembling import assemble
from ds_inspector.capture.graph import Graph, first_line, graph_of
from ds_inspector.capture.kept import random_states
from ds_inspector.capture.machine import machine
from ds_inspector.capture.recorder import Recorder
from ds_inspector.recording import Recording

if TYPE_CHECKING:
    from torch.nn import Module


def finish(
    recorder: Recorder,
    collectors: Sequence[str],
    *,
    command: str = "",
    passes: Sequence[str] = (),
) -> Recording:
    """Close a recorder and understand what it recorded.

    The model's graph is made and the device's speed measured now, at the cost of some seconds; the
    model's training modes and the random state are left as they are.

    Args:
        recorder: Of steps that have ended; one that has not is left out.
        collectors: What was asked for.
        command: What was run.
        passes: Components that were attached.
    """
    import torch

    recorded = recorder.close()
    model = recorder.inner
    with _undisturbed(model), torch.enable_grad():
        graph = Graph()
        if "graph" in collectors:
            if recorded.inputs is None:
                graph.problems.append("No forward was seen, so there is no graph.")
            else:
                graph = graph_of(model, *recorded.inputs, recorded.lines)
        recorded.inputs = None
        peaks = {}
        if "time" in collectors and recorded.timed:
            peaks = _peaks(recorder, graph)
    return assemble(
        recorded,
        graph,
        title=type(model).__name__,
        command=command,
        machine=machine(recorder.device),
        passes=passes,
        peaks=peaks,
    )


def _peaks(recorder: Recorder, graph: Graph) -> dict[str, dict[str, float]]:
    try:
        from ds_inspector.analysis.roofline import measure_peaks

        return dict(measure_peaks(recorder.device))
    except Exception as error:  # a device that lacks what is measured
        graph.problems.append(f"What the device can do was not measured: {first_line(error)}.")
        return {}


@contextmanager
def _undisturbed(model: Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    restore = random_states(model)
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for action in restore:
            action()
