import json

import torch
from capture.nets import Net, line
from ds_inspector.capture.graph import graph_of
from torch import nn


def column(table, name):
    return list(table[name])


def test_a_graph_has_modules_shapes_and_lines():
    graph = graph_of(Net().eval(), (torch.randn(4, 3, 12, 12),), {})
    assert not graph.problems
    nodes = graph.nodes
    row = column(nodes, "op").index("aten::mean")
    assert nodes["module"][row] == ""
    assert nodes["shape"][row] == "4x16"
    assert nodes["dtype"][row] == "float32"
    assert nodes["source"][row].endswith(line("mean"))
    assert json.loads(nodes["attributes"][row])["dim"] == "[2, 3]"
    linears = [
        nodes["module"][row] for row, op in enumerate(column(nodes, "op")) if op == "aten::linear"
    ]
    assert linears == [f"blocks.{i}.{part}" for i in range(2) for part in ("first", "second")]


def test_edges_go_forward_from_what_made_a_value():
    graph = graph_of(Net().eval(), (torch.randn(4, 3, 12, 12),), {})
    ops = column(graph.nodes, "op")
    pairs = {
        (ops[source], ops[target])
        for source, target in zip(graph.edges["source"], graph.edges["target"], strict=True)
    }
    assert ("aten::conv2d", "aten::batch_norm") in pairs
    assert ("aten::relu", "aten::linear") in pairs
    assert (graph.edges["source"] < graph.edges["target"]).all()


def test_what_is_under_a_context_is_in_the_graph():
    class Casts(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            with torch.autocast("cpu", torch.bfloat16):
                x = self.inner(x)
            with torch.no_grad():
                return torch.relu(x)

    graph = graph_of(Casts(), (torch.randn(2, 4),), {})
    ops, modules = column(graph.nodes, "op"), column(graph.nodes, "module")
    assert modules[ops.index("aten::linear")] == "inner"
    assert "aten::relu" in ops
    assert all(op.startswith("aten::") for op in ops)
    assert graph.edges.rows


def test_a_module_called_twice():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            return self.inner(self.inner(x))

    graph = graph_of(Twice(), (torch.randn(2, 4),), {})
    assert column(graph.nodes, "module") == ["inner", "inner"]


def test_what_cannot_be_exported_is_traced():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 4)

        def forward(self, x):
            if isinstance(x, torch.fx.Proxy):
                return torch.relu(self.inner(x))
            raise ValueError("only symbols")

    graph = graph_of(Odd(), (torch.randn(2, 4),), {})
    assert column(graph.nodes, "module") == ["inner", ""]
    assert column(graph.nodes, "op")[1] == "aten::relu"
    assert "only symbols" in graph.problems[0]
    assert "traced" in graph.problems[1]


def test_what_can_be_neither_says_why(capfd):
    class Branches(nn.Module):
        def forward(self, x):
            return x + 1 if x.sum().item() > 0 else x

    graph = graph_of(Branches(), (torch.randn(2, 4),), {})
    assert graph.nodes.rows == 0
    assert len(graph.problems) == 2
    assert all(problem.endswith(".") and "\n" not in problem for problem in graph.problems)
    assert capfd.readouterr().out == ""
