"""How the model is made that a plan was cut from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ds_core.causes import cause
from ds_core.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from torch.nn import Module

_SETTINGS = {"num_classes"}


@dataclass(frozen=True)
class Source:
    """A name that `ds_core.load_model` knows, or a function.

    Attributes:
        kind: `model` or `function`.
        name: `torchvision:mobilenet_v3_large`; or `package.module:function`, which returns a model.
        arguments: Settings of `load_model`, of which `num_classes` is taken; or the function's
            keyword arguments. They go through JSON.

    Raises:
        ConfigError: The name is of another form, or the arguments cannot be written as JSON.
    """

    kind: Literal["model", "function"]
    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            same = json.loads(json.dumps(dict(self.arguments))) == dict(self.arguments)
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"The arguments of {self.name!r} cannot be written as JSON: {cause(error)}."
            ) from None
        if not same:
            raise ConfigError(
                f"The arguments of {self.name!r} would not come back from JSON as they are.",
                mend="Give lists and not tuples, and strings as keys.",
            )
        if self.kind == "function" and not all(self.name.partition(":")):
            raise ConfigError(
                f"{self.name!r} names no function.", mend="Write it as 'package.module:function'."
            )
        if self.kind == "model" and not self.arguments.keys() <= _SETTINGS:
            strange = sorted(self.arguments.keys() - _SETTINGS)[0]
            raise ConfigError(
                f"A model by name has no setting {strange!r} here.",
                mend="Only num_classes says how it is built.",
            )

    def build(self, *, trust: bool) -> Module:
        """A fresh model with random weights.

        Args:
            trust: Whether code and files may be run and read that the source names. Architectures
                of installed libraries need no trust.

        Raises:
            RefusedError: It needs trust, or cannot be built; says why.
        """
        if not trust and (self.kind == "function" or self._is_file()):
            raise RefusedError(
                f"The plan's model is made by {self.name!r}, which is code or a file that only "
                "this plan names.",
                mend="If you trust it, say trust=True; or build the model and give it as model=.",
            )
        return self._named() if self.kind == "model" else self._called()

    def _is_file(self) -> bool:
        prefix, _, rest = self.name.rpartition(":")
        return prefix == "file" or Path(rest).suffix in (".pt2", ".pt") or Path(rest).exists()

    def _named(self) -> Module:
        from ds_core.models import load_model
        from ds_core.session import session_on

        model = load_model(self.name, weights="random", **self.arguments)
        session = session_on(model)
        if session is not None:
            session.detach()  # a ds.toml may ask for passes, and this is to be cut first
        return model

    def _called(self) -> Module:
        import torch

        module, _, name = self.name.partition(":")
        try:
            made = getattr(import_module(module), name)(**self.arguments)
        except Exception as error:
            raise RefusedError(
                f"{self.name!r} does not make the plan's model: {cause(error)}.",
                mend="Build the model and give it as model=.",
            ) from error
        if not isinstance(made, torch.nn.Module):
            raise RefusedError(f"{self.name!r} returned no module but a {type(made).__name__}.")
        return made
