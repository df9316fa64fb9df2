import numpy as np
import pytest
from ds_inspector.analysis.groups import graph, search
from ds_inspector.analysis.timing import timing
from ds_inspector.recording import Recording, Table
from hypothesis import given
from synthetic import graph_of, graphs, recordings, steps_of

from ds_core.errors import UnknownNameError


def walked(recording, group=""):
    """All groups that can be opened, by path."""
    found = {group: graph(recording, group)}
    for item in found[group]["nodes"]:
        if item["id"].startswith("g:"):
            found |= walked(recording, item["id"][2:])
    return found


@given(graphs())
def test_each_node_is_shown_once_and_counted(recording):
    groups = walked(recording)
    shown = [item["node"] for group in groups.values() for item in group["nodes"]]
    nodes = [node for node in shown if node is not None]
    assert sorted(nodes) == list(range(recording.nodes.rows))
    assert sum(item["count"] for item in groups[""]["nodes"]) == recording.nodes.rows
    for group in groups.values():
        for item in group["nodes"]:
            if item["id"].startswith("g:"):
                inside = groups[item["id"][2:]]["nodes"]
                assert item["count"] == sum(inner["count"] for inner in inside)


@given(graphs())
def test_each_edge_is_drawn_in_the_group_where_its_ends_part(recording):
    source, target = (recording.edges.numbers(end) for end in ("source", "target"))
    groups = walked(recording)
    drawn = 0
    for group in groups.values():
        items = {item["id"] for item in group["nodes"]}
        ends = {point["id"] for point in group["inputs"] + group["outputs"]}
        for edge in group["edges"]:
            assert {edge["from"], edge["to"]} <= items | ends
            if {edge["from"], edge["to"]} <= items:
                drawn += edge["count"]
    assert drawn == np.sum(source != target)


@given(graphs())
def test_search_finds_the_group_that_shows_a_node(recording):
    groups = walked(recording)
    for row in range(recording.nodes.rows):
        (hit,) = search(recording, f"node:{row}")["hits"]
        assert row in [item["node"] for item in groups[hit["group"]]["nodes"]]
    assert search(recording, "NODE")["total"] == recording.nodes.rows
    assert search(recording, "no such thing") == {"hits": [], "total": 0}


@pytest.mark.parametrize("count", [400, 401, 1000, 200_000])
def test_big_groups_are_shown_in_parts(count):
    recording = graph_of(["big"] * count, [(row, row + 1) for row in range(count - 1)])
    top = graph(recording, "big")
    assert len(top["nodes"]) <= 400
    assert sum(item["count"] for item in top["nodes"]) == count
    seen = top
    while seen["nodes"][-1]["node"] is None:
        part = seen["nodes"][-1]["id"][2:]
        seen = graph(recording, part)
        assert len(seen["nodes"]) <= 400
        assert len(seen["inputs"]) == 1
    assert seen["nodes"][-1]["node"] == count - 1
    assert search(recording, f"node:{count - 1}")["hits"][0]["group"] == seen["group"]


def test_a_group_is_found_by_its_path():
    recording = graph_of(["a.b", "a.c"], [])
    (hit,) = search(recording, "module:a.b")["hits"]
    assert (hit["group"], hit["label"], hit["node"]) == ("a.b", "b", None)


@pytest.mark.parametrize("group", ["no", "a#5-9", "a#9-5", "a#0-400", "#0-1"])
def test_groups_that_are_not_there_are_refused(group):
    with pytest.raises(UnknownNameError, match="no group"):
        graph(graph_of(["a"] * 3, []), group)


def test_a_path_of_half_a_million_parts_is_no_trap():
    recording = graph_of([".".join("a" * 500_000)], [])
    assert graph(recording)["nodes"][0]["count"] == 1


@given(recordings())
def test_seconds_of_groups_are_those_of_what_is_in_them(recording):
    time = timing(recording)
    nodes = recording.nodes.rows
    modules = ["a", "a.b", "d", "", "a.c", "x"][:nodes]
    table = recording.nodes.replaced(module=modules)
    recording = Recording(recording.about, {**recording.tables, "nodes": table})
    top = graph(recording)["nodes"]
    known = [item["seconds"] or 0.0 for item in top]
    assert sum(known) <= time.own.sum() + 1e-9
    for path, group in walked(recording).items():
        items = [item["seconds"] for item in group["nodes"]]
        if path:
            (item,) = search(recording, f"module:{path}")["hits"]
            parent = graph(recording, path.rpartition(".")[0])["nodes"]
            (mine,) = [one for one in parent if one["id"] == f"g:{item['group']}"]
            assert sum(value or 0.0 for value in items) <= (mine["seconds"] or 0.0) + 1e-9


def test_time_without_a_node_goes_to_its_module():
    recording = steps_of([1.0, 1.0], [("aten::mm", "a.b.deeper", 0.5)])
    table = Table("nodes", {"name": ["x"], "module": ["a.b"]})
    recording = Recording(recording.about, {**recording.tables, "nodes": table})
    (group,) = graph(recording)["nodes"]
    assert group["seconds"] == pytest.approx(1.0)
    (group,) = graph(recording, against=recording)["nodes"]
    assert group["change"] == pytest.approx(1.0)
    assert graph(recording, "a.b")["nodes"][0]["seconds"] is None
