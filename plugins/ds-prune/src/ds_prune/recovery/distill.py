"""The whole model as the teacher of the small one."""

from __future__ import annotations

import copy
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ds_core.causes import cause
from ds_core.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def distillation_loss(
    student_logits: Tensor, teacher_logits: Tensor, temperature: float = 2.0
) -> Tensor:
    """How far the student's class probabilities are from the teacher's, softened.

    The Kullback-Leibler divergence at `temperature`, times its square, by which gradients are as
    large as those of a cross-entropy (Hinton et al., Distilling the Knowledge in a Neural Network,
    2015, arXiv:1503.02531). Computed in float32; no gradient flows to the teacher.

    Args:
        student_logits: `[..., classes]`.
        teacher_logits: Of the same shape.
        temperature: Above 0; the larger, the more small probabilities count.

    Returns:
        The mean over all but the last dimension, a scalar.

    Raises:
        ConfigError: The temperature is not above 0, or shapes differ.
    """
    from torch.nn import functional as F

    if not temperature > 0:
        raise ConfigError(f"A temperature is above 0, not {temperature}.")
    if student_logits.shape != teacher_logits.shape:
        raise ConfigError(
            f"The student gives {list(student_logits.shape)} logits and the teacher "
            f"{list(teacher_logits.shape)}."
        )
    student = F.log_softmax(student_logits.float() / temperature, -1).flatten(0, -2)
    teacher = F.log_softmax(teacher_logits.detach().float() / temperature, -1).flatten(0, -2)
    loss = F.kl_div(student, teacher, reduction="batchmean", log_target=True)
    return loss * temperature**2


class Teacher:
    """A copy of a model as it is, which answers in evaluation mode and is never trained.

    Inside `with`, calling it gives the model's outputs; afterwards the copy is gone.

    Args:
        model: Copied on the device that it is on, with its hooks.

    Raises:
        RefusedError: The model cannot be copied.
    """

    def __init__(self, model: Module) -> None:
        try:
            copied = copy.deepcopy(model)
        except Exception as error:
            raise RefusedError(
                f"This {type(model).__name__} cannot teach, as it cannot be copied: "
                f"{cause(error)}.",
                mend="Make it a model that copy.deepcopy accepts, or do without distillation.",
            ) from error
        self._model: Module | None = copied.eval().requires_grad_(False)

    def __enter__(self) -> Teacher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._model = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The copy's outputs, without gradients."""
        import torch

        if self._model is None:
            raise RefusedError("The teacher is gone.", mend="Call it inside its `with`.")
        with torch.no_grad():
            return self._model(*args, **kwargs)
