"""Memory that a training step of ResNet-152 needs, by precision policy.

    python plugins/ds-dmp/benchmarks/memory.py [--batch 32] [--policies fp32,dmp] [--json]

On CUDA, what a step needs beyond weights, gradients and optimizer state is the peak that the
allocator saw, at the true batch. On a CPU it is what is alive between forward and backward: every
storage that an operation made and that is still there, whoever keeps it (autograd, packed or not,
and casts of weights), without weights, buffers, batch and output. It is measured on slices of the
batch; the line through the two smallest is extrapolated to the batch and checked against the
largest. 16-bit arithmetic is emulated where it is slow: bytes are the same.

Weights stand still, so that all policies' gradients are of the same weights and batch. Errors are
norms of differences over norms.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from typing import Any

import click
import torch
from measuring import Arithmetic, Job, Training, arithmetic, details, met, number, table
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import ResNetConfig, ResNetForImageClassification
from transformers.models.resnet.modeling_resnet import ResNetBottleNeckLayer

from ds_core.demo.measure import saved_bytes

POLICIES: dict[str, str | dict[str, Any]] = {
    "fp32": "fp32",
    "autocast": "autocast",
    "dmp": {"name": "dmp"},
    "dmp lean": {"name": "dmp", "memory": "lean"},
    "dmp lean+": {"name": "dmp", "memory": "lean+"},
}
GOALS = {"autocast": 0.58, "dmp": 0.58, "dmp lean": 0.42, "dmp lean+": 0.30}
"""Of all that a step needs, float32 being 1."""
ADDS = {
    "dmp": ("fp32", "16-bit layers"),
    "dmp lean": ("dmp", "8-bit activations, recomputed norms and activation functions"),
    "dmp lean+": ("dmp lean", "4-bit activations, optimizer state in bfloat16"),
}
LAST = 0.1
"""Scale of each block's last normalisation, for gradients that can be compared. Goyal et al.
(arXiv:1706.02677) begin with 0; from 1, as the default is, two roundings of so deep a net that has
learnt nothing yet have unrelated gradients."""
WARM_UP = 4
"""Steps before anything is measured; dmp looks at the first, second and fourth."""


class ResNet152(nn.Module):
    """transformers' layers, which are torchvision's, with a bare tensor as output."""

    def __init__(self) -> None:
        super().__init__()
        widths = [256, 512, 1024, 2048]
        config = ResNetConfig(depths=[3, 8, 36, 3], hidden_sizes=widths, num_labels=1000)
        self.net = ResNetForImageClassification(config)
        assert sum(parameter.numel() for parameter in self.parameters()) == 60_192_808
        for block in self.modules():
            if isinstance(block, ResNetBottleNeckLayer):
                nn.init.constant_(block.layer[-1].normalization.weight, LAST)

    def forward(self, images: Tensor) -> Tensor:
        """Scores `[N, 1000]` of images `[N, 3, H, W]`."""
        scores: Tensor = self.net(images).logits
        return scores


def kept(training: Training, images: Tensor) -> int:
    """Bytes that one forward keeps for its backward, whoever keeps them."""
    with training.place.autocast(training.low):
        return saved_bytes(training.job.model, images)


def handed_to_autograd(training: Training, images: Tensor) -> int:
    """The same by another way of counting: the storages of what autograd is given to save."""
    model = training.job.model
    known = {t.untyped_storage()._cdata for t in (*model.parameters(), *model.buffers(), images)}
    found: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage()._cdata not in known:
            found[tensor.untyped_storage()._cdata] = tensor.detach()
        return tensor.detach()

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        training.place.autocast(training.low),
    ):
        output = model(images)
    total = sum(tensor.untyped_storage().nbytes() for tensor in found.values())
    del output
    return total


def peak(training: Training) -> int:
    """Bytes that a forward and backward need at most beyond what is there before."""
    training.optimizer.zero_grad(set_to_none=False)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    training.backward()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def nbytes(values: Iterable[Any]) -> int:
    """Of all tensors among them."""
    return sum(value.nbytes for value in values if isinstance(value, Tensor))


def measure(policy: str, place: Arithmetic, options: argparse.Namespace) -> dict[str, Any]:
    """One policy's bytes, and its gradient."""
    start = time.perf_counter()
    slices = [options.batch] if place.device == "cuda" else sorted(options.slices)
    data = torch.Generator().manual_seed(1)
    shape = max(slices), 3, options.side, options.side
    images = torch.randn(shape, generator=data).to(place.device)
    labels = torch.randint(1000, shape[:1], generator=data).to(place.device)
    torch.manual_seed(0)
    model = ResNet152().to(place.device)
    shown = slices[:2][-1]
    job = Job(model, lambda net: cross_entropy(net(images[:shown]).float(), labels[:shown]))
    precision = POLICIES[policy]
    if isinstance(precision, dict):
        precision = {**precision, "cost_gate": not place.emulated}
    training = Training(job, place, precision, lr=0.0)
    for _ in range(WARM_UP):
        training.step()
    training.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    state = [value for one in training.optimizer.state.values() for value in one.values()]
    row: dict[str, Any] = {
        "policy": policy,
        "gradient": torch.cat([gradient.float().flatten().cpu() for gradient in gradients]),
        "weights+gradients": nbytes(model.parameters()) + nbytes(gradients),
        "optimizer": nbytes(state),
    }
    if place.device == "cuda":
        row["kept"] = peak(training)
    else:
        training.optimizer.zero_grad()
        row |= line({count: kept(training, images[:count]) for count in slices}, options.batch)
        if training.session is None:
            count = slices[0]
            row["autograd"] = handed_to_autograd(training, images[:count]) / row[f"B={count}"]
    row["total"] = row["kept"] + row["optimizer"] + row["weights+gradients"]
    if training.session is not None:
        row["details"] = details(training.session)
        training.session.detach()
    return row | {"seconds": time.perf_counter() - start}


def line(counted: dict[int, int], batch: int) -> dict[str, float]:
    """The line through the two smallest slices: at `batch`, and against the largest slice."""
    (low, first), (high, second), *_ = counted.items()
    image = (second - first) / (high - low)
    fixed, largest = first - image * low, max(counted)
    check = counted[largest] / (fixed + image * largest)
    points = {f"B={count}": float(size) for count, size in counted.items()}
    return {**points, "image": image, "fixed": fixed, "check": check, "kept": fixed + image * batch}


def compare(rows: list[dict[str, Any]]) -> None:
    """Add ratios and errors, in place of the gradients."""
    by = {row["policy"]: row for row in rows}
    gradients = {row["policy"]: row.pop("gradient") for row in rows}

    def error(row: dict[str, Any], other: str) -> float | None:
        if other not in by or other == row["policy"]:
            return None
        difference = gradients[row["policy"]] - gradients[other]
        return float(difference.norm() / gradients[other].norm())

    for row in rows:
        row["error fp32"], row["error dmp"] = error(row, "fp32"), error(row, "dmp")
        if base := by.get("fp32"):
            own, other = (one["kept"] + one["optimizer"] for one in (row, base))
            row["ratio"], row["ratio without weights"] = row["total"] / base["total"], own / other
            row["goal"] = GOALS.get(row["policy"])
            row["met"] = row["goal"] and round(row["ratio"], 2) <= row["goal"]
        before, row["adds"] = ADDS.get(row["policy"], ("", None))
        if before in by:
            row["gain"] = by[before]["total"] - row["total"]
            row["gain ratio"] = row["total"] / by[before]["total"]
            row["gain error"] = error(row, before)


def show(rows: list[dict[str, Any]], options: argparse.Namespace) -> str:
    """Three tables."""
    by = {"policy": lambda row: row["policy"]}

    def mb(key: str, form: str = ",.0f") -> Any:
        return number(key, form, "", 1e-6)

    parts = []
    slices = [key for key in rows[0] if key.startswith("B=")]
    if slices:
        columns = {key: mb(key, ",.1f") for key in slices}
        columns |= {"an image": mb("image", ",.1f"), "fixed": mb("fixed", ",.1f")}
        columns |= {f"{slices[-1]} against line": number("check", ".4f")}
        columns |= {f"autograd's count, {slices[0]}": number("autograd", ".4f")}
        parts += ["Kept for the backward, measured on slices, MB:", table(by | columns, rows), ""]
    how = "extrapolated from the slices" if slices else "the allocator's peak"
    columns = {key: mb(key) for key in ("kept", "optimizer", "weights+gradients", "total")}
    columns |= {"ratio": number("ratio"), "kept+optimizer": number("ratio without weights")}
    columns |= {"goal": number("goal", ".2f"), "": met}
    columns |= {"gradient to fp32": number("error fp32", ".4f", "")}
    columns |= {"to dmp": number("error dmp", ".4f", "")}
    parts += [f"Batch of {options.batch}, MB; kept is {how}:", table(by | columns, rows), ""]
    gains = [row for row in rows if "gain" in row]
    columns = {"adds": lambda row: row["adds"], "saves MB": mb("gain")}
    columns |= {"ratio": number("gain ratio"), "gradient": number("gain error", ".4f", "")}
    parts += [table(by | columns, gains), ""]
    shown = [
        {"policy": row["policy"], "what": what, **sums}
        for row in rows
        for what, sums in row.get("details", {}).get("memory", {}).get("totals", {}).items()
    ]
    columns = {"saved tensors": lambda row: row["what"], "number": number("tensors", ",.0f", "")}
    columns |= {key: mb(key, ",.1f") for key in ("float32", "before", "now")}
    parts += ["What became of them, by the policy's own count of the last forward, MB:"]
    return "\n".join([*parts, table(by | columns, shown)])


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--side", type=int, default=224, help="pixels of an image's side")
    parser.add_argument("--slices", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--policies", default=",".join(POLICIES))
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    with arithmetic(emulate=True) as place:
        heading = f"ResNet-152, {options.side}x{options.side}, SGD with momentum\n{place.heading()}"
        rows = [measure(policy, place, options) for policy in options.policies.split(",")]
    compare(rows)
    if options.json:
        click.echo(json.dumps({"heading": heading, "rows": rows}, indent=1))
    else:
        click.echo(f"{heading}\n\n{show(rows, options)}")


if __name__ == "__main__":
    main()
