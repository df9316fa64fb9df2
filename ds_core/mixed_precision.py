"""Loss scaling for hand-written float16 loops: torch's `GradScaler` with bounds on the scale.

```python
from ds_core.mixed_precision import GradScaler

scaler = GradScaler(init_scale=1024.0, min_scale=1.0)
for x, y in loader:
    with torch.autocast(device_type, torch.float16):
        loss = loss_fn(model(x), y)
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    optimizer.zero_grad()
```

A session needs none of this: it scales losses itself.
"""

from __future__ import annotations

import inspect
import math
import warnings
from dataclasses import KW_ONLY, dataclass, fields
from typing import Any, TypeVar, overload

import torch

from ds_core.errors import ConfigError, nearest

__all__ = ["GradScaler"]

_Outputs = TypeVar("_Outputs")

_MIN_SCALE = 2.0**-14
_MAX_SCALE = 2.0**24
_STUCK_UPDATES = 100


@dataclass
class _Options:
    """The arguments of `GradScaler`, checked."""

    init_scale: float = 65536.0
    growth_factor: float = 2.0
    backoff_factor: float = 0.5
    growth_interval: int = 2000
    enabled: bool = True
    _: KW_ONLY
    min_scale: float | None = None
    max_scale: float | None = None
    device: str | torch.device | None = None

    def __post_init__(self) -> None:
        for name in ("init_scale", "min_scale", "max_scale"):
            if (value := getattr(self, name)) is not None:
                setattr(self, name, _scale_value(name, value))
        _number("growth_factor", self.growth_factor)
        if not 1.0 < self.growth_factor < math.inf:
            _refuse("growth_factor", self.growth_factor, "above 1")
        _number("backoff_factor", self.backoff_factor)
        if not 0.0 < self.backoff_factor < 1.0:
            _refuse("backoff_factor", self.backoff_factor, "between 0 and 1, both excluded")
        _number("growth_interval", self.growth_interval)
        if self.growth_interval < 1 or self.growth_interval != int(self.growth_interval):
            _refuse("growth_interval", self.growth_interval, "a whole number of steps, at least 1")
        self.growth_interval = int(self.growth_interval)

    def bounds(self) -> tuple[float, float]:
        """The least and the greatest scale; a default bound gives way to the other arguments."""
        least, greatest = self.min_scale, self.max_scale
        if least is None:
            least = min(_MIN_SCALE, self.init_scale, greatest or _MIN_SCALE)
        if greatest is None:
            greatest = max(_MAX_SCALE, self.init_scale, least)
        if least > greatest:
            raise ConfigError(
                f"GradScaler: min_scale {least:g} is above max_scale {greatest:g}.",
                mend="Swap them, or leave one out.",
            )
        if not least <= self.init_scale <= greatest:
            raise ConfigError(
                f"GradScaler: init_scale {self.init_scale:g} is outside min_scale {least:g} and "
                f"max_scale {greatest:g}.",
                mend="Start within the bounds, or widen them.",
            )
        return least, greatest

    def device_type(self) -> str:
        """What `torch.device` calls the kind of device: the accelerator of this machine, or cpu."""
        if self.device is None:
            accelerator = torch.accelerator.current_accelerator(check_available=True)
            return accelerator.type if accelerator is not None else "cpu"
        try:
            return torch.device(self.device).type
        except (RuntimeError, TypeError):
            raise ConfigError(
                f"GradScaler: torch knows no device {self.device!r}.",
                mend="Give a device type such as 'cpu' or 'cuda', or leave it out.",
            ) from None


class GradScaler(torch.amp.GradScaler):
    """Scales losses so that float16 gradients neither vanish nor overflow, within bounds.

    A drop-in for `torch.amp.GradScaler`, and bit for bit the same while the scale stays within
    `min_scale` and `max_scale`. Torch's own scale has no lower bound: a run of non-finite losses
    halves it until it is zero, and the first finite loss after that writes nan into the parameters.
    Here it stops at `min_scale`, and recovers once losses are finite again. Bounds are applied on
    the device, without waiting for it. Where more than a hundred steps in a row are skipped at
    `min_scale`, one warning says whether the loss itself or only its gradients are not finite.

    Arguments are understood in torch's orders, old and new: `GradScaler("cuda", 1024.0)`,
    `GradScaler(1024.0)` and `GradScaler(init_scale=1024.0, device="cuda")` are the same.

    Dynamic loss scaling is described in Micikevicius et al., Mixed Precision Training,
    arXiv:1710.03740.

    Args:
        init_scale: The first scale.
        growth_factor: What the scale is multiplied by after `growth_interval` steps without
            overflow; above 1.
        backoff_factor: What it is multiplied by after an overflow; between 0 and 1.
        growth_interval: Consecutive steps without overflow before the scale grows.
        enabled: Where False, every method passes through and scales nothing.
        min_scale: The scale never falls below it. Default: 2**-14, the smallest normal float16
            number, or `init_scale` where that is less. It is below 1 because summed losses can
            overflow float16 at scale 1 and train well at a smaller one.
        max_scale: The scale never grows above it. Default: 2**24, which lifts the smallest float16
            number to 1, or `init_scale` where that is more.
        device: A device or its type. Default: the accelerator of this machine, or the CPU. As in
            torch, a scaler for `cuda` disables itself with a warning where there is no CUDA.

    Raises:
        ConfigError: An argument is unknown or has a value that it cannot have.
    """

    __signature__ = inspect.Signature(
        list(inspect.signature(_Options).parameters.values())  # what help() and editors show
    )

    @overload
    def __init__(
        self,
        init_scale: float = ...,
        growth_factor: float = ...,
        backoff_factor: float = ...,
        growth_interval: int = ...,
        enabled: bool = ...,
        *,
        min_scale: float | None = ...,
        max_scale: float | None = ...,
        device: str | torch.device | None = ...,
    ) -> None: ...

    @overload
    def __init__(
        self,
        device: str | torch.device,
        init_scale: float = ...,
        growth_factor: float = ...,
        backoff_factor: float = ...,
        growth_interval: int = ...,
        enabled: bool = ...,
        *,
        min_scale: float | None = ...,
        max_scale: float | None = ...,
    ) -> None: ...

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        options = _options(args, kwargs)
        self.min_scale, self.max_scale = options.bounds()
        self._stuck: torch.Tensor | None = None
        self._updates = 0
        self._suspicious = False
        self._finite = True
        self._warned = False
        super().__init__(
            options.device_type(),
            init_scale=options.init_scale,
            growth_factor=options.growth_factor,
            backoff_factor=options.backoff_factor,
            growth_interval=options.growth_interval,
            enabled=options.enabled,
        )

    def scale(self, outputs: _Outputs) -> _Outputs:
        """Multiply a tensor, or every tensor of an iterable, by the scale.

        Args:
            outputs: A loss, or a list, tuple or other iterable of tensors.

        Returns:
            The same structure, scaled; `outputs` itself where the scaler is not enabled.
        """
        if self._suspicious:
            tensors = _tensors(outputs)
            finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors)
            self._finite = self._finite and finite
            self._suspicious = bool(tensors)  # nothing to look at, nothing to say
        scaled: _Outputs = super().scale(outputs)  # type: ignore[call-overload]
        return scaled

    def update(self, new_scale: float | torch.Tensor | None = None) -> None:
        """Back off after an overflow, grow after enough steps without one, within the bounds.

        Args:
            new_scale: A scale to set instead, a number or a tensor of one element; it is brought
                within the bounds too.

        Raises:
            ConfigError: `new_scale` is a number that is not finite or not positive.
        """
        if not self._enabled:
            return
        if isinstance(new_scale, (int, float)):
            new_scale = _scale_value("new_scale", new_scale)
        super().update(new_scale)
        scale = self._scale
        assert scale is not None  # torch's update refuses to run before a scale exists
        if self._stuck is None:
            self._stuck = torch.zeros((), dtype=torch.int32, device=scale.device)
        if new_scale is None:
            # Only an overflow at the lower bound brings the scale below it.
            self._stuck.add_(1).mul_(scale < self.min_scale)
            self._watch(self._stuck)
        else:
            self._stuck.zero_()
        scale.clamp_(self.min_scale, self.max_scale)

    def state_dict(self) -> dict[str, Any]:
        """Torch's state with `min_scale` and `max_scale`; `torch.amp.GradScaler` loads it too."""
        state = super().state_dict()
        if self._enabled:
            state |= {"min_scale": self.min_scale, "max_scale": self.max_scale}
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take back what `state_dict` returned, or the state of a `torch.amp.GradScaler`.

        Bounds come from the state where it has them and stay as they are where it has not; a scale
        outside them is brought within.

        Raises:
            RuntimeError: The state is empty, as that of a scaler that was not enabled.
        """
        if not self._enabled:
            return
        super().load_state_dict(state_dict)
        self.min_scale = float(state_dict.get("min_scale", self.min_scale))
        self.max_scale = float(state_dict.get("max_scale", self.max_scale))
        self._init_scale = min(max(self._init_scale, self.min_scale), self.max_scale)
        if self._scale is not None:
            self._scale.fill_(self._init_scale)

    def _watch(self, stuck: torch.Tensor) -> None:
        """Warn once of a scale stuck at its lower bound, after one look at the losses of a step."""
        if self._warned:
            return
        if self._suspicious:
            if int(stuck):
                self._warned = True
                warnings.warn(self._diagnosis(), RuntimeWarning, stacklevel=3)
            self._suspicious, self._finite = False, True
        self._updates += 1
        # Reading the count waits for the device, so it is read seldom.
        if not self._warned and self._updates % _STUCK_UPDATES == 0:
            self._suspicious = int(stuck) >= _STUCK_UPDATES

    def _diagnosis(self) -> str:
        if self._finite:
            reason = (
                "the loss is finite but its gradients are not: give a smaller min_scale, or look "
                "for an operation whose backward divides by zero."
            )
        else:
            reason = (
                "the loss itself is not finite, which no loss scale can mend: look for nan in the "
                "data or the parameters, or lower the learning rate."
            )
        return (
            f"More than {_STUCK_UPDATES} steps in a row were skipped at the smallest loss scale, "
            f"{self.min_scale:g}, and {reason}"
        )

    def __getstate__(self) -> dict[str, Any]:
        return super().__getstate__() | {"_stuck": None}


def _options(args: tuple[Any, ...], kwargs: dict[str, Any]) -> _Options:
    known = [field.name for field in fields(_Options)]
    for name in kwargs:
        if name not in known:
            raise ConfigError(
                f"GradScaler has no argument {name!r}.",
                mend=nearest(name, known) or f"Known: {', '.join(known)}.",
            )
    names = known[: known.index("enabled") + 1]
    if args and isinstance(args[0], (str, torch.device)):
        names = ["device", *names]
    if len(args) > len(names):
        raise ConfigError(
            f"GradScaler takes at most {len(names)} arguments by position, not {len(args)}.",
            mend=f"Their order: {', '.join(names)}.",
        )
    positional = dict(zip(names, args, strict=False))
    if twice := sorted(positional.keys() & kwargs.keys()):
        raise ConfigError(f"GradScaler got argument {twice[0]!r} twice.", mend="Leave one out.")
    return _Options(**positional, **kwargs)


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    # Any other iterable may be a generator, which looking at would exhaust.
    if isinstance(outputs, (list, tuple)):
        return [tensor for output in outputs for tensor in _tensors(output)]
    return []


def _scale_value(name: str, value: Any) -> float:
    _number(name, value)
    limits = torch.finfo(torch.float32)
    if not limits.tiny <= value <= limits.max:
        _refuse(name, value, "positive, finite and a normal float32 number")
    return float(value)


def _number(name: str, value: Any) -> None:
    try:
        float(value)
    except (TypeError, ValueError):
        _refuse(name, value, "a number")


def _refuse(name: str, value: Any, must: str) -> None:
    raise ConfigError(
        f"GradScaler: {name} cannot be {value!r}.", mend=f"It must be {must}."
    ) from None
