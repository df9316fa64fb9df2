"""Several hosts on this machine: forked processes, each with the name of a host."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
import traceback
from pathlib import Path

import torch
import torch.distributed as dist
from ds_nccl_ring.group import Group
from ds_nccl_ring.placement import Host, Placement
from ds_nccl_ring.plan import TopologyPlan

# Its first call imports much, which each forked process would do anew.
torch.testing.assert_close(torch.ones(1), torch.ones(1))

KIB = 1 << 10


def placement(*hosts):
    """Hosts a, b, ... with these ranks."""
    return Placement(
        tuple(
            Host(name, tuple(ranks), "127.0.0.1")
            for name, ranks in zip("abcdefgh", hosts, strict=False)
        ),
        "DS_NODE",
    )


def contiguous(hosts, ranks):
    """So many hosts with so many ranks each."""
    return placement(*(range(host * ranks, (host + 1) * ranks) for host in range(hosts)))


class Ranks:
    """Calls `job(group, *arguments)` in a process for each rank of a placement."""

    def __init__(self, placement, job, *arguments, wire="float32", chunk=256 * KIB, **options):
        self.placement = placement
        self._folder = Path(tempfile.mkdtemp(prefix="ds-ring-test-"))
        context = multiprocessing.get_context("fork")
        plan = TopologyPlan.of(placement, wire=wire, chunk_bytes=chunk)
        self._pipes = []
        self.processes = []
        for rank in range(placement.size):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=self._run,
                args=(rank, theirs, plan, job, arguments, {"timeout": 60, **options}),
                daemon=True,
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)

    def _run(self, rank, pipe, plan, job, arguments, options):
        os.environ.pop("GLOO_SOCKET_IFNAME", None)
        torch.set_num_threads(1)
        size = self.placement.size
        store = dist.FileStore(str(self._folder / "store"), size)
        group = Group(store, rank, size, self.placement, plan, **options)
        try:
            pipe.send((True, job(group, *arguments)))
        except BaseException:
            pipe.send((False, traceback.format_exc()))
        finally:
            group.close()

    def results(self, timeout=60, without=()):
        """What the job returned in each rank; fails where one raised, or did not end."""
        found = {}
        try:
            for rank, pipe in enumerate(self._pipes):
                if rank not in without:
                    assert pipe.poll(timeout), f"rank {rank} did not end"
                    fine, value = pipe.recv()
                    assert fine, f"rank {rank}: {value}"
                    found[rank] = value
            for rank, process in enumerate(self.processes):
                if rank not in without:
                    process.join(timeout)
                    assert process.exitcode == 0, f"rank {rank} ended with {process.exitcode}"
        finally:
            for process in self.processes:
                process.kill()
                process.join()
            shutil.rmtree(self._folder)
        return found


def run(placement, job, *arguments, **options):
    """What the job returned in each rank, in order."""
    results = Ranks(placement, job, *arguments, **options).results()
    return [results[rank] for rank in range(placement.size)]
