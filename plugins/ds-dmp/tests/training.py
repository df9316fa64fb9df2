"""Trainings that the tests share: networks that 16 bit breaks in one known place."""

import torch
from torch import nn

import ds_core as ds
from ds_core.testing import jobs

QUICK = {"name": "dmp", "cost_gate": False, "every": 5}


class Healthy(nn.Module):
    """Nothing that 16 bit could not do."""

    def __init__(self, width=32):
        super().__init__()
        self.first = nn.Linear(8, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width)) for _ in range(3)
        )
        self.last = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.relu(self.first(x))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


class Overflowing(Healthy):
    """The second block makes activations beyond 65504, which its norm takes back."""

    def __init__(self):
        super().__init__()
        with torch.no_grad():
            self.blocks[1][0].weight.mul_(1e6)


class Offset(Healthy):
    """Features have a large number in common, of which a rounded product keeps little else."""

    common = 1000.0

    def forward(self, x):
        x = torch.relu(self.first(x + self.common) - self.common * self.first.weight.sum(1))
        for block in self.blocks:
            x = x + block(x)
        return self.last(x)


def attach(model, backend, total_steps=None, **options):
    optimizer = torch.optim.SGD(model.parameters(), 0.02, momentum=0.9)
    settings = {} if total_steps is None else {"total_steps": total_steps}
    return ds.attach(
        model, optimizer, backend=backend, precision={**QUICK, **options}, config=settings
    )


def train(session, steps, seed=1):
    return jobs.train(session.model, session.optimizers[0], steps, seed=seed)


def details(session):
    return session.report().components[0].details


def dtypes(session):
    return {row["layer"]: row["dtype"] for row in details(session)["layers"]}
