import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ds_core.demo.net import ResidualNet
from ds_core.errors import ConfigError


@given(
    channels=st.integers(1, 4),
    height=st.integers(8, 20),
    width=st.integers(8, 20),
    classes=st.integers(2, 12),
    widths=st.lists(st.sampled_from([16, 32]), min_size=1, max_size=4),
    blocks=st.integers(1, 2),
)
@settings(deadline=None, max_examples=25)
def test_scores_images_of_any_shape(channels, height, width, classes, widths, blocks):
    net = ResidualNet(channels, classes, widths, blocks)
    scores = net(torch.randn(3, channels, height, width))
    assert scores.shape == (3, classes)
    scores.square().sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_a_skip_carries_the_input_past_the_convolutions():
    net = ResidualNet(1, 2, [16])
    block = net.stages[0]
    nn.init.zeros_(block.second[1].weight)  # silences the convolutions' branch
    x = torch.randn(2, 16, 8, 8).relu()
    assert torch.equal(block(x), x)


def test_learns_a_handful_of_images():
    torch.manual_seed(0)
    net = ResidualNet(1, 4, [16, 32])
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 4
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    for _ in range(40):
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(x), y).backward()
        optimizer.step()
    assert torch.equal(net(x).argmax(1), y)


def test_computes_in_bfloat16_under_autocast():
    net = ResidualNet(3, 5, [16, 32]).eval()
    x = torch.randn(4, 3, 8, 8)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = net(x)
    with torch.no_grad():
        full = net(x)
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.float(), full, rtol=0.1, atol=0.05)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"channels": 0}, "at least 1 channel"),
        ({"classes": 1}, "2 classes"),
        ({"blocks": 0}, "1 block"),
        ({"widths": []}, r"multiples of 16, not \[\]"),
        ({"widths": [16, 20]}, r"multiples of 16, not \[16, 20\]"),
        ({"widths": [0]}, r"multiples of 16, not \[0\]"),
    ],
)
def test_refuses_shapes_that_cannot_be(options, says):
    with pytest.raises(ConfigError, match=says):
        ResidualNet(**({"channels": 1, "classes": 10} | options))
