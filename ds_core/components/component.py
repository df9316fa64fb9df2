"""What every component is."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from ds_core.errors import ConfigError, HookError, nearest

if TYPE_CHECKING:
    from ds_core.components.backend import Backend
    from ds_core.registry import Record

KINDS = ("backend", "pruner", "precision", "topology", "observer", "transform")
"""All kinds of component, in the order in which a session calls their hooks where that matters."""


class Options(pydantic.BaseModel):
    """Base of each component's options: unknown names are errors, values do not change.

    The docstring under a field is its documentation, in `ds plugins info` and in JSON schemas.
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Component:
    """One object that a session uses. Subclass the class of a kind, not this one.

    A component is made from its `Config` alone, imports torch only inside methods, and keeps what
    it learns in attributes that `state_dict` returns.
    """

    kind: ClassVar[str]
    """One of `KINDS`; set by the class of the kind."""

    name: ClassVar[str]
    """What users type; the same as the entry point's name."""

    rank: ClassVar[int] = 0
    """Among components of a kind, the highest is taken where a user asks for `best`."""

    Config: ClassVar[type[Options]] = Options
    """The component's options."""

    conformance: ClassVar[dict[str, Any]] = {}
    """Attributes that `ds plugins check` gives the component's suite, as `{"tolerance": 0.1}`."""

    record: Record | None = None
    """The entry point that it was loaded from; None for an object made by hand."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        """Make a component from a `Config` object, or from its fields as keywords.

        Raises:
            ConfigError: An option is unknown or has a value that it cannot have.
        """
        self.config: Any = config if config is not None else self.parse(options)

    @classmethod
    def parse(cls, options: dict[str, Any]) -> Options:
        """Check `options` against the component's `Config`.

        Raises:
            ConfigError: Names the option, the component and the nearest valid name or the reason.
        """
        try:
            return cls.Config.model_validate(options)
        except pydantic.ValidationError as error:
            raise config_error(error, cls.Config, f"{cls.kind} {cls.name!r}") from None

    @property
    def requires(self) -> frozenset[str]:
        """Capabilities that another component of the session must provide, as `dtype:bf16`."""
        return frozenset()

    @property
    def provides(self) -> frozenset[str]:
        """Capabilities that this component offers to the others."""
        return frozenset()

    @property
    def conflicts(self) -> frozenset[str]:
        """Capabilities that no other component of the session may provide."""
        return frozenset()

    def explain(self, backend: Backend) -> list[str]:
        """What the component would do on an activated backend, and why: for `ds explain`.

        One sentence each: the dtype that it would choose, the all-reduce for each size.
        """
        return []

    def report(self) -> dict[str, Any]:
        """What the component has to say about the session so far: JSON-compatible, any depth."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed session needs to continue identically; tensors are welcome."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned; called after the session has attached."""

    def __repr__(self) -> str:
        options = self.config.model_dump(exclude_defaults=True)
        inside = ", ".join(f"{key}={value!r}" for key, value in options.items())
        return f"{type(self).__name__}({inside})"


def config_error(
    error: pydantic.ValidationError, model: type[pydantic.BaseModel], owner: str, where: str = ""
) -> ConfigError:
    """One sentence from pydantic's first complaint."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    found = _config_error(first, path, model, owner, where)
    found.option = path
    return found


def _config_error(
    first: Any, path: str, model: type[pydantic.BaseModel], owner: str, where: str
) -> ConfigError:
    if first["type"] == "extra_forbidden":
        known = list(model.model_fields)
        mend = nearest(str(first["loc"][-1]), known) or (
            f"Known: {', '.join(known)}." if known else "It has no options."
        )
        return ConfigError(f"{owner} has no option {path!r}.", mend=mend, where=where)
    reason = first["msg"][0].lower() + first["msg"][1:]
    got = first.get("input")
    what = (
        f"{owner}: option {path!r} cannot be {got!r}: {reason}." if path else f"{owner}: {reason}."
    )
    return ConfigError(what, where=where)


def hook_problems(component: type[Component]) -> list[HookError]:
    """Every hook of a component's class that does not match its specification, with the mend."""
    from ds_core import hookspecs

    specs = {
        name: list(inspect.signature(function).parameters)
        for name, function in vars(hookspecs).items()
        if name.startswith("ds_") and callable(function)
    }
    found: list[HookError] = []
    marker = f"{hookspecs.PROJECT}_impl"
    for attribute in dir(component):
        function = inspect.getattr_static(component, attribute)
        options = getattr(function, marker, None)
        if options is None:
            if attribute.startswith("ds_") and callable(function):
                known = "" if attribute in specs else nearest(attribute, specs)
                found.append(
                    HookError(
                        f"{attribute} is not marked as a hook and would never be called.",
                        mend=known or "Put @hookimpl above it, or name it without ds_.",
                        where=component.__qualname__,
                    )
                )
            continue
        name = options.get("specname") or attribute
        where = f"{component.__qualname__}.{attribute}"
        if name not in specs:
            found.append(
                HookError(
                    f"There is no hook {name!r}.",
                    mend=nearest(name, specs) or f"Hooks: {', '.join(specs)}.",
                    where=where,
                )
            )
            continue
        for argument in list(inspect.signature(function).parameters)[1:]:
            if argument not in specs[name]:
                found.append(
                    HookError(
                        f"Hook {name!r} has no argument {argument!r}.",
                        mend=nearest(argument, specs[name])
                        or f"Its arguments: {', '.join(specs[name])}.",
                        where=where,
                    )
                )
    return found
