"""What a first script does on a new device: the same on every backend."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import ds_core as ds


class Net(nn.Module):
    """A convolution, a normalisation, a pooling and a linear layer, for images `[N, 3, 8, 8]`."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Scores `[N, 4]`."""
        scores: Tensor = self.head(F.max_pool2d(F.gelu(self.norm(self.conv(x))), 2).flatten(1))
        return scores


def loss_curve(backend: str, steps: int = 12) -> tuple[list[float], str]:
    """Losses of one training in float32, and the device that the model was on."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with ds.attach(model, optimizer, backend=backend, precision="fp32") as session:
        losses = []
        for _ in range(steps):
            x, y = session.to_device(torch.randn(8, 3, 8, 8), torch.randint(4, (8,)))
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        return losses, str(next(model.parameters()).device)
