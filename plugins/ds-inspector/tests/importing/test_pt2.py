"""Programs of torch.export."""

import io
import json
import zipfile

import pytest
import torch
from ds_inspector.importing import limits
from ds_inspector.importing.opening import open_any

from ds_core.errors import RefusedError


def test_nodes_are_those_of_the_program(program):
    recording = open_any(program)
    nodes = recording.nodes
    graph = torch.export.load(program).graph
    assert list(nodes["name"]) == [node.name for node in graph.nodes if node.op == "call_function"]
    place = list(nodes["op"]).index("aten::softmax")
    assert (nodes["shape"][place], nodes["dtype"][place]) == ("2x16x16", "float32")
    assert nodes["module"][place] == "layers.0.attention"
    assert nodes["source"][place].rpartition("/")[2].startswith("conftest.py:")
    names = [*nodes["name"], ""]
    edges = recording.edges
    found = {
        (names[source], names[target])
        for source, target in zip(edges["source"].tolist(), edges["target"].tolist(), strict=True)
    }
    assert found == {
        tuple("" if end.op in ("placeholder", "output") else end.name for end in (source, node))
        for node in graph.nodes
        for source in node.all_input_nodes
        if not (source.op == "placeholder" and source.name.startswith("p_"))
    }


def test_weights_have_their_names(program):
    tensors = open_any(program).tensors
    state = torch.export.load(program).state_dict
    assert dict(zip(tensors["name"], tensors["bytes"].tolist(), strict=True)) == {
        name: value.nbytes for name, value in state.items()
    }


class Branches(torch.nn.Module):
    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


def test_branches_are_groups_and_sizes_may_be_unknown(tmp_path):
    batch = torch.export.Dim("batch", min=2, max=64)
    found = torch.export.export(Branches(), (torch.ones(4, 3),), dynamic_shapes={"x": {0: batch}})
    torch.export.save(found, tmp_path / "cond.pt2")
    recording = open_any(tmp_path / "cond.pt2")
    nodes = recording.nodes
    by_op = {op: row for row, op in enumerate(nodes["op"])}
    assert nodes["module"][by_op["aten::sin"]] == "cond.true_graph_0"
    assert nodes["module"][by_op["aten::cos"]] == "cond.false_graph_0"
    batch, _, rest = nodes["shape"][by_op["aten::sin"]].partition("x")
    assert batch.isalnum()
    assert rest == "3"
    edges = zip(*(recording.edges[end].tolist() for end in ("source", "target")), strict=True)
    # What the branches take is the argument, not the condition.
    assert (-1, by_op["aten::sin"]) in edges


def rewritten(program, path, **members):
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            name = member.filename.partition("/")[2]
            if name not in members:
                new.writestr(member.filename, old.read(member))
        for name, text in members.items():
            new.writestr(f"small/{name}", text)
    return path


def test_only_the_program_is_read(program, tmp_path):
    # Names that lead out of the folder, and pickles that are none, do not matter.
    path = rewritten(
        program,
        tmp_path / "odd.pt2",
        **{"../../../evil": "x", "data/sample_inputs/model.pt": "no pickle"},
    )
    assert open_any(path).nodes.rows == open_any(program).nodes.rows
    assert sorted(each.name for each in tmp_path.iterdir()) == ["odd.pt2"]


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", '{"graph_module": 3}', '{"graph_module": {"graph": {"nodes": [1]}}}'],
)
def test_programs_of_another_schema_are_refused(program, tmp_path, text):
    path = rewritten(program, tmp_path / "odd.pt2", **{"models/model.json": text})
    with pytest.raises(RefusedError):
        open_any(path)


def test_bombs_are_refused_whatever_they_declare(program, tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "WHOLE", 1000)
    with pytest.raises(RefusedError, match="more than 1,000 bytes"):
        open_any(program)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/models/model.json", b"[" + b" " * 100_000)
    data = bytearray(buffer.getvalue())
    place = data.rindex(b"PK\x01\x02")
    data[place + 24 : place + 28] = (500).to_bytes(4, "little")  # the size that is declared
    (tmp_path / "bomb.pt2").write_bytes(data)
    with pytest.raises(RefusedError):
        open_any(tmp_path / "bomb.pt2")


def test_pickles_are_refused(tmp_path):
    torch.save({"weight": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(RefusedError, match=r"pickle, which is not opened.*torch\.export\.save"):
        open_any(tmp_path / "weights.pt")


def test_later_versions_may_have_more(program, tmp_path):
    with zipfile.ZipFile(program) as archive:
        model = json.loads(archive.read("small/models/model.json"))
    model["schema_version"] = {"major": 99, "minor": 0}
    model["news"] = 1
    model["graph_module"]["graph"]["nodes"][0]["news"] = {"as_new": [1]}
    path = rewritten(program, tmp_path / "new.pt2", **{"models/model.json": json.dumps(model)})
    assert open_any(path).nodes.rows == open_any(program).nodes.rows
