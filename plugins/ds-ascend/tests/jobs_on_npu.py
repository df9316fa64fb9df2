"""Trainings for processes of their own: each makes the simulated device as it needs it."""

import torch
from ds_ascend.simulated import simulate
from torch import nn
from torch.nn import functional as F

import ds_core as ds
from ds_core.builtin.autocast import Fp16
from ds_core.registry import installed
from ds_core.testing import Faults, jobs


class Net(nn.Module):
    """Convolution, normalisation, attention-free: what a first script has."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8 * 16, 4)

    def forward(self, x):
        return self.head(F.max_pool2d(F.gelu(self.norm(self.conv(x))), 2).flatten(1))


def curve(backend, steps=12):
    """Losses of one training, the same script for every backend."""
    if backend == "ascend":
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


def of_the_first_generation():
    """What the backend knows of a chip without bfloat16 whose float16 saturates."""
    simulate("Ascend910B", Faults(saturating_fp16=True))
    backend = installed().load("backend", "ascend")[1]()
    info = backend.info()
    a = torch.full((4, 4), 6e4, dtype=torch.float16, device=backend.device())
    quiet = backend.overflowed()
    _ = a @ a
    return info, quiet, backend.overflowed(), backend.overflowed()


def saturated_training():
    """Losses and the last loss scale of a float16 training where nothing is inf."""
    simulate("Ascend910A", Faults(saturating_fp16=True))
    torch.manual_seed(0)
    model = jobs.Mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    precision = Fp16(init_scale=2.0**24)
    with ds.attach(model, optimizer, backend="ascend", precision=precision) as session:
        losses = jobs.train(model, optimizer, 40, device=session.device)
        return losses, session.loss_scale.value


def refuses_bf16():
    """The error of a training in bfloat16 on a chip without it."""
    simulate("Ascend910ProB")
    try:
        ds.attach(jobs.Mlp(), backend="ascend", precision="bf16")
    except ds.DsError as error:
        return str(error)
    return ""
