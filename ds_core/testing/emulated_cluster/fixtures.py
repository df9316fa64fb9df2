"""For pytest: clusters that skip their tests, with the reason, where none can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import pytest

from ds_core.testing.emulated_cluster.cluster import EmulatedCluster
from ds_core.testing.emulated_cluster.network import unavailable_reason

requires_emulated_cluster = pytest.mark.skipif(
    unavailable_reason() is not None, reason=unavailable_reason() or ""
)
"""Mark of a test or class that makes an `EmulatedCluster` itself."""


def emulated_cluster(
    hosts: int | None = None,
    ranks_per_host: int | Sequence[int] = 1,
    rate: str | int | None = None,
    mtu: int = 9000,
    *,
    scope: Literal["function", "class", "module", "package", "session"] = "module",
) -> Callable[..., Any]:
    """A fixture that gives a cluster, and skips where there can be none.

        cluster = emulated_cluster(hosts=2, ranks_per_host=2, rate="200mbit")

        def test_sum(cluster):
            cluster.run([sys.executable, "sum.py"], timeout=60).check()

    Args:
        hosts: As in `EmulatedCluster`.
        ranks_per_host: As in `EmulatedCluster`.
        rate: As in `EmulatedCluster`.
        mtu: As in `EmulatedCluster`.
        scope: How long a cluster lives; making one takes about a tenth of a second.
    """

    @pytest.fixture(scope=scope)
    def fixture() -> Iterator[EmulatedCluster]:
        cluster = EmulatedCluster(hosts, ranks_per_host, rate, mtu)
        if reason := unavailable_reason():
            pytest.skip(reason)
        with cluster:
            yield cluster

    return fixture
