"""Checks of the component beside others, and of its price."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from ds_core.demo.measure import interleaved
from ds_core.registry import installed
from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.trains import Trains


def others(kind: str) -> list[tuple[str, str]]:
    """The core's own components of all other kinds that a session takes."""
    return [
        (record.kind, record.full_name)
        for record in installed().records()
        if record.distribution == "ds-core"
        and record.kind in ("precision", "pruner", "topology", "observer")
        and record.kind != kind
    ]


class NeighbourChecks(Trains):
    """It composes, and says what it costs."""

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Compose with each of the core's own components of every other kind."""
        if "neighbour" in metafunc.fixturenames:
            found = others(self.kind)
            metafunc.parametrize("neighbour", found, ids=[f"{k}-{n}" for k, n in found])

    @check(
        "compose.neighbour",
        "users combine components freely",
        "Change only what is yours, or declare the conflict in `conflicts` and `requires`.",
    )
    def test_composes(self, neighbour: tuple[str, str]) -> None:
        from ds_core.compose import make
        from ds_core.config import Choice

        made, optimizer = self.job()
        before = jobs.snapshot(made, optimizer)
        part = make(installed(), neighbour[0], Choice(name=neighbour[1]))
        with self.session(made, optimizer, part, total_steps=20) as session:
            losses = self.train(session, 20)
        assert all(map(math.isfinite, losses))
        assert sum(losses[-5:]) < sum(losses[:5]), losses
        assert jobs.snapshot(made, optimizer) == before

    @check(
        "overhead.step",
        "users want to know what a component costs a step",
        "Nothing: the figure is printed and recorded, not judged.",
    )
    def test_overhead(self, record_property: Callable[[str, Any], None]) -> None:
        plain, plain_optimizer = self.job()
        made, optimizer = self.job()
        with self.session(made, optimizer) as session:
            device = session.device
            first, second = interleaved(
                [
                    lambda: jobs.train(plain, plain_optimizer, 5),
                    lambda: jobs.train(made, optimizer, 5, device=device),
                ],
                repeats=15,
            )
        ratio = second.median / first.median
        record_property("overhead", round(ratio, 3))
        print(f"a step of a tiny model costs {ratio:.2f}x of a plain one")  # noqa: T201
