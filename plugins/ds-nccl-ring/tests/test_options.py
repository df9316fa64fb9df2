"""Variables that set up the backend."""

import pytest
from ds_nccl_ring.options import RingOptions

from ds_core.errors import ConfigError


def test_nothing_said_is_the_default():
    assert RingOptions.from_environment({"DS_RING_WIRE": ""}) == RingOptions()


def test_all_of_them():
    variables = {
        "DS_RING_WIRE": "bfloat16",
        "DS_RING_CHUNK_BYTES": "1048576",
        "DS_RING_CALIBRATE": "0",
    }
    expected = RingOptions(wire="bfloat16", chunk_bytes=1 << 20, calibrate=False)
    assert RingOptions.from_environment(variables) == expected


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("DS_RING_WIRE", "int4"),
        ("DS_RING_CHUNK_BYTES", "many"),
        ("DS_RING_CHUNK_BYTES", "1000"),
        ("DS_RING_CALIBRATE", "perhaps"),
    ],
)
def test_a_wrong_value_is_named(variable, value):
    with pytest.raises(ConfigError, match=variable) as caught:
        RingOptions.from_environment({variable: value})
    assert value in str(caught.value)
