"""Loss scaling that the training loop does not see.

Small gradients vanish in float16, so they are multiplied by a scale while they travel through the
model and divided by it where they leave (Micikevicius et al., Mixed Precision Training, 2018).
Usually the loss is multiplied and every user of gradients must know; here the scale applies inside
the model's forward only: gradients are multiplied where they enter through its outputs and divided
where they leave, through each use of a parameter and each input that requires a gradient. Whatever
else the loss contains (a weight penalty, another model, a second scaled model behind this one)
meets true gradients, and so do tensor hooks on parameters, clipping and the optimizer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ds_core.errors import ConfigError, RefusedError
from ds_core.nested import map_tensors
from ds_core.notices import warn

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module

    from ds_core.hookspecs import Around

PATIENCE = 50
"""Overflowing steps in a row at the smallest scale before the user is told."""


class LossScale:
    """A dynamic loss scale: halved when a step overflows, doubled after a run of good ones.

    Args:
        init_scale: First scale; a power of two, so that scaling is exact.
        growth_factor: Multiplies the scale after `growth_interval` good steps.
        backoff_factor: Multiplies it after a step that overflowed.
        growth_interval: Good steps in a row before the scale grows.
        min_scale: Never below this: a loss that is not finite must not drive the scale to zero.
        max_scale: Never above this.

    Raises:
        ConfigError: A value makes no sense; names it.
    """

    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        min_scale: float = 1.0,
        max_scale: float = 2.0**24,
    ) -> None:
        order = f"{min_scale:g}, {init_scale:g}, {max_scale:g}"
        for sound, what, got in (
            (
                0 < min_scale <= init_scale <= max_scale,
                "0 < min_scale <= init_scale <= max_scale",
                order,
            ),
            (growth_factor > 1, "growth_factor > 1", growth_factor),
            (0 < backoff_factor < 1, "0 < backoff_factor < 1", backoff_factor),
            (growth_interval >= 1, "growth_interval >= 1", growth_interval),
        ):
            if not sound:
                raise ConfigError(f"A loss scale needs {what}, and got {got}.")
        self.growth_factor = growth_factor
        self.backoff_factor = backoff_factor
        self.growth_interval = growth_interval
        self.min_scale = min_scale
        self.max_scale = max_scale
        self.value = init_scale
        self._good_steps = 0
        self._stuck_steps = 0
        self._factors: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """The scale and its inverse: 0-dimensional float32 tensors, new ones after each update.

        A backward that is still to come keeps those that its forward took.
        """
        import torch

        if device not in self._factors:
            self._factors[device] = (
                torch.tensor(self.value, dtype=torch.float32, device=device),
                torch.tensor(1 / self.value, dtype=torch.float32, device=device),
            )
        return self._factors[device]

    def update(self, overflowed: bool) -> None:
        """Take note of one optimizer step."""
        if not overflowed:
            self._stuck_steps = 0
            self._good_steps += 1
            if self._good_steps >= self.growth_interval:
                self.set(self.value * self.growth_factor)
            return
        if self.value <= self.min_scale:
            self._stuck_steps += 1
            if self._stuck_steps == PATIENCE:
                warn(
                    f"{PATIENCE} steps in a row had gradients that are not finite even at the "
                    f"smallest loss scale ({self.min_scale:g}): the loss itself is nan or inf. "
                    "Look at the data and the learning rate."
                )
        self.set(self.value * self.backoff_factor)

    def set(self, value: float) -> None:
        """Move to `value`, within the limits; good steps are counted anew."""
        self.value = min(max(value, self.min_scale), self.max_scale)
        self._good_steps = 0
        devices, self._factors = list(self._factors), {}
        for device in devices:
            self.on(device)

    def state_dict(self) -> dict[str, float | int]:
        """The scale and its counters."""
        return {
            "scale": self.value,
            "good_steps": self._good_steps,
            "stuck_steps": self._stuck_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self.set(float(state["scale"]))
        self._good_steps = int(state["good_steps"])
        self._stuck_steps = int(state["stuck_steps"])


def scaled_forward(
    model: Module,
    scale: LossScale,
    inspect: Callable[[Any], None],
    check_opaque: Callable[[list[Any], bool], None],
) -> Around:
    """The function that surrounds a model's forward with the scale's boundary.

    Outputs in float16 must have been returned as float32 by whoever computes in float16: their
    gradients would otherwise be rounded before they are scaled.

    Args:
        model: The model whose forward is surrounded.
        scale: The scale to apply.
        inspect: Called with the outputs of the first eager training forward, before the boundary;
            called again with the next where it raised.
        check_opaque: Called with objects in the output whose tensors cannot be reached, and
            whether any tensor could.
    """
    import torch

    gate = _gate()
    # Made now, as torch.compile traces a look-up but not the making of a tensor that is kept.
    for tensor in [*model.parameters(), *model.buffers(), torch.empty(0)]:
        scale.on(tensor.device)
    inspected = False
    # Parameters are replaced for the time of a forward, which two threads must not do at once.
    lock = threading.RLock()

    def enter(tensor: Tensor) -> Tensor:
        return gate(tensor, scale.on(tensor.device)[1]) if tensor.requires_grad else tensor

    def inside(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        args, kwargs = map_tensors(enter, args), map_tensors(enter, kwargs)
        with _gated_parameters(model, enter):
            return call(*args, **kwargs)

    def outside(output: Any) -> Any:
        reached: list[Tensor] = []
        opaque: list[Any] = []

        def leave(tensor: Tensor) -> Tensor:
            reached.append(tensor)
            return gate(tensor, scale.on(tensor.device)[0]) if tensor.requires_grad else tensor

        def unknown(leaf: Any) -> Any:
            opaque.append(leaf)
            return leaf

        output = map_tensors(leave, output, unknown)
        if opaque and not torch.compiler.is_compiling():
            check_opaque(opaque, bool(reached))
        return output

    def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal inspected
        if not torch.is_grad_enabled():
            return call(*args, **kwargs)
        if torch.compiler.is_compiling():
            return outside(inside(call, args, kwargs))
        with lock:
            output = inside(call, args, kwargs)
        if not inspected:
            inspect(output)
            inspected = True
        return outside(output)

    return around


@contextmanager
def _gated_parameters(model: Module, enter: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Within, modules compute with views of their parameters whose gradients are unscaled."""
    import torch

    gates: dict[Tensor, Tensor] = {}
    places: list[tuple[Any, Any, Tensor]] = []
    # Parameters may have been replaced, frozen or shared since the last forward: look each time.
    for module in model.modules():
        holders: list[tuple[Any, Any]] = [(module._parameters, name) for name in module._parameters]
        if isinstance(module, torch.nn.RNNBase):
            # These keep their weights in a list of their own.
            holders += [(module._flat_weights, i) for i in range(len(module._flat_weights))]
        for holder, key in holders:
            parameter = holder[key]
            if parameter is not None and parameter.requires_grad:
                if parameter not in gates:
                    gates[parameter] = enter(parameter)
                places.append((holder, key, parameter))
    for holder, key, parameter in places:
        holder[key] = gates[parameter]
    try:
        yield
    finally:
        for holder, key, parameter in places:
            holder[key] = parameter


def _gate() -> Callable[[Tensor, Tensor], Tensor]:
    """An identity whose gradient is multiplied by a factor, in float32 at least."""
    import torch

    class OnlyOnce(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(gradient: Tensor) -> Tensor:
            return gradient.detach()

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
            pass

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> Tensor:
            raise RefusedError(
                "The gradient of a gradient cannot pass through float16 loss scaling, since only "
                "first gradients are scaled.",
                mend="Use precision 'bf16' or 'fp32' with gradient penalties.",
            )

    only_once: Callable[[Tensor], Tensor] = OnlyOnce.apply

    class LossScaleGate(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(tensor: Tensor, factor: Tensor) -> Tensor:
            # An alias, not a view: users may change outputs in place, which views from here forbid.
            return tensor.detach()

        @staticmethod
        def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
            ctx.save_for_backward(inputs[1])

        @staticmethod
        def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
            (factor,) = ctx.saved_tensors
            (gradient,) = gradients
            wide = gradient.float() if gradient.dtype.itemsize < 4 else gradient
            result = (wide * factor).to(gradient.dtype)
            # Gradients are enabled here only where this gradient may be differentiated itself.
            return (only_once(result) if torch.is_grad_enabled() else result), None

    apply: Callable[[Tensor, Tensor], Tensor] = LossScaleGate.apply
    return apply


class OverflowWatch:
    """Remembers each parameter's largest gradient magnitude since its optimizer's last step.

    It looks when a gradient arrives, so that clipping, which may turn inf into a number, cannot
    hide an overflow, and again at the step, as other ranks' gradients have been added by then.
    Nothing is copied to the host before `overflowed`.
    """

    def __init__(self) -> None:
        self._peaks: dict[Tensor, Tensor] = {}

    def on(self, parameter: Tensor) -> Callable[[Tensor], None]:
        """The function that takes note of each gradient of one parameter."""
        import torch

        def see(gradient: Tensor) -> None:
            norm = _largest(gradient)
            peak = self._peaks.get(parameter)
            # maximum keeps nan
            self._peaks[parameter] = norm if peak is None else torch.maximum(peak, norm)

        return see

    def overflowed(
        self,
        parameters: Iterable[Tensor],
        reduce: Callable[[Tensor, str], Any],
        flagged: bool = False,
    ) -> bool:
        """Whether any gradient of these parameters was not finite, on any rank.

        Args:
            parameters: Those of the optimizer that is about to step; what is known of them is
                forgotten.
            reduce: Called with a tensor and `max`; reduces it over ranks, in place.
            flagged: The device reported an overflow by other means than inf or nan.
        """
        import torch

        norms: dict[torch.device, list[Tensor]] = {}
        for parameter in parameters:
            seen = [self._peaks.pop(parameter, None), parameter.grad]
            for norm in (seen[0], None if seen[1] is None else _largest(seen[1])):
                if norm is not None:
                    norms.setdefault(norm.device, []).append(norm)
        # The host's last, so that ranks reduce a tensor of the device that trains.
        devices = sorted(norms, key=lambda device: device.type == "cpu")
        found = torch.full((), float(flagged), device=devices[0] if devices else None)
        for device in devices:
            bad = ~torch.isfinite(torch.stack(norms[device])).all()
            found = torch.maximum(found, bad.to(found.device, found.dtype))
        reduce(found, "max")
        return bool(found.item() > 0)


def _largest(gradient: Tensor) -> Tensor:
    """The largest magnitude of a gradient of any form, as a 0-dimensional float32 tensor."""
    import torch

    values = gradient.detach()
    if values.layout is not torch.strided:
        values = values.coalesce().values()
    if values.numel() == 0:
        return torch.zeros((), dtype=torch.float32, device=values.device)
    norm: Tensor = torch.linalg.vector_norm(values, ord=float("inf"))
    return norm.float()
