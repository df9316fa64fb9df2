"""Targets are checked when they are made."""

import pytest
from ds_prune.target import Target

from ds_core.errors import ConfigError


def test_what_is_given_is_what_is_bounded():
    target = Target.of(flops=0.37, latency=0.5, min_kept=0.2)
    assert target.bounds() == {"flops": 0.37, "latency": 0.5}
    assert not Target.of(ratio=0.4).bounds()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "at least one of flops, params, latency, ratio and layers"),
        ({"min_kept": 0.2}, "at least one of flops"),
        ({"flops": 0}, "'flops' cannot be 0"),
        ({"flops": 1.5}, "'flops' cannot be 1.5"),
        ({"params": "half"}, "'params' cannot be 'half'"),
        ({"ratio": 1}, "'ratio' cannot be 1"),
        ({"ratio": 0.95}, "ratio=0.95 leaves less of each group than min_kept=0.1"),
        ({"layers": {"stem": 1.0}}, "'layers.stem' cannot be 1.0"),
        ({"flop": 0.5}, "Did you mean 'flops'?"),
        ({"flops": float("nan")}, "'flops' cannot be nan"),
    ],
)
def test_a_bad_value_is_named(values, words):
    with pytest.raises(ConfigError, match=r"the target") as caught:
        Target.of(**values)
    assert words in str(caught.value)


def test_shares_that_add_up_to_one_leave_exactly_the_least():
    assert Target.of(ratio=0.7, min_kept=0.3).ratio == 0.7
