"""The command `ds inspect`."""

from ds_inspector.command.group import inspect

__all__ = ["inspect"]
