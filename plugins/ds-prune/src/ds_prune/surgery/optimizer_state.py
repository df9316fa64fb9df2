"""What optimizers hold for a parameter, cut like the parameter itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_core.nested import tensors_in
from ds_prune.surgery.slicing import sliced

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer

    from ds_prune.surgery.record import Dims


def sliced_state(
    optimizer: Optimizer, name: str, parameter: Tensor, kept: Dims
) -> dict[str, Tensor]:
    """The entries of an optimizer's state that change where a parameter is cut.

    These are tensors of the parameter's shape (momenta, second moments), and factors of such ones,
    which have dimensions of size 1 instead. Single numbers, as of steps, stay.

    Args:
        optimizer: One that holds state for the parameter.
        name: What to call the parameter in an error.
        parameter: As it is before the cut.
        kept: For dimensions that are cut, the indices that stay.

    Raises:
        RefusedError: It holds a tensor of another shape, of which nobody can tell what to cut.
    """
    import torch

    cut = {}
    for key, value in optimizer.state[parameter].items():
        if all(tensor.numel() <= 1 for tensor in tensors_in(value)):
            continue
        fits = isinstance(value, torch.Tensor) and value.dim() == parameter.dim()
        if not fits or any(
            size not in (1, own) for size, own in zip(value.shape, parameter.shape, strict=True)
        ):
            raise RefusedError(
                f"{type(optimizer).__name__} holds {key!r} of shape {_shape(value)} for {name!r}, "
                "which cannot be cut as the parameter is.",
                mend="Prune before its first step, or use an optimizer whose state has the "
                "parameters' shapes.",
            )
        dims = {
            dim: index for dim, index in kept.items() if value.shape[dim] == parameter.shape[dim]
        }
        cut[key] = sliced(value, dims) if dims else value
    return cut


def check_optimizers(optimizers: tuple[Optimizer, ...]) -> None:
    """Optimizers that flatten all parameters into one vector cannot follow a cut.

    Raises:
        RefusedError: There is one that has made a step.
    """
    import torch

    for optimizer in optimizers:
        if isinstance(optimizer, torch.optim.LBFGS) and optimizer.state:
            raise RefusedError(
                "LBFGS holds the history of all parameters as one vector, which cannot be cut.",
                mend="Prune before its first step.",
            )


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(getattr(value, "shape", ())) or type(value).__name__
