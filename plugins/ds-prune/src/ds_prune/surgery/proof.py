"""Whether two models' outputs are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_core.nested import tensors_in

if TYPE_CHECKING:
    from torch import Tensor

_TOLERANCES = {"float64": 1e-8, "complex128": 1e-8, "float16": 1e-2, "bfloat16": 5e-2}
_TOLERANCE = 1e-4


@dataclass(frozen=True)
class Proof:
    """What came of a comparison.

    Attributes:
        error: The largest relative error of an output, as a ratio of L2 norms; infinite where
            outputs cannot be compared.
        against: What speaks against it, as a clause; empty where the outputs are the same.
    """

    error: float
    against: str = ""

    @property
    def holds(self) -> bool:
        """Whether the outputs are the same."""
        return not self.against


def prove(small: Any, reference: Any, tolerance: float | None = None) -> Proof:
    """Compare all tensors in the outputs of a model that was cut with what they should be.

    Each tensor's error is relative to its own L2 norm, absolute where that is 0. Integers and
    booleans must be equal. Infinities and nans must be the same ones at the same places, and are
    not counted; outputs without any finite number prove nothing.

    Args:
        small: Outputs, in nested tuples, lists, mappings and dataclasses.
        reference: What they should be, with the tensors in the same order.
        tolerance: Largest relative error of floating-point outputs; unless given, 1e-4, or what
            fits the dtype: 1e-8 for float64, 1e-2 for float16, 5e-2 for bfloat16.
    """
    got, expected = list(tensors_in(small)), list(tensors_in(reference))
    if not expected:
        return Proof(float("inf"), "its outputs contain no tensor to compare")
    if len(got) != len(expected):
        return Proof(float("inf"), f"it returns {len(got)} tensors instead of {len(expected)}")
    worst, finite = 0.0, False
    for position, (value, right) in enumerate(zip(got, expected, strict=True)):
        name = f"output {position}" if len(got) > 1 else "its output"
        if value.shape != right.shape or value.dtype != right.dtype:
            is_, was = (f"{tuple(one.shape)} of {one.dtype}" for one in (value, right))
            return Proof(float("inf"), f"{name} is {is_} instead of {was}")
        error, some = _difference(value, right)
        finite |= some
        allowed = _allowed(right, tolerance)
        worst = max(worst, error)
        if not error <= allowed:
            by = "is another" if error == float("inf") else f"is off by {error:.2g}, relatively,"
            return Proof(worst, f"{name} {by} where {allowed:.2g} is allowed")
    if not finite:
        return Proof(float("inf"), "its outputs are not finite, so that they prove nothing")
    return Proof(worst)


def _difference(value: Tensor, right: Tensor) -> tuple[float, bool]:
    """The relative error, and whether anything finite was compared."""
    import torch

    if not right.is_floating_point() and not right.is_complex():
        return (0.0 if torch.equal(value, right) else float("inf")), right.numel() > 0
    wide = torch.complex128 if right.is_complex() else torch.float64
    value, right = value.detach().to("cpu", wide), right.detach().to("cpu", wide)
    finite = right.isfinite()
    rest = ~finite
    if not torch.equal(finite, value.isfinite()) or not torch.allclose(
        value[rest], right[rest], equal_nan=True
    ):
        return float("inf"), False
    size = float(torch.linalg.vector_norm(right[finite]))
    error = float(torch.linalg.vector_norm(value[finite] - right[finite]))
    return (error / size if size else error), bool(finite.any())


def _allowed(tensor: Tensor, tolerance: float | None) -> float:
    if not tensor.is_floating_point() and not tensor.is_complex():
        return 0.0
    own = _TOLERANCES.get(str(tensor.dtype).removeprefix("torch."), _TOLERANCE)
    return own if tolerance is None else tolerance
