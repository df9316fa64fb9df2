"""The suite of topologies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from ds_core.testing import jobs
from ds_core.testing.conformance.checks import check
from ds_core.testing.conformance.metadata import MetadataChecks
from ds_core.testing.conformance.sessions import SessionChecks

SCRIPT = Path(__file__).with_name("two_ranks.py")


class TopologyConformance(SessionChecks, MetadataChecks):
    """All checks of a topology, those of one process and those of two."""

    kind = "topology"
    tolerance: ClassVar[float] = 0.0

    rank_tolerance: ClassVar[float] = 1e-4
    """How far two ranks' weights may be from one rank's on the whole batch, relatively."""

    def ranks(self, folder: Path, **options: Any) -> list[dict[str, Any]]:
        """What each of two ranks found, started by torchrun with one thread each."""
        asked = {
            "topology": {"name": self.name, **self.options},
            "backend": self.backend,
            "precision": "fp32",
            **options,
        }
        done = subprocess.run(
            [
                *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
                *("--nproc-per-node", "2", str(SCRIPT), json.dumps(asked), str(folder)),
            ],
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr.strip()[-2000:]
        return [json.loads((folder / f"rank{rank}.json").read_text()) for rank in range(2)]

    @pytest.fixture(scope="class")
    @classmethod
    def plain_pair(cls, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
        """Two ranks that trained a few steps and detached."""
        return cls().ranks(tmp_path_factory.mktemp("ranks"))

    @check(
        "topology.equal",
        "all ranks must hold the same weights after each step",
        "Start from rank 0's weights and give every rank the same averaged gradients.",
    )
    def test_ranks_stay_equal(self, plain_pair: list[dict[str, Any]]) -> None:
        assert plain_pair[0]["weights"] == plain_pair[1]["weights"]

    @check(
        "topology.average",
        "two ranks with half a batch each must train like one with the whole",
        "Average gradients over ranks: sum, then divide by their number.",
    )
    def test_two_ranks_are_one_larger_batch(self, plain_pair: list[dict[str, Any]]) -> None:
        from ds_core.testing.conformance.two_ranks import alone

        torch.testing.assert_close(
            torch.tensor(plain_pair[0]["weights"]),
            torch.tensor(alone()),
            rtol=self.rank_tolerance,
            atol=self.rank_tolerance,
        )

    @check(
        "topology.detach",
        "after detach each rank is alone again",
        "Remove reducers and hooks in session.changes.on_undo.",
    )
    def test_detach_ends_it(self, plain_pair: list[dict[str, Any]]) -> None:
        assert plain_pair[0]["clean"]
        assert plain_pair[1]["clean"]
        assert plain_pair[0]["own gradient"] != plain_pair[1]["own gradient"]

    @check(
        "topology.agreement",
        "components decide alike on all ranks through session.all_reduce",
        "Implement ds_all_reduce for sum, max and min, in place, and return True.",
    )
    @pytest.mark.parametrize(("op", "expected"), [("sum", 3.0), ("max", 2.0), ("min", 1.0)])
    def test_all_reduce(self, plain_pair: list[dict[str, Any]], op: str, expected: float) -> None:
        assert [one["reduced"][op] for one in plain_pair] == [expected, expected]

    @check(
        "topology.group",
        "whoever makes a process group destroys it, and nobody else",
        "Destroy the default group at detach only where the component made it.",
    )
    @pytest.mark.parametrize("own", [False, True], ids=["made", "given"])
    def test_the_process_group(self, own: bool, tmp_path: Path) -> None:
        assert [one["group"] for one in self.ranks(tmp_path, own_group=own)] == [own, own]

    @check(
        "topology.again",
        "a job may attach, detach and attach again",
        "Make each process group under a prefix of its own in the store.",
    )
    def test_ranks_attach_again(self, tmp_path: Path) -> None:
        found = self.ranks(tmp_path, times=2)
        assert found[0]["weights"] == found[1]["weights"]
        assert not found[0]["group"]

    @check(
        "topology.overflow",
        "a step that overflows on one rank must be skipped on all",
        "Implement ds_all_reduce, which the session asks.",
    )
    def test_an_overflow_on_one_rank(self, tmp_path: Path) -> None:
        found = self.ranks(tmp_path, precision="fp16", overflow=True)
        assert [one["skipped"] for one in found] == [{"overflow": 1}] * 2
        assert found[0]["weights"] == found[1]["weights"]

    @check(
        "topology.accumulation",
        "gradients may be accumulated over several backward passes",
        "Reduce what has been accumulated to the same average: in each backward, or where "
        "session.synchronising is False, in the next one.",
    )
    @pytest.mark.parametrize("no_sync", [False, True])
    def test_accumulation(
        self, no_sync: bool, tmp_path: Path, plain_pair: list[dict[str, Any]]
    ) -> None:
        found = self.ranks(tmp_path, accumulate=2, no_sync=no_sync)
        assert found[0]["weights"] == found[1]["weights"]
        torch.testing.assert_close(
            torch.tensor(found[0]["weights"]),
            torch.tensor(plain_pair[0]["weights"]),
            rtol=self.rank_tolerance,
            atol=self.rank_tolerance,
        )

    @check(
        "topology.buffers",
        "a model saved by any rank must be the same model",
        "Keep BatchNorm's buffers equal, or say in the docstring that rank 0 saves.",
    )
    def test_buffers_start_equal(self, plain_pair: list[dict[str, Any]]) -> None:
        assert plain_pair[0]["first buffers"] == plain_pair[1]["first buffers"]

    @check(
        "topology.one-process",
        "the same script must run in one process",
        "Do nothing where there is no process group and no launcher.",
    )
    def test_one_process(self) -> None:
        made, optimizer = self.job(jobs.Conv)
        with self.session(made, optimizer) as session:
            assert session.all_reduce(torch.tensor(3.0), "sum").item() == 3.0
            self.train(session, 2)
