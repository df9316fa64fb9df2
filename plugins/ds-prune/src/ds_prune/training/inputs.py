"""The first batch that the training loop calls its model with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ds_core.nested import map_tensors

if TYPE_CHECKING:
    from ds_core.hookspecs import Around

Batch = tuple[tuple[Any, ...], dict[str, Any]]
"""Arguments by position and by name."""


class FirstInputs:
    """Keeps the arguments of the first forward that succeeds, until they are forgotten."""

    def __init__(self) -> None:
        self.seen: Batch | None = None
        self._looking = True

    def around(self) -> Around:
        """What surrounds the forward. A compiled forward is not seen."""
        import torch

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if torch.compiler.is_compiling() or not self._looking:
                return call(*args, **kwargs)
            # Loops may reuse the memory of their batches, and models may change them.
            batch = map_tensors(lambda one: one.detach().clone(), (args, kwargs))
            output = call(*args, **kwargs)
            self.seen, self._looking = batch, False
            return output

        return around

    def forget(self) -> None:
        """Let go of them."""
        self.seen, self._looking = None, False
