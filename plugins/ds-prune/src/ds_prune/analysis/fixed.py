"""Numbers that modules hold as tensors, and that never change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


class FixedNumbers:
    """Buffers that hold one integer and are not saved: kernel sizes and strides, say.

    A state dict does not have them, so that the module's own arguments say what they are. Unless a
    forward changes them, one that asks for them does the same each time.
    """

    def __init__(self, model: Module) -> None:
        self._model = model
        self._numbers = {
            f"{path}.{name}" if path else name: buffer.detach().clone()
            for path, module in model.named_modules()
            for name, buffer in module._buffers.items()
            if buffer is not None
            and name in module._non_persistent_buffers_set
            and buffer.numel() == 1
            and not (buffer.is_floating_point() or buffer.is_complex())
        }
        self._changed: set[str] = set()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Within, the tensors without numbers that stand for them in an export know them."""
        from torch._subclasses.fake_tensor import FakeTensor

        before = {}
        for name, number in self._numbers.items():
            stand_in = self._model.get_buffer(name)
            if isinstance(stand_in, FakeTensor):
                stand_in.constant = number
                before[name] = stand_in, stand_in._version
        yield
        for name, (stand_in, version) in before.items():
            if self._model.get_buffer(name) is not stand_in or stand_in._version != version:
                self._changed.add(name)

    def forget_changed(self) -> bool:
        """Tell those no more that a forward changed; whether there were any."""
        changed, self._changed = self._changed, set()
        for name in changed:
            del self._numbers[name]
        return bool(changed)
