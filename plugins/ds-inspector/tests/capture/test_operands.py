import math

import pytest
import torch
from ds_inspector.capture.operands import Operands
from torch.profiler import profile

F = torch.nn.functional


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("aten::mm", lambda: torch.mm(torch.ones(3, 4), torch.ones(4, 5))),
        ("aten::bmm", lambda: torch.bmm(torch.ones(2, 3, 4), torch.ones(2, 4, 5))),
        ("aten::addmm", lambda: torch.addmm(torch.ones(5), torch.ones(3, 4), torch.ones(4, 5))),
        ("aten::linear", lambda: F.linear(torch.ones(2, 3, 4), torch.ones(5, 4))),
        (
            "aten::convolution",
            lambda: F.conv2d(torch.ones(2, 6, 9, 8), torch.ones(4, 3, 3, 2), stride=2, padding=1,
                             dilation=(2, 1), groups=2),
        ),
        ("aten::conv1d", lambda: F.conv1d(torch.ones(2, 3, 9), torch.ones(4, 3, 3))),
        ("aten::add", lambda: torch.add(torch.ones(3, 4), torch.ones(4))),
        ("aten::relu", lambda: torch.relu(torch.ones(3, 4, dtype=torch.bfloat16))),
    ],
)  # fmt: skip
def test_bytes_are_those_of_inputs_and_output(name, run):
    with profile(record_shapes=True) as profiler:
        output = run()
    events = profiler.profiler.kineto_results.events()
    event = next(event for event in events if event.name() == name)
    read = sum(
        math.prod(shape) * output.element_size()
        for shape, dtype in zip(event.shapes(), event.dtypes(), strict=True)
        if dtype not in ("", "Scalar", "ScalarList")
    )
    found = Operands().of(event)
    assert found.bytes == read + output.numel() * output.element_size()
    assert found.dtype == str(output.dtype).removeprefix("torch.")


def test_views_move_nothing():
    with profile(record_shapes=True) as profiler:
        torch.ones(3, 4).view(12)
    events = profiler.profiler.kineto_results.events()
    event = next(event for event in events if event.name() == "aten::view")
    assert Operands().of(event) == ("3x4", "float32", 0.0)
