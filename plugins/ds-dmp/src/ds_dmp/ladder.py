"""The dtypes that a policy chooses from, and the models that it cannot choose for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds_core.errors import RefusedError
from ds_dmp.options import DmpOptions

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components import Backend
    from ds_core.session import Session

FULL = "fp32"
"""The last dtype of every ladder."""


def ladder_for(config: DmpOptions, backend: Backend) -> tuple[list[str], str]:
    """Dtypes from the preferred to float32, and why.

    Raises:
        RefusedError: One that was asked for is slow here.
    """
    info = backend.info()
    if config.dtypes != "auto":
        for dtype in config.dtypes:
            support = info.dtypes.get(dtype)
            if support is not None and support.works and not support.fast:
                raise RefusedError(
                    f"precision 'dmp' was asked for {dtype}, which is slow on {info.name}: "
                    f"{support.reason}",
                    mend=f"Leave out dtypes, or use precision {dtype!r}, which computes in it all "
                    "the same.",
                )
        return [*dict.fromkeys(config.dtypes), FULL], "as asked for"
    # One dtype, the better: float16 beside bfloat16 would bring the loss scale's restrictions.
    if info.best == FULL:
        reasons = [f"{d}: {info.dtypes[d].reason}" for d in ("bf16", "fp16") if d in info.dtypes]
        return [FULL], " ".join([f"no 16-bit dtype is fast on {info.name}.", *reasons])
    return [info.best, FULL], info.dtypes[info.best].reason


def agreed(ladder: list[str], session: Session) -> bool:
    """Whether all ranks have the same ladder."""
    import torch

    codes = {"": 0, "bf16": 1, "fp16": 2, "bf16 fp16": 3, "fp16 bf16": 4}
    code = codes[" ".join(ladder[:-1])]
    wish = torch.tensor([code, -code], device=session.device)
    high, low = session.all_reduce(wish, "max").tolist()
    return bool(high == -low)


def check_parameters(model: Module) -> None:
    """Make sure that autocast can handle a model.

    Raises:
        RefusedError: A parameter is complex, float64 or in 16 bit; names it.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.dtype == torch.float64 or parameter.is_complex():
            raise RefusedError(
                f"precision 'dmp': parameter {name!r} is {parameter.dtype}, which autocast leaves "
                "alone, so layers would meet mixed dtypes.",
                mend="Convert the model with model.float(), or use precision 'fp32'.",
            )
        if parameter.dtype in (torch.float16, torch.bfloat16):
            raise RefusedError(
                f"precision 'dmp': parameter {name!r} is {parameter.dtype} already, and small "
                "updates to it would be lost in rounding.",
                mend="Keep parameters in float32 (model.float()); computing is in 16 bit anyway.",
            )
