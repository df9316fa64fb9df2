"""What names of a module stand for, where rewriting it must be sure of them."""

from __future__ import annotations

import ast
from typing import NamedTuple

_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)

AMP = {"autocast", "GradScaler"}
"""What `torch.cuda.amp` and `torch.amp` both have."""


class Bindings(NamedTuple):
    """What names of a module stand for."""

    torch: str
    distributed: frozenset[str]
    """Names of `torch.distributed`."""
    amp: dict[str, str]
    """`autocast` and `GradScaler` of `torch.cuda.amp`, by local name, where all uses are calls."""
    modules: frozenset[str]
    """Every imported name: what is called on one is a function, no method."""
    has_cuda_method: bool

    @classmethod
    def of(cls, tree: ast.Module) -> Bindings | None:
        """None where torch has no name at module level, or where it may mean something else."""
        imported = _imported(tree)
        torch = next(
            (
                alias.asname or "torch"
                for node in tree.body
                if isinstance(node, ast.Import)
                for alias in node.names
                if alias.name == "torch" or (alias.name.startswith("torch.") and not alias.asname)
            ),
            "",
        )
        if not torch or imported[torch] != {"torch"} or _rebinds(tree, torch) or _is_scripted(tree):
            return None
        distributed = {
            name
            for name, meanings in imported.items()
            if meanings == {"torch.distributed"} and not _rebinds(tree, name)
        }
        return cls(
            torch,
            frozenset(distributed),
            _amp_names(tree, imported),
            frozenset(imported),
            any(
                isinstance(node, ast.FunctionDef) and node.name == "cuda" for node in ast.walk(tree)
            ),
        )


def _imported(tree: ast.Module) -> dict[str, set[str]]:
    """What each imported name stands for, at all the places that import it."""
    found: dict[str, set[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                root = alias.name.partition(".")[0]
                found.setdefault(alias.asname or root, set()).add(
                    alias.name if alias.asname else root
                )
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                module = "." * node.level + (node.module or "")
                found.setdefault(alias.asname or alias.name, set()).add(f"{module}.{alias.name}")
    return found


def _amp_names(tree: ast.Module, imported: dict[str, set[str]]) -> dict[str, str]:
    """Local names of `torch.cuda.amp`'s, or none of them where one cannot be rewritten."""
    prefix = "torch.cuda.amp."
    found = {
        name: meaning.removeprefix(prefix)
        for name, meanings in imported.items()
        for meaning in meanings
        if meaning.startswith(prefix)
    }
    clear = all(
        kind in AMP and imported[name] == {prefix + kind} and not _rebinds(tree, name)
        for name, kind in found.items()
    )
    return found if clear and _only_called(tree, found) else {}


def _rebinds(tree: ast.Module, name: str) -> bool:
    """Whether a name is anything other than what is imported under it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load):
            return True
        if isinstance(node, ast.arg) and node.arg == name:
            return True
        if isinstance(node, _NAMED) and node.name == name:
            return True
        # Somebody replaces a part of torch: what stands there is not torch's. Settings are none.
        if isinstance(node, ast.Attribute) and not isinstance(node.ctx, ast.Load):
            path = ast.unparse(node).split(".")
            if path[0] == name and path[1] != "backends":
                return True
    return False


def _is_scripted(tree: ast.Module) -> bool:
    """Whether TorchScript compiles any of it, which knows no torch.accelerator."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ("script", "script_method", "script_if_tracing")
        for node in ast.walk(tree)
    )


def _only_called(tree: ast.Module, names: dict[str, str]) -> bool:
    """Whether each use of `names` is a call without `*` or `**` in it."""
    called = {
        id(node.func)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and not any(isinstance(arg, ast.Starred) for arg in node.args)
        and all(keyword.arg for keyword in node.keywords)
    }
    return all(
        id(node) in called
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in names and isinstance(node.ctx, ast.Load)
    )
