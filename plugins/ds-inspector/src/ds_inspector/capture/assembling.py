"""From what was recorded to a recording."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ds_inspector.capture import kineto
from ds_inspector.capture.clock import Clock
from ds_inspector.capture.events import StepEvents, understood
from ds_inspector.capture.graph import Graph
from ds_inspector.capture.matching import calls_in, nodes_of, sources_of
from ds_inspector.capture.overheads import overheads
from ds_inspector.capture.recorder import Recorded
from ds_inspector.capture.storages import KINDS
from ds_inspector.capture.texts import blank, joined, taken
from ds_inspector.recording import Recording, Table, Texts
from ds_inspector.recording.recording import About
from ds_inspector.recording.table import Array


def assemble(
    recorded: Recorded,
    graph: Graph,
    *,
    title: str,
    command: str = "",
    machine: Mapping[str, str] | None = None,
    passes: Sequence[str] = (),
    peaks: Mapping[str, dict[str, float]] | None = None,
) -> Recording:
    """Put tables together.

    Args:
        recorded: What a recorder gave out.
        graph: Of the same model.
        title: The model's name.
        command: What was run.
        machine: Where.
        passes: Components that were attached.
        peaks: What the device can do.
    """
    timed = [understood(kineto.columns(events), recorded.classes) for events in recorded.timed]
    seconds = [events.seconds for events in timed]
    seconds += [(end - begin) * 1e-9 for begin, end in recorded.lived[len(timed) :]]
    start = np.concatenate([[0.0], np.cumsum(seconds)])
    problems = [*graph.problems, *recorded.problems]
    if not seconds:
        problems.append("No step ended while it was recorded.")
    nodes = [nodes_of(events, graph.nodes) for events in timed]
    if timed and graph.nodes.rows:
        problems += _unmatched(timed[0], nodes[0], graph.nodes)
    if timed and recorded.traced is not None:
        for events in timed:
            events.source = sources_of(events, recorded.traced.calls)
    tables = {
        "steps": Table("steps", {"start": start[:-1], "end": start[1:]}),
        "events": _events(timed, nodes, start),
        "nodes": graph.nodes,
        "edges": graph.edges,
        **_memory(recorded, timed, nodes, graph, start, seconds),
    }
    about = About(
        title=title,
        origin="torch",
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        command=command,
        machine=dict(machine or {}),
        collectors=overheads(recorded.seconds, graph),
        problems=problems,
        peaks=dict(peaks or {}),
        passes=list(passes),
    )
    return Recording(about, tables)


def _unmatched(events: StepEvents, nodes: Array, table: Table) -> list[str]:
    found = len(np.unique(nodes[nodes >= 0]))
    if found == table.rows:
        return []
    return [
        f"Of the graph's {table.rows:,} operators, {found:,} ({found / table.rows:.0%}) were found "
        "among those that ran."
    ]


def _events(timed: list[StepEvents], nodes: list[Array], start: Array) -> Table:
    if not timed:
        return Table("events")
    begins = np.cumsum([0, *(events.rows for events in timed)])

    def shifted(read: Callable[[StepEvents], Array]) -> Array:
        return np.concatenate(
            [
                np.where(read(events) >= 0, read(events) + begin, -1)
                for events, begin in zip(timed, begins, strict=False)
            ]
        )

    def texts(read: Callable[[StepEvents], Texts]) -> Texts:
        return joined([read(events) for events in timed])

    def numbers(read: Callable[[StepEvents], Array]) -> Array:
        return np.concatenate([read(events) for events in timed])

    step = np.repeat(np.arange(len(timed)), [events.rows for events in timed])
    kernel = np.concatenate([events.kind.equal("kernel") for events in timed])
    columns: dict[str, Any] = {
        "start": numbers(lambda events: events.start) + start[step],
        "duration": numbers(lambda events: events.duration),
        "parent": shifted(lambda events: events.parent),
        "name": texts(lambda events: events.name),
        "kind": texts(lambda events: events.kind),
        "lane": texts(lambda events: events.raw.lane),
        "phase": texts(lambda events: events.phase),
        "step": step,
        "module": texts(lambda events: events.module),
        "source": texts(lambda events: events.source),
        "node": np.concatenate(nodes),
        "cause": np.where(kernel, shifted(lambda events: events.launched), -1),
        "flops": numbers(lambda events: events.raw.flops),
        "bytes": numbers(lambda events: events.raw.bytes),
        "shapes": texts(lambda events: events.raw.shapes),
        "dtype": texts(lambda events: events.raw.dtype),
    }
    lanes = columns["lane"]
    rank = np.argsort(np.argsort(np.array(lanes.values)))  # lanes in the order of their names
    order = np.lexsort((step, rank[lanes.codes]))  # stable: within a step as they are
    number = np.empty(len(order) + 1, np.int64)
    number[order] = np.arange(len(order))
    number[-1] = -1
    for name in ("parent", "cause"):
        columns[name] = number[columns[name]]
    return Table("events", columns).take(order)


def _memory(
    recorded: Recorded,
    timed: list[StepEvents],
    nodes: list[Array],
    graph: Graph,
    start: Array,
    seconds: list[float],
) -> dict[str, Table]:
    lifetimes = recorded.lifetimes
    if lifetimes is None or not recorded.lived:
        return {}
    clock = Clock()
    calls = len(lifetimes.calls)
    node, source = np.full(calls + 1, -1, np.int64), [blank(0)]
    for step, (begin, end) in enumerate(recorded.lived):
        first, last = lifetimes.bounds[step]
        if step >= len(timed):
            clock.add(begin, end, start[step], seconds[step])
            source.append(blank(last - first))
            continue
        events, own = timed[step], lifetimes.calls[first:last]
        rows = calls_in(events, own)
        found = rows >= 0
        when = np.array([call.time for call in own], np.int64)[found]
        clock.add_calls(begin, end, start[step], seconds[step], when, events.start[rows[found]])
        node[first:last] = np.where(found, nodes[step][rows], -1)
        source.append(taken(events.source, rows))
    sources = joined([*source, blank(1)])
    storages = lifetimes.storages
    made = storages.made
    call = np.array(storages.number, np.int64)
    died = np.array(storages.died, float)
    ends = clock.seconds(died)
    ends[died == 0] = np.inf
    own_source = [
        each.source or sources[number] for each, number in zip(made, storages.number, strict=True)
    ]
    tensors = {
        "born": clock.seconds(np.array(storages.born)),
        "died": ends,
        "bytes": storages.bytes,
        "op": [each.name for each in made],
        "kind": [KINDS[kind] for kind in storages.kind],
        "name": storages.name,
        "module": [each.module for each in made],
        "source": own_source,
        "phase": [each.phase for each in made],
        "step": [step for step, *_ in storages.facts],
        "node": node[call],
        "shape": ["x".join(map(str, shape)) for _, shape, _, _ in storages.facts],
        "dtype": [str(dtype).removeprefix("torch.") for _, _, dtype, _ in storages.facts],
        "device": [str(device) for *_, device in storages.facts],
    }
    usage = {
        "time": clock.seconds(np.array([time for time, _ in lifetimes.usage])),
        "bytes": [size for _, size in lifetimes.usage],
        "device": [recorded.device] * len(lifetimes.usage),
    }
    return {"tensors": Table("tensors", tensors), "usage": Table("usage", usage)}
