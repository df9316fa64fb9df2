"""A recording of each kind of thing."""

import numpy as np
import pytest
from ds_inspector.recording import Recording, Table
from ds_inspector.recording.recording import About


@pytest.fixture
def full():
    """Events with kernels and steps, a graph, tensors and usage."""
    events = {
        "start": [0.0, 0.001, 0.0012, 0.004],
        "duration": [0.003, 0.001, 0.0001, 0.002],
        "parent": [-1, 0, 1, -1],
        "name": ["step", "aten::mm", "cudaLaunchKernel", "gemm<float>"],
        "kind": ["annotation", "operator", "runtime", "kernel"],
        "lane": ["cpu 1", "cpu 1", "cpu 1", "cuda:0 stream 7"],
        "phase": ["other", "forward", "forward", "forward"],
        "step": [0, 0, 0, 0],
        "module": ["", "net.0", "net.0", "net.0"],
        "source": ["", "model.py:3", "", ""],
        "node": [-1, 0, -1, 0],
        "cause": [-1, -1, -1, 1],
        "flops": [np.nan, 24.0, np.nan, 24.0],
        "bytes": [np.nan, 48.0, np.nan, np.nan],
        "shapes": ["", "2x3, 3x2", "", ""],
        "dtype": ["", "float32", "", ""],
    }
    nodes = {
        "name": ["mm", "<relu>"],
        "op": ["aten::mm", "aten::relu"],
        "module": ["net.0", "net.1"],
        "shape": ["2x2", "2x2"],
        "dtype": ["float32"] * 2,
        "source": ["model.py:3", ""],
        "attributes": ['{"alpha":1}', ""],
    }
    edges = {"source": [-1, 0, 1], "target": [0, 1, -1], "label": ["x", "mm", "y"]}
    tensors = {
        "born": [0.0, 0.001, 0.002],
        "died": [np.inf, 0.003, 0.005],
        "bytes": [100, 20, 30],
        "kind": ["parameter", "activation", "activation"],
        "op": ["", "aten::mm", "aten::relu"],
        "node": [0, 0, 1],
    }
    tables = {
        "steps": Table("steps", {"start": [0.0], "end": [0.0061]}),
        "events": Table("events", events),
        "nodes": Table("nodes", nodes),
        "edges": Table("edges", edges),
        "tensors": Table("tensors", tensors),
        "usage": Table("usage", {"time": [0.0, 0.002], "bytes": [100.0, 150.0]}),
    }
    return Recording(About(title="full", origin="torch"), tables)
