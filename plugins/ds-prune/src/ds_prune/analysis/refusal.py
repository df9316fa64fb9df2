"""Forwards that are not analysed, and what to say of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from torch.nn import Module


def depends_on_data(error: BaseException | None) -> bool:
    """Whether the forward asked for a number that is known only once it is computed."""
    while error is not None:
        if type(error).__name__ in (
            "DataDependentOutputException",
            "DynamicOutputShapeException",
            "GuardOnDataDependentSymNode",
        ) or "get value out of a tracing tensor" in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def branches(model: Module, error: BaseException) -> RefusedError:
    """What to say of a forward of which one run does not show all."""
    return RefusedError(
        f"The forward of this {type(model).__name__} branches on the values of its data, so that "
        "one run does not show all that it does.",
        mend="Analyse a part of it that does not, or make the branch a torch.where.",
        where=_place(error),
    )


def _place(error: BaseException) -> str:
    """File and line of the innermost code on the way to an error that is not torch's."""
    import traceback
    from pathlib import Path

    import torch

    own = str(Path(torch.__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<", __file__))
    ]
    inner = [frame for frame in frames if "contextlib" not in frame.filename]
    return f"{inner[-1].filename}:{inner[-1].lineno}" if inner else ""
