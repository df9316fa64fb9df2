"""Another library's error as part of one sentence."""

from __future__ import annotations

_LENGTH = 300


def cause(error: BaseException) -> str:
    """The error's type and the first line of its message, without a full stop at the end."""
    first = (str(error).strip().splitlines() or [""])[0][:_LENGTH].rstrip(" .:")
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
