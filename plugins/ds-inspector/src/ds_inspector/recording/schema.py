"""Which tables a recording has, and what their columns mean.

Rows of one table refer to rows of another by number; -1 is none, NaN is unknown, "" is unnamed.
What links the views is in all tables alike: `module`, `op` (or `name`), `source` and `node`.
"""

from __future__ import annotations

FORMAT = 1
"""Of files; higher ones are refused, lower ones converted."""

TEXT = "text"
"""A column of text: numbers into a list of distinct texts."""

TABLES: dict[str, dict[str, str]] = {
    "steps": {  # of training or of inference
        "start": "<f8",  # seconds since the recording began, as all times
        "end": "<f8",
    },
    "events": {  # whatever took time, in order of lane and start; parents before children
        "start": "<f8",
        "duration": "<f8",
        "parent": "<i4",  # the event of the same lane that it lies within
        "name": TEXT,  # as `aten::mm`, `nn.Module: Linear_0`, `Conv` or a kernel's
        "kind": TEXT,  # module, operator, kernel, python, annotation, runtime or other
        "lane": TEXT,  # thread or stream, as `cpu 1` or `cuda:0 stream 7`
        "phase": TEXT,  # forward, backward, optimizer, data or other
        "step": "<i4",
        "module": TEXT,  # qualified name, as `encoder.layer.0.attention`; a backward's too
        "source": TEXT,  # `path/file.py:12`, the innermost line of the user's
        "node": "<i4",
        "cause": "<i4",  # event that launched this kernel
        "flops": "<f8",
        "bytes": "<f8",  # read and written
        "shapes": TEXT,  # of inputs, as `4x3x8x8, 8x3x3x3`
        "dtype": TEXT,  # as `float32`
    },
    "nodes": {  # operators of the graph, in topological order where there is one
        "name": TEXT,
        "op": TEXT,  # as `aten::mm`, `Conv`
        "module": TEXT,  # the hierarchy by which nodes are grouped, its parts separated by dots
        "shape": TEXT,  # of the first output
        "dtype": TEXT,
        "source": TEXT,
        "attributes": TEXT,  # a JSON object
    },
    "edges": {
        "source": "<i4",  # nodes
        "target": "<i4",
        "label": TEXT,  # name of the value
        "shape": TEXT,
    },
    "tensors": {  # lives of storages
        "born": "<f8",
        "died": "<f8",  # infinite where it outlives the recording
        "bytes": "<i8",
        "op": TEXT,  # that made it
        "kind": TEXT,  # parameter, buffer, gradient, optimizer, input, activation or temporary
        "name": TEXT,  # of a parameter or buffer
        "module": TEXT,
        "source": TEXT,
        "phase": TEXT,
        "step": "<i4",
        "node": "<i4",
        "shape": TEXT,
        "dtype": TEXT,
        "device": TEXT,
    },
    "usage": {  # what an allocator said, beside what was counted by tensors
        "time": "<f8",
        "bytes": "<f8",
        "device": TEXT,
    },
}
