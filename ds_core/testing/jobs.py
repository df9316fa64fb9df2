"""Small real trainings, by a plain loop that knows nothing of sessions.

They are what the conformance suites run components on; plugin tests may use them too. Every model
takes float32 batches of shape `[N, 8]` and gives scores of shape `[N, 4]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Mlp(nn.Module):
    """Linear layers around a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 16)
        self.norm = nn.BatchNorm1d(16)
        self.last = nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        scores: Tensor = self.last(torch.relu(self.norm(self.first(x))))
        return scores


class Conv(nn.Module):
    """A convolution, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        x = x.reshape(x.shape[0], 2, 2, 2)
        scores: Tensor = self.head(torch.relu(self.conv(x)).mean((2, 3)))
        return scores


class Tied(nn.Module):
    """Two layers that share one weight, and one layer that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(8, 8)
        self.b = nn.Linear(8, 8)
        self.b.weight = self.a.weight
        self.frozen = nn.Linear(8, 4)
        self.frozen.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        scores: Tensor = self.frozen(torch.tanh(self.b(torch.tanh(self.a(x)))))
        return scores


class Recurrent(nn.Module):
    """A gated recurrent layer, which keeps its weights in a list of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = nn.GRU(4, 8, batch_first=True)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        scores: Tensor = self.head(self.rnn(x.reshape(x.shape[0], 2, 4))[0][:, -1])
        return scores


class Attention(nn.Module):
    """A transformer's layer without dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of a batch."""
        scores: Tensor = self.head(self.layer(x.reshape(x.shape[0], 2, 4)).mean(1))
        return scores


MODELS: tuple[type[nn.Module], ...] = (Mlp, Conv, Tied, Recurrent, Attention)


@dataclass
class Outputs:
    """An output as many libraries return it."""

    logits: Tensor
    extra: tuple[Tensor, ...]


def batches(count: int, size: int = 16, seed: int = 1) -> Iterator[tuple[Tensor, Tensor]]:
    """Random inputs `[size, 8]` with labels `[size]` that a model can learn."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        x = torch.randn(size, 8, generator=generator)
        yield x, (x.sum(1) > 0).long() + 2 * (x[:, 0] > 0).long()


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.Optimizer:
    """Momentum SGD over what trains."""
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr, momentum=0.9)


def train(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    steps: int = 10,
    seed: int = 1,
    call: Callable[[Tensor], Tensor] | None = None,
    device: torch.device | str | None = None,
) -> list[float]:
    """The usual loop, with clipping; returns the losses.

    Args:
        model: Trained in place.
        optimizer: Steps once for each batch.
        steps: Batches.
        seed: Of the batches.
        call: Computes the forward in place of the model, as what `torch.compile` returns.
        device: Where batches are moved.
    """
    losses, forward = [], model if call is None else call
    for batch, labels in batches(steps, seed=seed):
        x, y = batch.to(device), labels.to(device)
        loss = F.cross_entropy(forward(x), y)
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def snapshot(model: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> tuple[Any, ...]:
    """Everything that a session could leave behind on a model and an optimizer, for comparing.

    Values are not in it, nor are sizes, which pruners change: training changes them. See `values`.
    """
    modules = {
        name: (
            type(module),
            sorted(module.__dict__),
            *(sorted(module.__dict__[key]) for key in sorted(module.__dict__) if "hooks" in key),
        )
        for name, module in model.named_modules()
    }
    tensors = {
        name: (id(t), t.dtype, t.device, t.requires_grad, t._backward_hooks, t.dim_order())
        for name, t in [*model.named_parameters(), *model.named_buffers()]
    }
    return (
        modules,
        tensors,
        type(optimizer),
        {key: len(value) for key, value in vars(optimizer or object).items() if "hooks" in key},
    )


def values(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's state."""
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same_values(model: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether the model's state equals a copy bit for bit, nan included."""
    after = model.state_dict()
    return after.keys() == before.keys() and all(
        torch.equal(after[name], value) or torch.equal(after[name].nan_to_num(), value.nan_to_num())
        for name, value in before.items()
    )


def difference(one: Any, other: Any, where: str = "") -> str:
    """Where two nested values, as state dicts are, first differ; empty where they are the same."""
    if type(one) is not type(other):
        return f"{where}: {type(one).__name__} against {type(other).__name__}"
    if isinstance(one, Tensor):
        same = one.dtype == other.dtype and torch.equal(one.nan_to_num(), other.nan_to_num())
        return "" if same and torch.equal(one.isnan(), other.isnan()) else where
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return f"{where}: keys {sorted(map(str, one.keys() ^ other.keys()))}"
        pairs = [(f"{where}[{key!r}]", one[key], other[key]) for key in one]
    elif isinstance(one, list | tuple):
        if len(one) != len(other):
            return f"{where}: {len(one)} against {len(other)} items"
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(one, other, strict=True))]
    else:
        same = one == other or (one != one and other != other)
        return "" if same else f"{where}: {one!r} against {other!r}"
    return next(filter(None, (difference(a, b, path) for path, a, b in pairs)), "")
