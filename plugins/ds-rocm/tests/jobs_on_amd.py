"""Trainings for processes of their own: each makes the simulated device as it needs it."""

import torch
from ds_rocm.simulated import simulate

import ds_core as ds
from ds_core.registry import installed
from ds_core.testing import jobs
from ds_core.testing.first_script import loss_curve


def curve():
    """Losses of the first script on the simulated device, and where the model was."""
    simulate()
    return loss_curve("rocm")


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
