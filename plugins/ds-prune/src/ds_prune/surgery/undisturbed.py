"""Running a model exactly, and without leaving a trace in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from ds_prune.analysis.undisturbed import evaluating, untouched

if TYPE_CHECKING:
    from torch.nn import Module


@contextmanager
def undisturbed(model: Module) -> Iterator[None]:
    """Evaluation mode without gradients, autocast and TF32, until the end of the block.

    Then the model's buffers and attributes, random numbers and torch's switches are as they were.
    """
    import torch

    kinds = {parameter.device.type for parameter in model.parameters()} - {"meta"}
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32
    with ExitStack() as stack:
        stack.enter_context(untouched(model))
        stack.enter_context(evaluating(model))
        stack.enter_context(torch.no_grad())
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        try:
            cuda.allow_tf32 = cudnn.allow_tf32 = False
            yield
        finally:
            cuda.allow_tf32, cudnn.allow_tf32 = before
