"""Data parallelism over all ranks alike, with torch's own reducer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ds_core.components import DataParallel

if TYPE_CHECKING:
    from ds_core.components import Backend


class Flat(DataParallel):
    """Averages gradients over the default process group while backward still runs."""

    name = "flat"
    rank = 1

    def explain(self, backend: Backend) -> list[str]:
        library = backend.distributed_backend()
        ranks = os.environ.get("WORLD_SIZE")
        where = f"over {library} between {ranks} ranks" if ranks else "once torchrun starts ranks"
        return [f"averages gradients in buckets of {self.config.bucket_mb:g} MiB {where}"]

    def report(self) -> dict[str, Any]:
        if self.ranks == 1:
            return {"ranks": 1, "note": "a single process: nothing to reduce"}
        import torch.distributed as dist

        return {"ranks": dist.get_world_size(), "backend": dist.get_backend()}
