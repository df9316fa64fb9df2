"""Starts a benchmark where it was asked for."""

from __future__ import annotations

import os
import re
from dataclasses import replace

from ds_core.errors import ConfigError, DsError, RefusedError
from ds_nccl_ring.bench.figures import Figures
from ds_nccl_ring.bench.options import Options
from ds_nccl_ring.show import under_torchrun


def here(options: Options) -> Figures | None:
    """Take part as one of torchrun's ranks; rank 0 has the figures.

    Raises:
        RefusedError: This process is a single one.
    """
    if not under_torchrun():
        raise RefusedError(
            "A single process has nobody to reduce with.",
            mend="Start it with torchrun ... -m ds_core topology bench, or add --emulate 4x2.",
        )
    from ds_nccl_ring.bench.job import benchmark

    return benchmark(options)


def emulated(shape: str, rate: str, options: Options) -> Figures:
    """Run on an emulated cluster, such as `4x2`: four hosts of two ranks.

    Raises:
        ConfigError: The shape is none.
        EmulationUnavailable: This machine cannot emulate one.
    """
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", shape)
    if found is None:
        raise ConfigError(
            f"--emulate {shape!r} is no cluster.",
            mend="Write hosts and ranks on each, as 4x2.",
        )
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # emulated hosts have no DNS names
    import torch  # noqa: F401 - once, before ranks are forked

    from ds_nccl_ring.bench.job import benchmark
    from ds_nccl_ring.emulated_cluster import EmulatedCluster, RankError

    hosts, ranks = int(found[1]), int(found[2])
    turns = len(options.sizes) * len(options.variants)
    with EmulatedCluster(hosts, ranks, rate) as cluster:
        told = replace(options, rate=cluster.rate, emulated=True)
        # Longer than a benchmark within its budget takes, with a slow first call of each.
        timeout = 120 + turns * (2 * options.budget + 60)
        try:
            figures = cluster.run(benchmark, told, timeout=timeout)[0]
        except RankError as error:
            if isinstance(error.__cause__, DsError):  # a sentence for the user, not for us
                raise error.__cause__ from None
            raise
    assert figures is not None
    return figures
