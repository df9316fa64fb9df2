"""Laws of packing in few bits."""

import pytest
import torch
from ds_dmp.lean.noise import LENGTH, Noise
from ds_dmp.lean.planes import pack_planes, unpack_planes
from ds_dmp.lean.quantize import GROUP, quantize
from hypothesis import given, settings
from hypothesis import strategies as st

NOISE = Noise(0)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
BITS = (8, 4, 2)
CASES = {
    "normal": lambda n: torch.randn(n),
    "relu": lambda n: torch.randn(n).relu(),
    "dropout": lambda n: torch.randn(n) * (torch.rand(n) > 0.3),
    "far from zero": lambda n: 100 + torch.randn(n),
    "below zero": lambda n: -3 - torch.rand(n),
    "not above zero": lambda n: -torch.randn(n).relu(),
    "constant": lambda n: torch.full((n,), 5.0),
    "zeros": lambda n: torch.zeros(n),
    "tiny": lambda n: torch.randn(n) * 1e-6,
    "tiny relu": lambda n: torch.randn(n).relu() * 3e-7,
    "heavy tails": lambda n: torch.randn(n) ** 3,
    "two values": lambda n: (torch.rand(n) > 0.5) / 0.9,
}


def packed(values, bits):
    got = quantize(values, bits, NOISE)
    assert got is not None
    return got, got.dequantize()


def steps(quantized, values):
    """Each element's step, with what rounding to the dtype adds."""
    step = quantized.step.expand(-1, GROUP).flatten()[: len(values)]
    eps = torch.finfo(values.dtype)
    return step * 1.001 + (step + values.abs()) * max(eps.eps, 2.0**-19) + eps.smallest_normal


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("case", CASES)
def test_each_value_comes_back_within_a_step_and_zeros_as_zeros(case, bits, dtype):
    for numel in (1, 255, 4096):
        check(CASES[case](numel).to(dtype), bits)


@pytest.mark.parametrize("case", ["dropout", "relu"])
def test_so_it_is_in_many_windows_of_noise(case):
    check(CASES[case](2 * LENGTH + 300), 4)


def check(values, bits):
    numel, dtype = values.numel(), values.dtype
    quantized, back = packed(values, bits)
    assert back.dtype == dtype
    assert back.shape == values.shape
    assert ((back.float() - values.float()).abs() <= steps(quantized, values)).all()
    assert (back[values == 0] == 0).all()
    if values.min() >= 0:
        assert torch.equal(back == 0, values == 0)
        assert (back >= 0).all()
    groups = -(-numel // GROUP)
    assert quantized.nbytes == groups * (GROUP * bits // 8 + 8)


floats = st.floats(width=32, min_value=-(2.0**120), max_value=2.0**120)


@settings(max_examples=200, deadline=None)
@given(st.lists(floats, min_size=1, max_size=600), st.sampled_from(BITS), st.booleans())
def test_any_float32_numbers(numbers, bits, positive):
    values = torch.tensor(numbers, dtype=torch.float32)
    values = values.abs() if positive else values
    quantized, back = packed(values, bits)
    assert back.isfinite().all()
    assert ((back - values).abs() <= steps(quantized, values)).all()
    assert (back[values == 0] == 0).all()
    if positive:
        assert torch.equal(back == 0, values == 0)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("case", ["normal", "relu", "dropout", "far from zero", "below zero"])
def test_rounding_is_unbiased(case, bits):
    values = CASES[case](4096)
    draws = 300
    noise = Noise(1)
    mean = sum(quantize(values, bits, noise).dequantize().double() for _ in range(draws)) / draws
    error = (mean - values) / steps(quantize(values, bits, noise), values)
    # One draw errs by at most half a step in standard deviation.
    assert error.abs().max() < 5.5 * 0.5 / draws**0.5
    assert abs(error.mean()) < 5 * 0.5 / (draws * 4096) ** 0.5 + 1e-4


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
@pytest.mark.parametrize("place", [0, 5000, -1])
def test_what_is_not_finite_is_not_packed(bad, place):
    values = torch.randn(9000)
    values[place] = bad
    assert quantize(values, 8, NOISE) is None


def test_the_largest_float16_numbers_do_not_become_infinite():
    values = torch.full((512,), 65504.0, dtype=torch.float16)
    values[::2] = -1
    assert quantize(values, 4, NOISE) is None


@given(st.integers(1, 40), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**32))
def test_planes_come_back(eights, bits, seed):
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(2**bits, (8 * eights,), generator=generator, dtype=torch.uint8)
    packed = pack_planes(numbers, bits)
    assert packed.numel() == eights * bits
    assert torch.equal(unpack_planes(packed, bits), numbers)


def test_noise_is_uniform_and_goes_on_where_it_stood():
    noise = Noise(3)
    cpu = torch.device("cpu")
    first = noise.integers(cpu)
    assert torch.equal(first.bincount(minlength=2**16), torch.full((2**16,), LENGTH // 2**16))
    following = [noise.uniform(cpu) for _ in range(3)]
    assert not torch.equal(following[0], following[1])
    other = Noise(7)
    other.load(noise.seed, 1)
    assert all(torch.equal(other.uniform(cpu), one) for one in following)


def test_torchs_own_numbers_are_not_touched():
    before = torch.get_rng_state()
    quantize(torch.ones(5000), 4, Noise(9))
    assert torch.equal(torch.get_rng_state(), before)
