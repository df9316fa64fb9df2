"""What is run in processes of its own: each loads torch_npu on the stub as its environment says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from cann_stub.computing import computing_on_host
from cann_stub.hosting import one_card
from ds_ascend.backend import Ascend

import ds_core as ds
from ds_core.builtin.autocast import Fp16
from ds_core.errors import BackendError
from ds_core.testing import jobs


@contextmanager
def on_stub(*, saturating: bool = False) -> Iterator[Ascend]:
    """The backend where the probe finds a card and operators are computed."""
    with one_card(), computing_on_host(saturating=saturating):
        yield Ascend()


def chip(saturating: bool) -> dict[str, Any]:
    """What the backend knows of the stub's chip, and its flag before and after an overflow."""
    with on_stub(saturating=saturating) as backend:
        info = backend.info()
        a = torch.full((4, 4), 6e4, dtype=torch.float16, device=backend.device())
        flags = [backend.overflowed()]
        largest = float((a @ a).max())
        flags += [backend.overflowed(), backend.overflowed()]
        number = torch.npu.get_soc_version()
        return {"info": info, "number": number, "flags": flags, "largest": largest}


def saturated_training() -> tuple[list[float], float]:
    """Losses and the last loss scale of a float16 training where nothing is inf."""
    with on_stub(saturating=True):
        torch.manual_seed(0)
        model = jobs.Mlp()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        precision = Fp16(init_scale=2.0**24)
        with ds.attach(model, optimizer, backend="ascend", precision=precision) as session:
            losses = jobs.train(model, optimizer, 40, device=session.device)
            return losses, session.loss_scale.value


def refusal() -> tuple[str, str]:
    """What the backend says where it cannot be activated, and the mend."""
    with on_stub() as backend:
        try:
            backend.activate()
        except BackendError as error:
            return error.what, error.mend or ""
    return "", ""


def tuned(width: int, allow: bool | None) -> tuple[str, int, bool]:
    """Of a float16 layer: the sentence of `tune`, its weight's format, whether values stayed."""
    import torch_npu

    if allow is not None:
        torch.npu.config.allow_internal_format = allow
    with on_stub() as backend:
        model = torch.nn.Linear(width, 16, dtype=torch.float16)
        before = model.weight.detach().clone()
        session = ds.attach(model, backend="ascend", precision="fp32")
        example = torch.randn(4, width, dtype=torch.float16).to(session.device)
        (sentence,) = backend.tune(model, (example,)).changes
        number = int(torch_npu.get_npu_format(model.weight.data))
        return sentence, number, torch.equal(model.weight.detach().cpu(), before)


def not_computed(call: str) -> str:
    """The error of an operator that nothing computes, launched on the stub itself."""
    with one_card():
        one = torch.ones(4).to("npu")
        try:
            {"add": lambda: (one + one).cpu(), "sum": lambda: one.sum().item()}[call]()
            torch.npu.synchronize()
        except RuntimeError as error:
            return str(error)
    return ""
