"""Jobs as torchrun would start them, but forked from one process that has imported torch."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
import socket
import tempfile
import time
import traceback
from pathlib import Path

import torch
import torch._dynamo  # imported once here rather than in every rank
import torch.distributed as dist
import torch.distributed.fsdp
import torch.nn.parallel.distributed

import ds_core as ds

ds.attach(torch.nn.Linear(1, 1), backend="cpu").detach()  # whatever that imports, too


class Job:
    """Runs `function(*arguments)` in a process for each rank, with torchrun's variables.

    `hosts` are numbers of ranks; each host is told apart by DS_NODE. Ranks do not see the variables
    in `environment` that are None.
    """

    def __init__(self, hosts, function, *arguments, environment=None, nodes=True):
        self._folder = Path(tempfile.mkdtemp(prefix="ds-ring-job-"))
        context = multiprocessing.get_context("fork")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.hosts = [f"host{number}" for number, ranks in enumerate(hosts) for _ in range(ranks)]
        self._pipes, self.processes = [], []
        for rank, host in enumerate(self.hosts):
            variables = {
                "RANK": str(rank),
                "WORLD_SIZE": str(len(self.hosts)),
                "LOCAL_RANK": str(self.hosts[:rank].count(host)),
                "LOCAL_WORLD_SIZE": str(self.hosts.count(host)),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "DS_NODE": host if nodes else None,
                "DS_RING_CALIBRATE": "0",
                **(environment or {}),
            }
            ours, theirs = context.Pipe()
            process = context.Process(
                target=self._run, args=(theirs, variables, function, arguments), daemon=True
            )
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self.processes.append(process)

    def _run(self, pipe, variables, function, arguments):
        os.environ.update({name: value for name, value in variables.items() if value is not None})
        for name, value in variables.items():
            if value is None:
                os.environ.pop(name, None)
        torch.set_num_threads(1)
        try:
            # Pickled here: a pipe of its own accord would send tensors as shared memory.
            pipe.send_bytes(pickle.dumps((True, function(*arguments))))
        except BaseException as error:
            said = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            pipe.send_bytes(pickle.dumps((False, said)))
            os._exit(1)
        if dist.is_initialized():
            dist.destroy_process_group()
        os._exit(0)

    def kill(self, rank):
        """As if its machine had lost power, but that connections close."""
        self.processes[rank].kill()

    def said(self, timeout=90, without=()):
        """For each rank that is not left out: whether it returned, and what, or its error."""
        found = {}
        end = time.monotonic() + timeout
        try:
            for rank, pipe in enumerate(self._pipes):
                if rank in without:
                    continue
                assert pipe.poll(max(0.1, end - time.monotonic())), f"rank {rank} did not end"
                found[rank] = pickle.loads(pipe.recv_bytes())
            return found
        finally:
            for process in self.processes:
                process.join(2)
                process.kill()
                process.join()
            shutil.rmtree(self._folder, ignore_errors=True)

    def results(self, timeout=90, without=()):
        """What each rank returned, in order; fails where one raised."""
        found = self.said(timeout, without)
        for rank, (fine, value) in found.items():
            assert fine, f"rank {rank}: {value}"
        return [value for _, value in found.values()]


def job(hosts, function, *arguments, **options):
    """What the function returned in each rank."""
    return Job(hosts, function, *arguments, **options).results()
