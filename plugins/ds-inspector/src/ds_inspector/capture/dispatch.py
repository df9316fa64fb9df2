"""Following a step's operators where torch dispatches them."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from ds_inspector.capture.lines import Lines

if TYPE_CHECKING:
    from torch.optim import Optimizer

now = time.perf_counter_ns

MODULE = "nn.Module"
"""The operator of a call that is the forward of a module."""


class Call(NamedTuple):
    """One operator's call."""

    time: int
    """Nanoseconds at its begin."""
    name: str
    module: str
    phase: str
    source: str
    """"" where nobody looked for it."""


class Dispatch:
    """Knows of each operator that is dispatched its module, phase and line of code.

    Backward operators are known by the sequence number of their autograd node, which the forward
    operator was the first to follow.

    Args:
        lines: Finds the user's lines.
        everywhere: Look for the line of each call, not only of those that make an autograd node.

    Attributes:
        calls: In order.
        phase: Of the step.
    """

    def __init__(self, lines: Lines, *, everywhere: bool) -> None:
        import torch

        self.calls: list[Call] = []
        self.phase = "other"
        self._lines = lines
        self._everywhere = everywhere
        self._modules: list[str] = []
        self._in_backward = False
        self._nodes: dict[int, tuple[str, str]] = {}  # by autograd's sequence number
        self._last_node = -1
        self._names: dict[int, tuple[str, Any]] = {}  # by identity, which an operator keeps alive
        self._mode: Any = None
        self._on = False
        # Looked up once, as these are called for every operator.
        self._task = torch._C._current_graph_task_id
        self._node = torch._C._current_autograd_node
        self._sequence = torch._C._autograd._get_sequence_nr

    def start(self) -> None:
        """Switch on at the beginning of a step."""
        self._modules.clear()
        self._nodes.clear()
        self.phase, self._in_backward, self._last_node = "other", False, -1
        self._on = True
        if self._mode is None:
            self._mode = _mode(self)
            self._mode.__enter__()

    def stop(self) -> None:
        """Switch off at the end of a step."""
        self._on = False
        from torch.utils._python_dispatch import _get_current_dispatch_mode

        # A mode that the user entered since then is above ours: it is left another time.
        mode: Any = self._mode
        top: Any = _get_current_dispatch_mode()
        if mode is not None and top is mode:
            self._mode = None
            mode.__exit__(None, None, None)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Within, operators are none of the step's."""
        was, self._on = self._on, False
        try:
            yield
        finally:
            self._on = was

    # What the recorder tells

    def enter(self, name: str) -> None:
        """A module's forward begins."""
        if not self._modules:
            self.begin_forward()
            if self.phase != "backward":
                self.phase = "forward"
        if self._everywhere:
            source = self._lines.of_frame(sys._getframe(1))
            self.calls.append(Call(now(), MODULE, name, self.phase, source))
        self._modules.append(name)

    def leave(self, name: str, inputs: Any, output: Any) -> None:
        """A module's forward ends."""
        if self._modules:
            self._modules.pop()
        if self._modules or self._in_backward:
            return
        differentiable = any(tensor.requires_grad for tensor in _tensors(output))
        self.end_forward(inputs, differentiable)
        if not differentiable:
            self.phase = "other"

    def before_optimizer(self, optimizer: Optimizer) -> None:
        """An optimizer's step begins."""
        self.phase, self._in_backward = "optimizer", False

    def after_optimizer(self, optimizer: Optimizer) -> None:
        """An optimizer's step ends."""
        self.phase = "other"

    # For subclasses

    def begin_forward(self) -> None:
        """The outermost module's forward begins."""

    def end_forward(self, inputs: Any, differentiable: bool) -> None:
        """It has ended; a backward may follow if its output is differentiable."""

    def begin_backward(self) -> None:
        """Autograd begins to evaluate."""

    def made(self, result: Any, call: Call) -> None:
        """An operator returned."""

    # What the mode tells

    def dispatched(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operator and see what it does."""
        if not self._on:
            return func(*args, **kwargs)
        began = now()
        result = func(*args, **kwargs)
        if self._task() == -1:
            module, source = self._ahead()
        else:
            module, source = self._behind()
        name = self._names.get(id(func)) or self._named(func)
        call = Call(began, name[0], module, self.phase, source)
        self.calls.append(call)
        self.made(result, call)
        return result

    def _ahead(self) -> tuple[str, str]:
        """Module and source of an operator outside a backward."""
        if self._in_backward:
            self._in_backward = False
            self.phase = "forward" if self._modules else "other"
        return self._around()

    def _behind(self) -> tuple[str, str]:
        """The same within a backward."""
        if not self._in_backward:
            self.begin_backward()
            self._in_backward = True
            self.phase = "backward"
        if self._modules:  # a checkpoint computes its forward again
            return self._around()
        node = self._node()
        found = self._nodes.get(node._sequence_nr()) if node is not None else None
        return found or ("", "")

    def _around(self) -> tuple[str, str]:
        """The module whose forward is open, and the line that is running."""
        module = self._modules[-1] if self._modules else ""
        made = self._sequence() - 1
        is_new = made > self._last_node  # the operator made the node of its backward
        if not (is_new or self._everywhere):
            return module, ""
        source = self._lines.of_frame(sys._getframe(1))
        if is_new:
            self._last_node = made
            self._nodes[made] = module, source
        return module, source

    def _named(self, func: Any) -> tuple[str, Any]:
        schema = getattr(func, "_schema", None)
        known = (str(func) if schema is None else str(schema.name)), func
        self._names[id(func)] = known
        return known


def _tensors(value: Any) -> list[Any]:
    from ds_core.nested import tensors_in

    return list(tensors_in(value))


def _untraced(function: Any) -> None:
    """Keep torch.compile from tracing a function, or whatever it calls, when it is run."""
    import torch

    frames: Any = torch._C._dynamo.eval_frame
    skip = frames._FrameAction.SKIP
    frames.set_code_exec_strategy(function.__code__, frames._FrameExecStrategy(skip, skip))


def _mode(dispatch: Dispatch) -> Any:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Watching(TorchDispatchMode):  # type: ignore[no-untyped-call]
        """Passes every operator on."""

        supports_higher_order_operators = True

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # it is skipped below, at no cost for each operator

        @classmethod
        def ignore_compile_internals(cls) -> bool:
            return True  # what is compiled runs as it does without us

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            return dispatch.dispatched(func, args, kwargs or {})

    _untraced(Watching.__torch_dispatch__)
    return Watching()  # type: ignore[no-untyped-call]
