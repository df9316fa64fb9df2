"""Trainings for processes of their own: each makes the simulated device as it needs it."""

import os

import torch
from ds_gaudi.simulated import simulate

import ds_core as ds
from ds_core.registry import installed
from ds_core.testing import Faults, jobs
from ds_core.testing.first_script import loss_curve


def curve():
    """Losses of the first script on the simulated device, and where the model was."""
    simulate()
    return loss_curve("gaudi")


def steps_marked(mode, steps=5):
    """How often a training marks the end of a step, in lazy (1) or eager (0) mode."""
    os.environ["PT_HPU_LAZY_MODE"] = mode
    simulate()
    import habana_frameworks.torch.core as core

    model = jobs.Mlp()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    with ds.attach(model, optimizer, backend="gaudi", precision="fp32") as session:
        before = core.marks
        jobs.train(model, optimizer, steps, device=session.device)
        return core.marks - before


def dtypes_of(card, saturating=False):
    """What the backend knows of a card."""
    simulate(card, Faults(saturating_fp16=saturating))
    return installed().load("backend", "gaudi")[1]().info()


def error_of(precision, card):
    """The error of a training in a precision on a card."""
    simulate(card)
    try:
        ds.attach(jobs.Mlp(), backend="gaudi", precision=precision)
    except ds.DsError as error:
        return str(error)
    return ""
