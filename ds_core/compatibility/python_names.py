"""What names in a Python source stand for, as far as its imports tell."""

from __future__ import annotations

import ast
from collections.abc import Iterator

_BLOCKS = ("body", "orelse", "finalbody", "handlers", "cases")


class Names:
    """Dotted names of what a module imports, under the names that it gives them.

    Imports inside functions count for the whole file: nobody gives one name two meanings there.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._known: dict[str, str] = {}
        for node in _statements(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    root = alias.name.partition(".")[0]
                    self._known[alias.asname or root] = alias.name if alias.asname else root
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    self._known[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def dotted(self, node: ast.expr) -> str:
        """What `node` names, as `torch.cuda.is_available`; empty where it is no imported name."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id not in self._known:
            return ""
        return ".".join([self._known[node.id], *reversed(parts)])


def tail(node: ast.AST | None) -> str:
    """The last name of `a.b.c`, imported or not; empty for anything else."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def catches_import_errors(node: ast.Try) -> bool:
    """Whether an import that fails in the block is caught."""
    kinds: list[ast.expr | None] = []
    for handler in node.handlers:
        kinds += handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    caught = ("ImportError", "ModuleNotFoundError", "Exception")
    return any(kind is None or tail(kind) in caught for kind in kinds)


def _statements(tree: ast.Module) -> Iterator[ast.AST]:
    """Statements at every depth; expressions, which are most of a tree, are not looked into."""
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        for block in _BLOCKS:
            inner = getattr(node, block, None)
            if isinstance(inner, list):
                waiting += inner
