"""Which tensors live when."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ds_inspector.capture.dispatch import Call, Dispatch, now
from ds_inspector.capture.lines import Lines
from ds_inspector.capture.storages import Storages

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

Read = Callable[[], int | None]
"""Returns the bytes that an allocator has given out."""


class Lifetimes(Dispatch):
    """Records every storage that operators make in the steps that it is switched on for.

    It follows dispatch, not an allocator, so it is the same on any device: what operators allocate
    for themselves and free before they return is not seen.

    Args:
        model: Whose parameters and buffers are told from other tensors.
        lines: Finds the user's lines.
        read: What the allocator says, where there is one that says something.

    Attributes:
        storages: What was seen.
        usage: Nanoseconds and bytes, as `read` said.
        bounds: Of each step, the numbers of its first call and of the next step's.
    """

    def __init__(self, model: Module, lines: Lines, read: Read | None = None) -> None:
        import torch

        super().__init__(lines, everywhere=False)
        self._tensor = torch.Tensor
        self.storages = Storages()
        self.usage: list[tuple[int, int]] = []
        self.bounds: list[tuple[int, int]] = []
        self._model = model
        self._read = read
        self._optimizers: list[Optimizer] = []
        self._first = 0

    @property
    def _step(self) -> int:
        return len(self.bounds)

    def start(self) -> None:
        self._first = len(self.calls)
        self.storages.since = now()
        self._take_stock()
        super().start()

    def stop(self) -> None:
        """Switch off at the end of a step, which counts."""
        self._take_stock()
        super().stop()
        self.bounds.append((self._first, len(self.calls)))

    def close(self) -> None:
        """Leave nothing behind."""
        super().stop()
        self.storages.forget()
        self._optimizers.clear()

    def begin_forward(self) -> None:
        self._note_usage()

    def end_forward(self, inputs: Any, differentiable: bool) -> None:
        self.storages.call(inputs, "input", self._step)
        if differentiable:
            self.begin_backward()
        else:
            self._note_usage()

    def begin_backward(self) -> None:
        """What the forward made and is alive now is kept for the backward."""
        kind, made = self.storages.kind, self.storages.made
        for row in self.storages.living():
            if kind[row] == 0 and made[row].phase == "forward":
                kind[row] = 1
        self._note_usage()

    def before_optimizer(self, optimizer: Optimizer) -> None:
        if optimizer not in self._optimizers:
            self._optimizers.append(optimizer)
        self._take_stock()
        super().before_optimizer(optimizer)

    def after_optimizer(self, optimizer: Optimizer) -> None:
        self._take_stock()
        super().after_optimizer(optimizer)

    def made(self, result: Any, call: Call) -> None:
        kind = self._tensor
        if isinstance(result, kind):
            self._see(result, call)
        elif isinstance(result, list | tuple):
            for one in result:
                if isinstance(one, kind):
                    self._see(one, call)

    def _see(self, tensor: Any, call: Call) -> None:
        row = self.storages.see(tensor, self._step)
        if row is not None:
            if not call.source:
                call = call._replace(source=self._lines.of_frame(sys._getframe(1)))
            self.storages.made[row] = call
            self.storages.number[row] = len(self.calls) - 1

    def _take_stock(self) -> None:
        storages, step = self.storages, self._step
        for name, parameter in self._model.named_parameters():
            storages.call(parameter, "parameter", step, name)
            if parameter.grad is not None:
                storages.call(parameter.grad, "gradient", step, name)
        for name, buffer in self._model.named_buffers():
            storages.call(buffer, "buffer", step, name)
        for optimizer in self._optimizers:
            for state in optimizer.state.values():
                storages.call(state, "optimizer", step)
        self._note_usage()

    def _note_usage(self) -> None:
        if self._read is not None:
            size = self._read()
            if size is not None:
                self.usage.append((now(), size))
