"""What comes out of a compressed format, for whatever went in."""

import math

import pytest
import torch
from ds_nccl_ring.wire.formats import BLOCK, BFloat16, Int8, format_named
from hypothesis import given
from hypothesis import strategies as st

FORMATS = [BFloat16(), Int8()]
ids = [type(format).__name__ for format in FORMATS]

finite = st.floats(-(2.0**100), 2.0**100, width=32)
sizes = st.one_of(st.integers(0, 20), st.integers(BLOCK - 2, 2 * BLOCK + 2))


@st.composite
def values(draw, elements=finite):
    """Few drawn numbers, scattered over a tensor of any size."""
    size = draw(sizes)
    some = draw(st.lists(elements, min_size=1, max_size=8))
    seed = draw(st.integers(0, 2**16))
    picks = torch.randint(len(some), (size,), generator=torch.Generator().manual_seed(seed))
    return torch.tensor(some, dtype=torch.float32)[picks]


def through(format, tensor):
    data = torch.empty(format.size(tensor.numel()), dtype=torch.uint8)
    format.encode(tensor, data)
    out = torch.full_like(tensor, 123.0)
    format.decode(data, out)
    return out


def blocks(tensor):
    return tensor.split(BLOCK) if tensor.numel() else ()


@given(values())
def test_bfloat16_is_within_its_rounding(tensor):
    out = through(BFloat16(), tensor)
    assert torch.all((out - tensor).abs() <= tensor.abs() * 2**-8 + 1e-38)


@given(values())
def test_int8_is_within_half_a_step_of_its_block(tensor):
    for before, after in zip(blocks(tensor), blocks(through(Int8(), tensor)), strict=True):
        step = before.double().abs().max() / 127
        assert torch.all((after.double() - before.double()).abs() <= step * 0.50001 + 1e-35)


@pytest.mark.parametrize("format", FORMATS, ids=ids)
@given(tensor=values(st.sampled_from([1.0, -3e38, 0.0, math.inf, -math.inf, math.nan])))
def test_what_is_not_finite_never_comes_out_finite(format, tensor):
    out = through(format, tensor)
    assert not torch.any(out.isfinite() & ~tensor.isfinite())


def test_int8_spoils_only_the_block_that_is_not_finite():
    tensor = torch.ones(3 * BLOCK)
    tensor[BLOCK + 3] = math.inf
    broken = through(Int8(), tensor).isnan().view(3, BLOCK).all(1)
    assert broken.tolist() == [False, True, False]
    assert torch.equal(through(Int8(), tensor)[:BLOCK], torch.ones(BLOCK))


@pytest.mark.parametrize("format", FORMATS, ids=ids)
@given(tensor=values())
def test_what_came_out_goes_through_unchanged(format, tensor):
    once = through(format, tensor)
    torch.testing.assert_close(through(format, once), once, rtol=1e-6, atol=1e-35)


@given(sizes)
def test_bytes_per_value(count):
    assert BFloat16().size(count) == 2 * count
    assert Int8().size(count) == count + 4 * math.ceil(count / BLOCK)


@pytest.mark.parametrize("format", FORMATS, ids=ids)
def test_feedback_makes_up_for_what_was_left_out(format):
    generator = torch.Generator().manual_seed(0)
    tensor = torch.randn(1000, generator=generator) * torch.linspace(1e-4, 1, 1000)
    data = torch.empty(format.size(1000), dtype=torch.uint8)
    residual, total, out = torch.zeros(1000), torch.zeros(1000), torch.empty(1000)
    for _ in range(50):
        format.encode_with_feedback(tensor, data, residual)
        format.decode(data, out)
        total += out
    without = (through(format, tensor) - tensor).norm()
    assert (total / 50 - tensor).norm() < without / 10


@pytest.mark.parametrize("format", FORMATS, ids=ids)
def test_one_step_that_overflowed_does_not_spoil_the_next(format):
    data = torch.empty(format.size(300), dtype=torch.uint8)
    residual, out = torch.zeros(300), torch.empty(300)
    format.encode_with_feedback(torch.full((300,), math.inf), data, residual)
    format.encode_with_feedback(torch.ones(300), data, residual)
    format.decode(data, out)
    torch.testing.assert_close(out, torch.ones(300))


def test_the_exact_format_is_none():
    assert format_named("float32") is None
    assert isinstance(format_named("int8"), Int8)
