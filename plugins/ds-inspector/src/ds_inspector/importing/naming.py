"""What a node's name says of the hierarchy, and which line of the user's made it."""

from __future__ import annotations

import re
import sys

from ds_inspector.importing.limits import cut

_PARTS = 48
_FRAME = re.compile(r'File "([^"\n]+)", line (\d+)')
_FOREIGN = re.compile(r"site-packages|dist-packages|(^|[/\\])torch[/\\]|^<|/lib/python3")


def module_of(name: str) -> str:
    """The groups that a path as `/encoder/layer.0/attn/MatMul` names: `encoder.layer.0.attn`."""
    if "/" not in name:
        return ""
    parts = [part for part in name.split("/")[:-1] if part]
    return ".".join(parts[:_PARTS])


def last_of(name: str) -> str:
    """What follows the groups in a name."""
    return name.rstrip("/").rpartition("/")[2]


def within(outer: str, inner: str, told: str = "") -> str:
    """A group in a group.

    Args:
        outer: The group around it.
        inner: Its own name, which may repeat what is around it.
        told: What `inner` may begin with, where that is not `outer`.
    """
    told = told or outer
    if told and (inner == told or inner.startswith(told + ".")):
        inner = inner[len(told) + 1 :]
    return cut(f"{outer}.{inner}" if outer and inner else outer or inner)


def innermost(stack: str) -> str:
    """`file:line` of the innermost frame of the user's in a stack trace; "" without any."""
    found = ""
    for path, line in _FRAME.findall(stack):
        if not is_foreign(path):
            found = f"{path}:{line}"
    return found


def is_foreign(path: str) -> bool:
    """Whether a file belongs to an installed library rather than to the user."""
    if _FOREIGN.search(path):
        return True
    # Paths in traces are relative to the folder that modules are found in.
    return re.split(r"[/\\]|\.py$", path, maxsplit=1)[0] in sys.stdlib_module_names
