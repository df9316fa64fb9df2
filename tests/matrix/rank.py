"""One of two ranks that try combinations one after another; started by torchrun."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from tests.matrix.combinations import Combination, attempt


def main(orders):
    """Write one line for each combination beside the orders."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank = int(os.environ["RANK"])
    with (orders.parent / f"rank{rank}.jsonl").open("a") as file:
        for order in json.loads(orders.read_text()):
            result = attempt(Combination(*order), rank)
            file.write(json.dumps(result) + "\n")
            file.flush()
            dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
