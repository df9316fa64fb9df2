"""A model is looked at without a trace."""

from __future__ import annotations

import contextlib
import io
import logging
import random
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Without what torch logs of forwards that it cannot export, which is reported otherwise."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def untouched(model: Module) -> Iterator[None]:
    """Restore random states, buffers and all attributes of modules at the end."""
    import torch

    modules = list(model.modules())
    attributes = [
        {
            key: (value, dict(value) if isinstance(value, dict) else None)
            for key, value in vars(module).items()
        }
        for module in modules
    ]
    numbers = [(buffer, buffer.detach().clone()) for buffer in model.buffers()]
    versions = [buffer._version for buffer, _ in numbers]
    state = random.getstate()
    devices = {tensor.device for tensor in model.parameters()}
    cuda = sorted({device.index or 0 for device in devices if device.type == "cuda"})
    with torch.random.fork_rng(cuda):
        try:
            yield
        finally:
            random.setstate(state)
            for module, kept in zip(modules, attributes, strict=True):
                vars(module).clear()
                for key, (value, items) in kept.items():
                    if items is not None:
                        value.clear()
                        value.update(items)
                    vars(module)[key] = value
            for (buffer, before), version in zip(numbers, versions, strict=True):
                if buffer._version != version:
                    with torch.no_grad():
                        buffer.copy_(before)


@contextlib.contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode, without torch's fused attention, which hides its operations.

    Flags are set one by one: a model's own `eval` may do more, as to merge weights.
    """
    import torch

    flags = [(module, module.training) for module in model.modules()]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        for module, _ in flags:
            module.training = False
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, flag in flags:
            module.training = flag
