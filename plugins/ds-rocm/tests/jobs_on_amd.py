"""Trainings for processes of their own: each makes the simulated device as it needs it."""

import torch
from ds_rocm.simulated import simulate
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.registry import installed
from ds_core.testing import jobs


class Net(nn.Module):
    """Convolution, normalisation and a linear layer: what a first script has."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x):
        return self.head(F.max_pool2d(F.gelu(self.norm(self.conv(x))), 2).flatten(1))


def curve(backend, steps=12):
    """Losses of one training, the same script for every backend."""
    if backend == "rocm":
        simulate()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with ds.attach(model, optimizer, backend=backend, precision="fp32") as session:
        losses = []
        for _ in range(steps):
            batch = session.to_device((torch.randn(8, 3, 8, 8), torch.randint(4, (8,))))
            optimizer.zero_grad()
            loss = F.cross_entropy(model(batch[0]), batch[1])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses, str(next(model.parameters()).device)


def dtypes_of(arch):
    """What the backend knows of a card."""
    simulate(arch)
    return installed().load("backend", "rocm")[1]().info()


def trained(precision):
    """Losses of a training in a precision."""
    simulate()
    torch.manual_seed(0)
    model = jobs.Mlp()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with ds.attach(model, optimizer, backend="rocm", precision=precision) as session:
        return jobs.train(model, optimizer, 40, device=session.device)
