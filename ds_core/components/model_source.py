"""Where `load_model` finds architectures and files: one class for each library or format."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from torch.nn import Module

PRETRAINED = "pretrained"
"""As weights: those that the source's library publishes for the architecture."""

RANDOM = "random"
"""As weights: freshly initialised, as for training from the start."""


class ModelSource:
    """Builds models by name; registered in the entry-point group `ds.models`.

    A source is made without arguments, and imports torch and its library only inside methods.
    `load_model` asks the sources in the order of their ranks, and the first that knows a name
    builds it; `source:name` asks one source alone.
    """

    name: ClassVar[str]
    """What users type before the colon; the same as the entry point's name."""

    rank: ClassVar[int] = 0
    """Sources with a higher rank are asked first."""

    def missing(self) -> str | None:
        """What to give `pip install` before this source can build anything; None if nothing.

        It must not import what it looks for.
        """
        return None

    def names(self) -> list[str]:
        """The names that can be built here, for near matches and listings; not called if `missing`.

        A source of files, which have no names, returns an empty list.
        """
        return []

    def knows(self, name: str) -> bool:
        """Whether this source builds `name`; by default, whether it is among `names()`."""
        return name in self.names()

    def build(self, name: str, *, weights: str | None, num_classes: int | None) -> Module:
        """A new model on the CPU whose parameters are float32.

        A model that classifies is called as `model(inputs)` and returns its logits as one tensor
        of shape (batch, classes), so that `criterion(model(inputs), labels)` works.

        Args:
            name: One that this source knows.
            weights: `random`, `pretrained`, or None for what is usual with this source: the stored
                ones for a file, random ones for an architecture. Never a path: `load_model`
                loads those itself.
            num_classes: Classes to tell apart; None for what is usual with the architecture.

        Raises:
            DsError: The model cannot be built like that; says why and what to do.
        """
        raise NotImplementedError

    def example_inputs(self, name: str, model: Module, batch_size: int) -> tuple[Any, ...]:
        """Random inputs on the CPU of the shapes and dtypes that `model(*inputs)` takes.

        Args:
            name: As given to `build`.
            model: What `build` returned.
            batch_size: Samples in the batch.

        Raises:
            RefusedError: The source cannot tell what the model takes.
        """
        raise NotImplementedError
