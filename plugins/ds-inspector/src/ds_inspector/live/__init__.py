"""What a running session says of its steps, and how to hear it."""

from ds_inspector.live.finding import Session, follow, sessions
from ds_inspector.live.publisher import Publisher

__all__ = ["Publisher", "Session", "follow", "sessions"]
