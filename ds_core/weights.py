"""Weights in files, read without running anything that they contain, and put into models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds_core.causes import cause
from ds_core.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_HOLDERS = ("state_dict", "model_state_dict", "model")
_WRAPPERS = ("module.", "_orig_mod.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a safetensors file, or in a file that `torch.save` wrote.

    A checkpoint that holds the state dict under `state_dict`, `model_state_dict` or `model` is
    looked into, and the prefixes that `DistributedDataParallel` and `torch.compile` add are taken
    off.

    Args:
        path: A file; one that ends in `.safetensors` is read by that library, others by
            `torch.load(..., weights_only=True)`, which unpickles tensors and plain containers only.

    Raises:
        ConfigError: There is no such file, or it holds something else; says what.
    """
    path = Path(path)
    if not path.is_file():
        raise ConfigError(f"There is no file of weights {str(path)!r}.", mend="Check the path.")
    state = _safetensors(path) if path.suffix == ".safetensors" else _pickle(path)
    for wrapper in _WRAPPERS:
        if state and all(key.startswith(wrapper) for key in state):
            state = {key.removeprefix(wrapper): tensor for key, tensor in state.items()}
    return state


def load_weights(
    model: Module, state: Mapping[str, Tensor], origin: str, *, fresh_head: bool = False
) -> None:
    """Put `state` into `model`; every name and shape must agree.

    Args:
        model: Changed in place.
        state: Tensors by name; they are converted to the dtypes of the model.
        origin: What to call them in an error: a file, or an architecture.
        fresh_head: Leave parameters alone whose shapes differ, as a last layer for another number
            of classes does.

    Raises:
        RefusedError: Names or shapes differ; says which. What does fit has been loaded by then.
    """
    own = model.state_dict()
    different = [key for key in own if key in state and own[key].shape != state[key].shape]
    fitting = {key: tensor for key, tensor in state.items() if key not in different}
    # Whether something is missing only its module can tell: some fill in what old files lack.
    result = model.load_state_dict(fitting if different else state, strict=False)
    filled = {own[key].data_ptr() for key in own if key in state}  # under one of its names
    missing = [
        key
        for key in result.missing_keys
        if key not in different and own[key].data_ptr() not in filled
    ]
    unexpected = result.unexpected_keys
    problems = []
    if different and not fresh_head:
        key = different[0]
        problems.append(
            f"{key!r} has shape {tuple(state[key].shape)} there and {tuple(own[key].shape)} here"
            + _and_more(different)
        )
    if missing:
        problems.append(f"{missing[0]!r}{_and_more(missing)} is not in them")
    if unexpected:
        problems.append(f"{unexpected[0]!r}{_and_more(unexpected)} is not in the model")
    if problems:
        only_shapes = bool(different) and not missing and not unexpected
        raise RefusedError(
            f"The weights of {origin!r} do not fit {type(model).__name__}: {'; '.join(problems)}.",
            mend="Give the num_classes that they were trained with."
            if only_shapes
            else "Choose the architecture that they were trained with.",
        )


def _and_more(keys: list[str]) -> str:
    return f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors.torch import load_file
    except ImportError:
        raise ConfigError(
            f"{str(path)!r} cannot be read without safetensors.", mend="pip install safetensors"
        ) from None
    try:
        state: dict[str, Tensor] = load_file(path)
    except Exception as error:
        raise ConfigError(f"{str(path)!r} is no safetensors file: {cause(error)}.") from error
    return state


def _pickle(path: Path) -> dict[str, Tensor]:
    import pickle

    import torch

    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ConfigError(
            f"{str(path)!r} holds more than tensors, or no weights at all; reading it could run "
            "code that is in it.",
            mend="Save the state dict alone: torch.save(model.state_dict(), path).",
        ) from error
    except Exception as error:
        raise ConfigError(f"{str(path)!r} cannot be read as weights: {cause(error)}.") from error
    for holder in _HOLDERS:
        if isinstance(found, Mapping) and isinstance(found.get(holder), Mapping):
            found = found[holder]
            break
    if not isinstance(found, Mapping) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in found.items()
    ):
        raise ConfigError(
            f"{str(path)!r} holds no state dict.",
            mend="Save one: torch.save(model.state_dict(), path).",
        )
    return found  # type: ignore[return-value]
