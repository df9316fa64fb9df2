"""What takes long to derive from a recording is derived once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ds_inspector.recording import Recording

Result = TypeVar("Result")


def once(function: Callable[[Recording], Result]) -> Callable[[Recording], Result]:
    """Keep what `function` returned with the recording, whose tables never change."""
    key = f"_{function.__module__}.{function.__qualname__}"

    @functools.wraps(function)
    def kept(recording: Recording) -> Result:
        place: dict[str, Any] = vars(recording)
        if key not in place:
            # A page asks for several views at once, each in a thread.
            with place.setdefault("_deriving", threading.RLock()):
                if key not in place:
                    place[key] = function(recording)
        result: Result = place[key]
        return result

    return kept
