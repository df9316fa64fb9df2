"""ONNX models."""

import json

import onnx
import pytest
import wire
from ds_inspector.importing import limits
from ds_inspector.importing.opening import open_any
from onnx import TensorProto, helper

from ds_core.errors import RefusedError


def rows(recording):
    """Nodes as (name, op, module)."""
    nodes = recording.nodes
    return list(zip(nodes["name"], nodes["op"], nodes["module"], strict=True))


def joined(recording):
    """Edges by names of nodes; "" is outside."""
    names = [*recording.nodes["name"], ""]
    edges = recording.edges
    return {
        (names[source], names[target])
        for source, target in zip(edges["source"].tolist(), edges["target"].tolist(), strict=True)
    }


def test_model_of_torch_has_modules_sources_shapes_and_weights(exported):
    recording = open_any(exported)
    assert recording.about.origin == "onnx"
    nodes = recording.nodes
    assert nodes.rows == len(onnx.load(exported).graph.node)
    modules = set(nodes["module"])
    assert {"layers.0.attention.query", "layers.1.down", "head", "embeddings"} <= modules
    assert {source.rpartition("/")[2].partition(":")[0] for source in nodes["source"]} == {
        "conftest.py"
    }
    place = list(nodes["op"]).index("Softmax")
    assert nodes["shape"][place] == "2x16x16"
    assert nodes["dtype"][place] == "float32"
    tensors = recording.tensors
    weights = dict(zip(tensors["name"], tensors["bytes"].tolist(), strict=True))
    assert weights["embeddings.weight"] == 50 * 32 * 4
    assert set(tensors["kind"]) == {"parameter"}
    node = tensors["node"][list(tensors["name"]).index("embeddings.weight")]
    assert nodes["op"][node] == "Gather"


def test_edges_are_those_of_the_model(exported):
    recording, model = open_any(exported), onnx.load(exported)
    made = {value: node.name for node in model.graph.node for value in node.output}
    expected = {
        (made.get(value, ""), node.name)
        for node in model.graph.node
        for value in node.input
        if value in made or value == model.graph.input[0].name
    }
    expected.add((made[model.graph.output[0].name], ""))
    assert joined(recording) == expected


def test_names_say_the_hierarchy(save_onnx):
    path = save_onnx(
        [
            helper.make_node("Relu", ["x"], ["a"], name="/encoder/layer.0/act/Relu"),
            helper.make_node("Neg", ["a"], ["y"]),
        ]
    )
    assert rows(open_any(path)) == [
        ("/encoder/layer.0/act/Relu", "Relu", "encoder.layer.0.act"),
        ("Neg_1", "Neg", ""),
    ]


def test_unknown_operators_domains_opsets_and_repeated_names_load(save_onnx):
    path = save_onnx(
        [
            helper.make_node("Mystery", ["x"], ["a"], name="same", domain="com.nobody"),
            helper.make_node("<img src=x onerror=alert(1)>", ["a"], ["b"], name="same"),
            helper.make_node("Identity", ["b"], ["y"], name="same"),
        ],
        domains=(("", 999), ("com.nobody", 7)),
    )
    recording = open_any(path)
    assert [op for _, op, _ in rows(recording)] == [
        *("Mystery", "<img src=x onerror=alert(1)>", "Identity")
    ]
    assert json.loads(recording.nodes["attributes"][0])["domain"] == "com.nobody"
    assert recording.edges["source"].tolist() == [-1, 0, 1, 2]


def branch(value):
    node = helper.make_node("Relu", ["outer"], [value], name=f"/relu_{value}")
    return helper.make_graph(
        [node], value, [], [helper.make_tensor_value_info(value, TensorProto.FLOAT, [2, 3])]
    )


def test_branches_are_groups_joined_to_what_is_around_them(save_onnx):
    nodes = [
        helper.make_node("Neg", ["x"], ["outer"], name="neg"),
        helper.make_node(
            *("If", ["x"], ["y"]),
            name="/part/choose",
            then_branch=branch("yes"),
            else_branch=branch("no"),
        ),
    ]
    recording = open_any(save_onnx(nodes))
    modules = {name: module for name, _, module in rows(recording)}
    assert modules["/relu_yes"] == "part.choose.then_branch"
    assert modules["/relu_no"] == "part.choose.else_branch"
    assert modules["/part/choose"] == "part"
    assert {("neg", "/relu_yes"), ("/relu_yes", "/part/choose")} <= joined(recording)


def test_loops_pass_values_into_their_bodies(save_onnx):
    body = helper.make_graph(
        [
            helper.make_node("Relu", ["state"], ["next"], name="inside"),
            helper.make_node("Identity", ["go"], ["on"], name="condition"),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [2, 3]),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2, 3]),
        ],
    )
    nodes = [
        helper.make_node("Neg", ["x"], ["first"], name="neg"),
        helper.make_node("Loop", ["", "", "first"], ["y"], name="loop", body=body),
    ]
    found = joined(open_any(save_onnx(nodes)))
    assert {("neg", "inside"), ("inside", "loop"), ("neg", "loop")} <= found


def test_functions_are_groups_wherever_they_are_called(save_onnx):
    function = helper.make_function(
        *("local", "Twice", ["a"], ["c"]),
        [
            helper.make_node("Relu", ["a"], ["b"], name="first"),
            helper.make_node("Neg", ["b"], ["c"], name="second"),
        ],
        [helper.make_opsetid("", 18)],
    )
    nodes = [
        helper.make_node("Twice", ["x"], ["m"], name="/net/one", domain="local"),
        helper.make_node("Twice", ["m"], ["y"], name="/net/two", domain="local"),
    ]
    recording = open_any(save_onnx(nodes, functions=[function], domains=(("", 18), ("local", 1))))
    assert [(op, module) for _, op, module in rows(recording)] == [
        ("Relu", "net.one"),
        ("Neg", "net.one"),
        ("Relu", "net.two"),
        ("Neg", "net.two"),
    ]
    assert recording.edges["source"].tolist() == [-1, 0, 1, 2, 3]


def test_functions_that_call_each_other_for_ever_end(save_onnx, monkeypatch):
    def calls(name, other):
        nodes = [helper.make_node(other, ["a"], ["b"], domain="local", name="n") for _ in range(3)]
        nodes[-1].output[0] = "c"
        return helper.make_function("local", name, ["a"], ["c"], nodes, [])

    nodes = [helper.make_node("F", ["x"], ["y"], domain="local")]
    path = save_onnx(nodes, functions=[calls("F", "G"), calls("G", "F")])
    monkeypatch.setattr(limits, "EXPANDED", 1000)
    recording = open_any(path)
    assert recording.nodes.rows < 2000
    assert any("called very often" in problem for problem in recording.about.problems)


def test_a_function_that_gives_back_what_its_result_is_made_of_ends(save_onnx):
    function = helper.make_function("local", "Same", ["a"], ["a"], [], [])
    nodes = [helper.make_node("Same", ["y"], ["y"], domain="local")]
    assert open_any(save_onnx(nodes, functions=[function])).nodes.rows == 0


def test_graphs_within_graphs_have_a_limit(save_onnx, monkeypatch):
    graph = branch("deep")
    for _ in range(12):
        node = helper.make_node("If", ["x"], ["v"], then_branch=graph, else_branch=branch("no"))
        value = helper.make_tensor_value_info("v", TensorProto.FLOAT, [2, 3])
        graph = helper.make_graph([node], "g", [], [value])
    path = save_onnx([helper.make_node("If", ["x"], ["y"], then_branch=graph)])
    assert open_any(path).nodes.rows == 26
    monkeypatch.setattr(limits, "DEPTH", 10)
    with pytest.raises(RefusedError, match="more than 10 graphs within each other"):
        open_any(path)


def test_deeper_than_any_stack_is_refused(tmp_path):
    graph = b""  # written by hand, as onnx refuses to
    for _ in range(2000):
        graph = wire.message(1, wire.message(5, wire.message(6, graph)))
    (tmp_path / "deep.onnx").write_bytes(wire.number(1, 8) + wire.message(7, graph))
    with pytest.raises(RefusedError, match="graphs within each other"):
        open_any(tmp_path / "deep.onnx")


def test_cycles_are_shown(save_onnx):
    nodes = [
        helper.make_node("Add", ["x", "b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
    ]
    assert {("one", "two"), ("two", "one")} <= joined(open_any(save_onnx(nodes)))


def test_external_data_is_never_looked_for(save_onnx):
    path = save_onnx([helper.make_node("Add", ["x", "w"], ["y"])], weights=[("w", (2, 3))])
    model = onnx.load(path)
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    path.write_bytes(model.SerializeToString())
    recording = open_any(path)
    assert (recording.tensors["bytes"].tolist(), recording.tensors["shape"][0]) == ([24], "2x3")


def test_very_long_names_are_cut(save_onnx):
    long = "n" * 1_000_000
    nodes = [
        helper.make_node("Relu", ["x"], [long + "1"], name=long),
        helper.make_node("Relu", ["x"], [long + "2"], name=long),
        helper.make_node("Neg", [long + "2"], ["y"], name="last"),
    ]
    recording = open_any(save_onnx(nodes))
    assert max(map(len, recording.nodes["name"])) == limits.NAME
    # Values that differ only in what is cut are still told apart.
    assert recording.edges["source"].tolist() == [-1, -1, 1, 2]


def test_more_nodes_than_are_read_are_refused(save_onnx, monkeypatch):
    monkeypatch.setattr(limits, "NODES", 3)
    nodes = [helper.make_node("Relu", ["x"], ["y"]) for _ in range(4)]
    with pytest.raises(RefusedError, match="more than 3 nodes"):
        open_any(save_onnx(nodes))


def test_attributes_are_shown_but_not_big_tensors(save_onnx):
    node = helper.make_node(
        *("Odd", ["x"], ["y"]),
        ints=list(range(100)),
        real=0.5,
        text="a<b",
        tensor=helper.make_tensor("t", TensorProto.FLOAT, [1000], [0.0] * 1000),
    )
    shown = json.loads(open_any(save_onnx([node])).nodes["attributes"][0])
    assert shown["real"] == 0.5
    assert shown["text"] == "a<b"
    assert shown["tensor"] == "tensor float32 1000"
    assert shown["ints"][:16] == list(range(16))
    assert len(shown["ints"]) == 17
