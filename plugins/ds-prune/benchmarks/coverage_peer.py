"""One model cut by Torch-Pruning, and whether it still runs."""

from __future__ import annotations

from typing import Any

import torch
from coverage_ours import RATIO, Subject, lively
from peer import cut
from torch import nn

from ds_core.causes import cause
from ds_core.nested import tensors_in


def peers(subject: Subject) -> dict[str, Any]:
    """Cut, and run on the same inputs and on others.

    Returns:
        `result`: `runs`, `nothing`, `fails` or `shape` where the outputs have other ones; it gives
        no proof that could be looked at.
    """
    model = lively(subject.make, 0)
    before = sum(one.numel() for one in model.parameters())
    with torch.no_grad():
        shapes = _shapes(model, subject.args, subject.kwargs)
    try:
        given = dict(subject.kwargs) if subject.kwargs else subject.args
        cut(model, given, RATIO, attention=True)
    except Exception as error:
        return {"result": "fails", "why": f"while it prunes: {cause(error)}", "before": before}
    after = sum(one.numel() for one in model.parameters())
    row = {"before": before, "after": after}
    if after >= before:
        return row | {"result": "nothing"}
    model.eval()
    try:
        with torch.no_grad():
            now = _shapes(model, subject.args, subject.kwargs)
            for args, kwargs in subject.others.values():
                model(*args, **kwargs)
    except Exception as error:
        return row | {"result": "fails", "why": f"afterwards: {cause(error)}"}
    if now != shapes:
        return row | {"result": "shape", "why": "the outputs have other shapes"}
    return row | {"result": "runs"}


def _shapes(model: nn.Module, args: Any, kwargs: Any) -> list[torch.Size]:
    return [one.shape for one in tensors_in(model(*args, **kwargs))]
