"""Forwards over calibration batches, after which the model is as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ds_prune.analysis import undisturbed

if TYPE_CHECKING:
    from torch.nn import Module

Forward = Callable[["Module", Any], Any]
"""Calls a model with a batch."""


def forward(model: Module, batch: Any) -> Any:
    """Call a model with what a batch is: keyword arguments, positional ones, or a single one."""
    if isinstance(batch, Mapping):
        return model(**batch)
    if isinstance(batch, tuple | list):
        return model(*batch)
    return model(batch)


@contextmanager
def evaluating(model: Module) -> Iterator[None]:
    """Evaluation mode without gradients; training flags are put back."""
    import torch

    with undisturbed.evaluating(model), torch.no_grad():
        yield
