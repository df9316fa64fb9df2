"""A small transformer as its exporters, profilers and runtimes write it."""

import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn


class Attention(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.norm = nn.LayerNorm(size)

    def forward(self, x):
        scores = self.query(x) @ self.key(x).transpose(-1, -2)
        return self.norm(x + torch.softmax(scores, -1) @ self.value(x))


class Layer(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.attention = Attention(size)
        self.up, self.down = nn.Linear(size, 4 * size), nn.Linear(4 * size, size)

    def forward(self, x):
        x = self.attention(x)
        return x + self.down(nn.functional.gelu(self.up(x)))


class Small(nn.Module):
    def __init__(self, size=32, layers=2):
        super().__init__()
        self.embeddings = nn.Embedding(50, size)
        self.layers = nn.ModuleList(Layer(size) for _ in range(layers))
        self.head = nn.Linear(size, 50)

    def forward(self, tokens):
        x = self.embeddings(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


@pytest.fixture(scope="session")
def tokens():
    return torch.randint(0, 50, (2, 16))


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def exported(folder, tokens):
    """An ONNX model by torch's exporter."""
    path = folder / "small.onnx"
    torch.onnx.export(
        Small().eval(), (tokens,), path, dynamo=True, external_data=False, verbose=False
    )
    return path


@pytest.fixture(scope="session")
def profiled(folder, exported, tokens):
    """What onnxruntime says of three runs of it."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.intra_op_num_threads = 1
    options.profile_file_prefix = str(folder / "profile")
    session = onnxruntime.InferenceSession(exported, options)
    name = session.get_inputs()[0].name
    for _ in range(3):
        session.run(None, {name: tokens.numpy()})
    return shutil.move(session.end_profiling(), folder / "profile.json")


@pytest.fixture(scope="session")
def program(folder, tokens):
    """A program of torch.export."""
    path = folder / "small.pt2"
    torch.export.save(torch.export.export(Small(), (tokens,)), path)
    return path


def _train(tokens, **options):
    model = Small(layers=1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)

    def step():
        loss = nn.functional.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities, record_shapes=True, **options) as profiler:
        for _ in range(3):
            step()
    return profiler


@pytest.fixture(scope="session")
def trace(folder, tokens):
    """Three steps of training with stacks, modules and memory."""
    path = folder / "trace.json"
    options = {"with_stack": True, "with_modules": True, "profile_memory": True}
    _train(tokens, **options).export_chrome_trace(str(path))
    return path


@pytest.fixture(scope="session")
def plain_trace(folder, tokens):
    """Three steps without, compressed."""
    path = folder / "plain.json.gz"
    _train(tokens).export_chrome_trace(str(path))
    return path


@pytest.fixture
def save_onnx(tmp_path):
    """Writes a graph of nodes from `x` to `y`, both float32 2x3."""

    def save(nodes, *, weights=(), functions=(), values=(), name="model.onnx", domains=(("", 18),)):
        ends = [
            helper.make_tensor_value_info(each, TensorProto.FLOAT, [2, 3]) for each in ("x", "y")
        ]
        graph = helper.make_graph(
            nodes,
            "graph",
            ends[:1],
            ends[1:],
            [onnx.numpy_helper.from_array(np.zeros(dims, "f"), each) for each, dims in weights],
            value_info=list(values),
        )
        opsets = [helper.make_opsetid(*domain) for domain in domains]
        model = helper.make_model(graph, functions=list(functions), opset_imports=opsets)
        onnx.save(model, tmp_path / name)
        return tmp_path / name

    return save
