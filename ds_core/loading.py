"""From an entry point to the class of a component, checked to be one."""

from __future__ import annotations

from ds_core.components.component import Component
from ds_core.errors import PluginError
from ds_core.registry import Record, Registry


def load_component(registry: Registry, kind: str, name: str) -> tuple[Record, type[Component]]:
    """Import a component's class.

    Raises:
        UnknownNameError: Nothing installed is called that.
        PluginError: It cannot be loaded, or is no component of this kind.
    """
    record, made = registry.load(kind, name)
    component = isinstance(made, type) and issubclass(made, Component)
    if not component or getattr(made, "kind", None) != kind:
        raise PluginError(
            f"{record.value} of {record.distribution} is not a {kind} component.",
            mend=f"Its author must subclass ds_core.components' class for a {kind}.",
        )
    return record, made
