"""What every criterion is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from ds_core.components.component import Component

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from ds_prune.structure import Kept, Structure


class Criterion(Component):
    """Says of each atom how much the model would miss it.

    A third party's is a subclass with a `name` that an entry point in the group
    `ds_prune.criteria` leads to. Options are the fields of its `Config`. What it learns while the
    model trains it returns in `state_dict`, in types that `torch.load(weights_only=True)` reads.
    """

    kind: ClassVar[str] = "criterion"

    learns: ClassVar[bool] = False
    """Whether it has something to say only after `observe` was called."""

    additive: ClassVar[bool] = False
    """Whether scores are changes of the loss, which add up and may be divided by what removal
    saves; otherwise they are relative to their group."""

    def observe(self, tensors: Mapping[str, Tensor], structure: Structure) -> None:
        """Learn from one step, right before the optimizer's, when gradients are in place.

        It must not wait for an accelerator: whatever is computed stays on its device.

        Args:
            tensors: The model's parameters by name, with the whole batch's gradients, unscaled.
            structure: Of the model as it is; the same object until the model changes.
        """

    def scores(
        self, tensors: Mapping[str, Tensor], structure: Structure
    ) -> dict[str, NDArray[np.float64]]:
        """For each group's name `[atoms]`, from 0 up: the lower, the sooner an atom may go.

        All groups share one unit, so that atoms of different groups compare. Groups that it cannot
        judge are left out.

        Args:
            tensors: The model's parameters by name.
            structure: Of the model as it is.
        """
        raise NotImplementedError

    def narrow(self, kept: Kept) -> None:
        """Forget atoms that were removed from the model; the others are in the same order."""
