"""Few lengths for many: what padding to buckets keeps, and what it costs."""

import pytest
import torch
from ds_gaudi.bucketing import Buckets
from hypothesis import given
from hypothesis import strategies as st

from ds_core.errors import ConfigError, RefusedError

LONGEST, STEP, GROWTH = st.integers(1, 5000), st.integers(1, 256), st.floats(1.01, 3)


@given(LONGEST, STEP, GROWTH, st.data())
def test_every_length_fits_with_little_waste(longest, step, growth, data):
    buckets = Buckets.up_to(longest, step=step, growth=growth)
    length = data.draw(st.integers(1, longest))
    size = buckets.fit(length)
    assert size >= length
    assert size % step == 0
    assert size - length < max(step, (growth - 1) * length + step)
    assert list(buckets.sizes) == sorted(set(buckets.sizes))


def test_the_lengths_are_few():
    assert len(Buckets.up_to(2**17).sizes) < 40


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.data())
def test_padding_keeps_what_was_there(shape, data):
    dim = data.draw(st.integers(-len(shape), len(shape) - 1))
    tensor = torch.randn(shape)
    padded = Buckets((4, 8)).pad(tensor, dim=dim, value=-1)
    assert padded.shape[dim] in (4, 8)
    assert torch.equal(padded.narrow(dim, 0, tensor.shape[dim]), tensor)
    rest = padded.narrow(dim, tensor.shape[dim], padded.shape[dim] - tensor.shape[dim])
    assert bool((rest == -1).all())


def test_what_is_too_long_is_refused_with_a_mend():
    with pytest.raises(RefusedError, match="length 9") as caught:
        Buckets((4, 8)).pad(torch.zeros(9))
    assert "up to 9" in caught.value.mend


@pytest.mark.parametrize("given", [{"longest": 0}, {"longest": 8, "growth": 1.0}])
def test_impossible_buckets(given):
    with pytest.raises(ConfigError):
        Buckets.up_to(**given)
