"""Running statistics that belong to the model as it is now."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_prune.recovery.batches import Forward, evaluating, forward

if TYPE_CHECKING:
    from torch.nn import Module


def recalibrate(model: Module, batches: Iterable[Any], *, call: Forward = forward) -> int:
    """Take the statistics of all batch normalisations anew, as plain averages over `batches`.

    Everything else runs in evaluation mode and nothing else changes, parameters least of all. As
    statistics of all layers are taken in the same forwards, with each batch's own in use, batches
    should be as large as those of training.

    Args:
        model: Its training flags and the momentum of its normalisations are put back.
        batches: Of inputs.
        call: Calls the model with a batch.

    Returns:
        How many normalisations there were.

    Raises:
        RefusedError: There are no batches.
        Exception: Whatever the model raises; its statistics are left as they were.
    """
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    norms = [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.running_mean is not None
    ]
    if not norms:
        return 0
    momenta = [norm.momentum for norm in norms]
    before = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers(recurse=False)]
    seen = 0
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the average of all, each counting alike
                norm.training = True
            for batch in batches:
                call(model, batch)
                seen += 1
        if not seen:
            raise RefusedError(
                "Batch normalisations have no batches to take statistics of.",
                mend="Give a few batches of training inputs.",
            )
    except BaseException:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
        raise
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    return len(norms)
