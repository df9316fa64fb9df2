"""All ranks remove the same."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_prune.structure import Kept, Structure

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ds_core.session import Session


def agree_on_scores(
    session: Session, scores: Mapping[str, NDArray[np.float64]]
) -> dict[str, NDArray[np.float64]]:
    """The sum of all ranks' scores."""
    names = sorted(scores)
    summed = _reduced(session, [scores[name] for name in names], "sum")
    return dict(zip(names, summed, strict=True))


def agree_on_masks(
    session: Session, kept: Kept, structure: Structure
) -> dict[str, NDArray[np.bool_]]:
    """What any rank keeps, as those that measure times may choose differently."""
    groups = structure.groups
    masks = [kept.get(one.name, np.ones(one.count, np.bool_)).astype(np.float64) for one in groups]
    found = _reduced(session, masks, "max")
    return {
        one.name: mask > 0 for one, mask in zip(groups, found, strict=True) if not (mask > 0).all()
    }


def agree_on_cut(session: Session, wanted: Kept, cut: Collection[str]) -> tuple[set[str], bool]:
    """Groups that every rank could cut, as each proves it by its own batch.

    Args:
        session: Of this rank.
        wanted: What was to be cut, the same on all ranks.
        cut: What could be cut on this one.

    Returns:
        Their names, and whether no rank cut others.
    """
    could = np.array([name in cut for name in wanted], np.float64)
    every, none = _reduced(session, [could, -could], "min")
    agreed = {name for name, one in zip(wanted, every, strict=True) if one}
    return agreed, bool((every == -none).all())


def tells() -> bool:
    """Whether this rank writes files; all of them would write the same."""
    return os.environ.get("RANK", "0") == "0"


def _reduced(
    session: Session, arrays: list[NDArray[np.float64]], op: str
) -> list[NDArray[np.float64]]:
    import torch

    if not any(map(len, arrays)):
        return arrays
    wide = session.device.type not in ("mps", "hpu", "npu")
    dtype: Any = torch.float64 if wide else torch.float32
    tensor = torch.from_numpy(np.concatenate(arrays)).to(session.device, dtype)
    session.all_reduce(tensor, op)
    ends = np.cumsum([len(one) for one in arrays])[:-1]
    return list(np.split(tensor.double().cpu().numpy(), ends))
