"""Strings in a Python source, as far as they can be told without running it."""

from __future__ import annotations

import ast


def outcomes(node: ast.expr) -> list[ast.expr]:
    """What a conditional expression may come to."""
    return [*outcomes(node.body), *outcomes(node.orelse)] if isinstance(node, ast.IfExp) else [node]


def text_of(node: ast.expr) -> str:
    """A string, or what an f-string begins with; empty for anything else."""
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def compares_text(node: ast.Compare) -> bool:
    """A comparison that gives no mask: of strings, of identities, of membership."""
    plain = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
    return any(isinstance(operator, plain) for operator in node.ops) or any(
        isinstance(side, ast.Constant) and isinstance(side.value, str)
        for side in (node.left, *node.comparators)
    )
