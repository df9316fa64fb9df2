"""`BackendSelector`: the installed backends as an enumeration that plugins extend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ds_core.errors import DsError
from ds_core.registry import installed
from ds_core.selection import AUTO


class _Members(type):
    """Looks members up in what is installed, where an enumeration has a fixed table."""

    _made: dict[str, BackendSelector] = {}

    def __iter__(cls) -> Iterator[BackendSelector]:
        return iter([BackendSelector(name) for name in (AUTO, *installed().names("backend"))])

    def __len__(cls) -> int:
        return sum(1 for _ in cls)

    def __contains__(cls, item: object) -> bool:
        return any(item in (member, member.name) for member in cls)

    def __getitem__(cls, name: str) -> BackendSelector:
        for member in cls:
            if member.name == name:
                return member
        raise KeyError(name)

    def __getattr__(cls, name: str) -> BackendSelector:
        if name.startswith("_"):  # asked for by protocols, never a backend
            raise AttributeError(f"type object {cls.__name__!r} has no attribute {name!r}")
        for member in cls:
            if member.name == name:
                return member
        try:
            installed().find("backend", name.lower().replace("_", "-"))
        except DsError as error:
            raise AttributeError(f"BackendSelector.{name}: {error}") from None
        raise AttributeError(
            f"BackendSelector.{name}: members are in upper case. Did you mean {name.upper()!r}?"
        )

    def __dir__(cls) -> list[str]:
        return [*super().__dir__(), *(member.name for member in cls)]


class BackendSelector(str, metaclass=_Members):
    """A backend by name: `AUTO`, and one member for each backend that is installed.

    A member equals the name that users type, so it may stand wherever a backend's name may:

        load_model("resnet50", {"backend": BackendSelector.AUTO})
        attach(model, optimizer, backend=BackendSelector.CPU)

    As an enumeration, it is iterable, knows `in`, `BackendSelector("cpu")` and
    `BackendSelector["CPU"]`, and each member is one object. Installing a plugin adds its backends:
    `hier-npu` becomes `BackendSelector.HIER_NPU`. Nothing is imported to find them.

    Args:
        value: `auto`, a backend's name, or `distribution:name` where two plugins offer one name.

    Raises:
        UnknownNameError: No such backend is installed; names near matches and the plugin that
            would bring it. As an attribute it is an `AttributeError` with the same words.
        PluginError: It is installed but switched off, incompatible or ambiguous.
    """

    def __new__(cls, value: str) -> BackendSelector:
        member = _Members._made.get(value)
        if value != AUTO:
            installed().find("backend", value)
        if member is None:
            member = _Members._made[str(value)] = super().__new__(cls, value)
        return member

    def __init_subclass__(cls, **arguments: Any) -> None:
        raise TypeError("BackendSelector cannot be extended: install a plugin with a backend.")

    @property
    def name(self) -> str:
        """The attribute under which it stands."""
        return self.upper().replace("-", "_").replace(":", "_")

    @property
    def value(self) -> str:
        """The name that users type."""
        return str.__str__(self)

    def __repr__(self) -> str:
        return f"<BackendSelector.{self.name}: {self.value!r}>"

    __str__ = str.__str__
