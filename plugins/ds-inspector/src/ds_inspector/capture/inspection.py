"""Recording a model from its example inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ds_inspector.capture import schedule
from ds_inspector.recording import Recording

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_inspector.capture.recorder import Recorder

Loss = Callable[[Any], "Tensor"]
"""`loss(output) -> scalar`."""


def inspect(
    model: Module,
    example_inputs: Any,
    *,
    steps: int = 5,
    backward: Loss | bool | None = None,
    optimizer: Optimizer | None = None,
    collectors: Sequence[str] = schedule.COLLECTORS,
    warmup: int = 1,
) -> Recording:
    """Run a model on example inputs and record where time and memory go.

    The model runs in the mode and under the contexts in which this is called, as autocast or
    `torch.no_grad`. Its parameters, buffers, gradients, training modes, the optimizer's state and
    the random state are as before afterwards; they are copied meanwhile.

    Args:
        model: Any module, compiled or wrapped in data parallelism as well.
        example_inputs: A tuple of positional arguments, a mapping of keyword arguments, or the only
            argument.
        steps: How many steps each collector records. Others run in between, to be compared with.
        backward: A loss of the output, or True for one that is made up: the output's `loss`, else
            the mean of its floating-point tensors. Without one there is no backward, unless there
            is an optimizer.
        optimizer: Steps after each backward.
        collectors: Of `time`, `lifetimes` and `graph`.
        warmup: Steps before the first that is recorded.

    Returns:
        What was recorded. What could not be is said in its `about.problems`.

    Raises:
        ConfigError: A collector does not exist, or `steps` is not positive.
        Exception: Whatever the model raises.
    """
    import contextlib

    import torch

    from ds_core.errors import ConfigError
    from ds_inspector.capture.finishing import finish
    from ds_inspector.capture.kept import kept
    from ds_inspector.capture.recorder import Recorder

    collectors = schedule.checked(collectors)
    if steps < 1:
        raise ConfigError(f"steps cannot be {steps}.", mend="Record at least one.")
    args, kwargs = arguments(example_inputs)
    loss = _loss(backward, optimizer)
    recorder = Recorder(model, steps=steps, collectors=collectors)
    step = _step(model, args, kwargs, loss, optimizer, recorder)
    inner = recorder.inner
    with kept(inner, optimizer), contextlib.nullcontext() if loss is None else torch.enable_grad():
        try:
            for _ in range(warmup):
                step()
            while not recorder.done:
                recorder.begin()
                step()
                recorder.end()
        finally:
            recorder.close()
    return finish(recorder, collectors)


def arguments(example_inputs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Positional and keyword arguments of a forward."""
    if isinstance(example_inputs, tuple | list):
        return tuple(example_inputs), {}
    if hasattr(example_inputs, "keys"):
        return (), {key: example_inputs[key] for key in example_inputs.keys()}  # noqa: SIM118
    return (example_inputs,), {}


def _loss(backward: Loss | bool | None, optimizer: Optimizer | None) -> Loss | None:
    if callable(backward):
        return backward
    if backward or (backward is None and optimizer is not None):
        return mean_of
    return None


def mean_of(output: Any) -> Tensor:
    """The output's own loss, else the mean of its floating-point tensors."""
    import torch

    from ds_core.errors import RefusedError
    from ds_core.nested import tensors_in

    loss = getattr(output, "loss", None)
    if isinstance(loss, torch.Tensor):
        return loss
    means = [
        tensor.float().mean()
        for tensor in tensors_in(output)
        if tensor.is_floating_point() and tensor.requires_grad
    ]
    if not means:
        raise RefusedError(
            "The model's output has no tensor that a backward could begin with.",
            mend="Give backward= a function that returns the loss.",
        )
    return torch.stack(means).sum()


def _step(
    model: Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    loss: Loss | None,
    optimizer: Optimizer | None,
    recorder: Recorder,
) -> Callable[[], None]:
    import torch

    def step() -> None:
        if loss is not None:
            if optimizer is not None:
                optimizer.zero_grad()
            else:
                for parameter in model.parameters():
                    parameter.grad = None
        output = model(*args, **kwargs)
        if loss is not None:
            torch.autograd.backward(loss(output))
        if optimizer is not None:
            recorder.before_optimizer(optimizer)
            optimizer.step()
            recorder.after_optimizer(optimizer)

    return step
