"""Which operations of a graph write into tensors or do nothing, and what is a part of what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch.fx import Node


def written_into(node: Node) -> Node | None:
    """The tensor that an operation writes into, if it does."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return None
    for known, argument in zip(schema.arguments, node.args, strict=False):
        if known.alias_info is not None and known.alias_info.is_write:
            written: Any = argument
            return written  # type: ignore[no-any-return]
    return None


def asserts(node: Node) -> bool:
    """Whether an operation gives nothing and changes nothing."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and not schema.returns and not schema.is_mutable


def bases(node: Node) -> list[Node]:
    """Tensors that a node is a view of."""
    found: list[Node] = []
    while True:
        schema = getattr(node.target, "_schema", None)
        takes = schema.arguments[0] if schema is not None and schema.arguments else None
        source: Any = node.args[0] if node.args else None
        if takes is None or takes.alias_info is None or not hasattr(source, "target"):
            return found
        found.append(source)
        node = source
