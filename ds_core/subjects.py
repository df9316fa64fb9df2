"""The user's own objects: are they what a session can work with?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ds_core.errors import SessionError

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer


def unwrapped(model: Any) -> Module:
    """The module inside `torch.compile`'s wrapper, or the model itself.

    Raises:
        SessionError: It is no module.
    """
    import torch

    inner = getattr(model, "_orig_mod", model)
    if not isinstance(inner, torch.nn.Module):
        raise SessionError(
            f"A model must be a torch.nn.Module, not {type(inner).__name__}.",
            mend="Attach the module whose forward the training loop calls.",
        )
    if isinstance(inner, torch.jit.ScriptModule):
        raise SessionError(
            f"{type(inner).__name__} is made by TorchScript, whose forward cannot be surrounded.",
            mend="Attach the module that it was made from.",
        )
    return inner


def process_group(model: Module) -> Any:
    """The process group of a model that is a DistributedDataParallel, or None."""
    from torch.nn.parallel import DistributedDataParallel

    return model.process_group if isinstance(model, DistributedDataParallel) else None


def check_subjects(
    model: Module, optimizer: Optimizer | Sequence[Optimizer] | None
) -> tuple[Optimizer, ...]:
    """The optimizers as a tuple, after checking that they train the model.

    Raises:
        SessionError: The model has no parameters, or some that are not made yet, or an optimizer
            has none of them; says which.
    """
    import torch

    name = type(model).__name__
    parameters = list(model.parameters())
    if not parameters:
        raise SessionError(
            f"{name} has no parameters, so there is nothing to train.",
            mend="Attach the module that holds them.",
        )
    if any(torch.nn.parameter.is_lazy(parameter) for parameter in parameters):
        raise SessionError(
            f"{name} has lazy parameters whose shapes are not known yet.",
            mend="Call the model on one batch first.",
        )
    if any(parameter.is_meta for parameter in parameters):
        raise SessionError(
            f"{name} has parameters on the meta device, which have no values.",
            mend="Materialise them first: model.to_empty(device=...) and load the weights.",
        )
    optimizers = (
        ()
        if optimizer is None
        else (optimizer,)
        if isinstance(optimizer, torch.optim.Optimizer)
        else tuple(optimizer)
        if isinstance(optimizer, list | tuple)
        else (optimizer,)
    )
    known = {id(parameter) for parameter in parameters}
    for one in optimizers:
        if not isinstance(one, torch.optim.Optimizer):
            raise SessionError(
                f"An optimizer must be a torch.optim.Optimizer, not {type(one).__name__}."
            )
        if not any(id(p) in known for group in one.param_groups for p in group["params"]):
            raise SessionError(
                f"The {type(one).__name__} optimizer holds none of the parameters of {name}.",
                mend="Make it from model.parameters() of the model that is attached.",
            )
    return optimizers
