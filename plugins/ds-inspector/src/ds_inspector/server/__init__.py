"""The page: served on loopback, or written as one file."""

from ds_inspector.server.self_contained import write_html
from ds_inspector.server.serving import serve

__all__ = ["serve", "write_html"]
