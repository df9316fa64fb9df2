"""Trainings for processes of their own: each makes the simulated device as it needs it."""

import torch
from ds_ascend.simulated import simulate

import ds_core as ds
from ds_core.builtin.autocast import Fp16
from ds_core.registry import installed
from ds_core.testing import Faults, jobs
from ds_core.testing.first_script import loss_curve


def curve():
    """Losses of the first script on the simulated device, and where the model was."""
    simulate()
    return loss_curve("ascend")


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
