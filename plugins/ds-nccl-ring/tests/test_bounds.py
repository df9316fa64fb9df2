"""Bounds: what has to cross an uplink."""

import pytest
from ds_nccl_ring.bounds import WIRE_SHARE, bus_factor, lower_bound, parse_size, uplink_bytes
from ds_nccl_ring.wire.formats import format_named
from hypothesis import given
from hypothesis import strategies as st

from ds_core.errors import ConfigError
from ds_core.testing.emulated_cluster import lower_bound as core_bound

sizes = st.integers(1, 1 << 34)
hosts = st.integers(1, 1024)


@given(sizes, hosts)
def test_the_bound_is_the_cores(nbytes, hosts):
    assert lower_bound(nbytes, hosts, 25e6) == pytest.approx(core_bound(nbytes, "200mbit", hosts))


@given(sizes, hosts)
def test_more_hosts_send_more_but_never_twice_the_tensor(nbytes, hosts):
    assert uplink_bytes(nbytes, hosts) < uplink_bytes(nbytes, hosts + 1) < 2 * nbytes
    assert uplink_bytes(nbytes, 1) == 0


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
def test_the_share_of_a_format_is_what_it_encodes_to(wire):
    values = 256 * 1000
    assert format_named(wire).size(values) == WIRE_SHARE[wire] * 4 * values


def test_the_bus_factor_is_nccl_tests():
    assert bus_factor(2) == 1
    assert bus_factor(8) == 1.75


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("64KiB", 65536), ("25 MiB", 25 << 20), ("1.5m", 3 << 19), ("2GB", 2 << 30)],
)
def test_sizes_are_read(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "-1MiB", "big", "1TiB"])
def test_what_is_no_size_is_named(text):
    with pytest.raises(ConfigError, match="no size"):
        parse_size(text)
