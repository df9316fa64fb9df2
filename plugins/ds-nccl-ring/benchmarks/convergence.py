"""Does a rounded wire train as well? int8 with error feedback and bfloat16 against float32.

    python plugins/ds-nccl-ring/benchmarks/convergence.py --data FOLDER [--steps 400] [--seeds 3]
        [--wires float32,bfloat16,int8] [--json]

A small transformer learns the next character of tinyshakespeare (FOLDER/tinyshakespeare.txt), on
two ranks of two hosts each, in a session with topology `hier-ring` that uses the wire's format at
every size from 64 KiB up. Validation loss after the same steps, for each seed, and the differences
to float32 of the same seed. Hosts are processes on this machine that DS_NODE tells apart.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
from pathlib import Path

os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import torch
import torch._dynamo  # imported here once, rather than in every rank
import torch.nn.parallel.distributed
from torch import nn
from torch.nn import functional as F

import ds_core as ds

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from forked import Job

CONTEXT, WIDTH, BATCH = 64, 96, 16


class Writer(nn.Module):
    """Two layers of attention over characters."""

    def __init__(self, letters):
        super().__init__()
        self.letters = nn.Embedding(letters, WIDTH)
        self.places = nn.Embedding(CONTEXT, WIDTH)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 4, 4 * WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH, letters)

    def forward(self, x):
        mask = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        x = self.letters(x) + self.places.weight[: x.shape[1]]
        return self.head(self.body(x, mask=mask, is_causal=True))


def batch(text, generator, size):
    starts = torch.randint(len(text) - CONTEXT - 1, (size,), generator=generator)
    windows = torch.stack([text[start : start + CONTEXT + 1] for start in starts.tolist()])
    return windows[:, :-1], windows[:, 1:]


def loss_of(model, x, y):
    return F.cross_entropy(model(x).flatten(0, 1), y.flatten())


def train(file, wire, seed, steps):
    """Validation loss, the same on all ranks, and bytes that this rank sent between hosts."""
    characters = Path(file).read_text()
    letters = {letter: number for number, letter in enumerate(sorted(set(characters)))}
    text = torch.tensor([letters[letter] for letter in characters])
    learn, hold = text[: len(text) * 9 // 10], text[len(text) * 9 // 10 :]
    torch.manual_seed(seed)
    model = Writer(len(letters))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    topology = {"name": "hier-ring", "wire": wire, "calibrate": False}
    session = ds.attach(model, optimizer, backend="cpu", topology=topology)
    generator = torch.Generator().manual_seed(1000 * seed + int(os.environ["RANK"]))
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = (
                2e-3 * min(1, (step + 1) / 50) * (1 + math.cos(math.pi * step / steps)) / 2
            )
        loss_of(model, *batch(learn, generator, BATCH)).backward()
        optimizer.step()
        optimizer.zero_grad()
    sent = sum(session.components[-1]._carrier.bytes_sent.values())
    session.detach()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        losses = [loss_of(model, *batch(hold, generator, 64)).item() for _ in range(8)]
    return statistics.mean(losses), sent


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--wires", default="float32,bfloat16,int8")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    file = str((options.data / "tinyshakespeare.txt").resolve())
    wires = options.wires.split(",")
    losses, sent = {wire: [] for wire in wires}, {}
    for seed in range(options.seeds):
        for wire in wires:
            results = Job((2, 2), train, file, wire, seed, options.steps).results(timeout=1800)
            losses[wire].append(results[0][0])
            sent[wire] = results[0][1]
    exact = losses["float32"]
    rows = [
        {
            "wire": wire,
            "losses": losses[wire],
            "mean": statistics.mean(losses[wire]),
            "difference": statistics.mean(a - b for a, b in zip(losses[wire], exact, strict=True)),
            "bytes": sent[wire] / sent["float32"],
        }
        for wire in wires
    ]
    if options.json:
        print(json.dumps({"steps": options.steps, "rows": rows}, indent=2))
        return
    spread = max(exact) - min(exact)
    print(f"validation loss after {options.steps} steps; float32's seeds differ by {spread:.4f}")
    print(f"{'':10}{'bytes':>7}{'mean':>9}{'- float32':>11}   of each seed")
    for row in rows:
        each = "  ".join(f"{loss:.4f}" for loss in row["losses"])
        figures = f"{row['bytes']:7.3f}{row['mean']:9.4f}{row['difference']:+11.4f}"
        print(f"{row['wire']:10}{figures}   {each}")


if __name__ == "__main__":
    main()
