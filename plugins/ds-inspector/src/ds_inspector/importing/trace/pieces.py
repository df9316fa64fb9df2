"""The events of a trace, piece by piece, so that neither text nor objects are ever all in memory.

The array is cut where one event seems to end and the next to begin. That a cut was right is known
once the piece before it is JSON: only whole elements between brackets are.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import orjson

from ds_core.errors import RefusedError
from ds_inspector.importing import limits
from ds_inspector.importing.trace.ahead import ahead

_BLOCK = 1 << 18  # small, as objects that fit the processor's cache are made and freed faster
_HEAD = 4 << 20
_PIECE = 16 << 20
_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_KINDS = 16  # of what may stand between events
_SPACE = b" \t\r\n"
_TRIES = 8


class Pieces:
    """Iterates over lists of what is in the array of events.

    Args:
        path: JSON, which may be compressed by gzip.

    Attributes:
        about: What stands around the array; known in full once all events are read.
        decode: Makes a list of events of JSON; where it fails, they are plain objects.

    Raises:
        RefusedError: While iterating: it is damaged, no trace, or larger than is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: dict[str, Any] = {}
        self.decode: Callable[[bytes], list[Any]] = orjson.loads
        self._between: bytes | None = None

    def __iter__(self) -> Iterator[list[Any]]:
        blocks = ahead(self._blocks())
        try:
            yield from self._pieces(blocks)
        except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
            reason = str(error).partition(":")[0]
            raise RefusedError(f"{self.path} is truncated or no JSON: {reason}.") from None
        finally:
            blocks.close()

    def _blocks(self) -> Iterator[bytes]:
        total = 0
        try:
            with self.path.open("rb") as raw:
                packed = raw.read(2) == b"\x1f\x8b"
                raw.seek(0)
                with gzip.GzipFile(fileobj=raw) if packed else raw as file:
                    while block := file.read(_BLOCK):
                        total += len(block)
                        if total > limits.TRACE:
                            raise limits.refuse(f"{self.path} has", limits.TRACE, "bytes, unpacked")
                        yield block
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise RefusedError(f"{self.path} is truncated or damaged.") from None

    def _pieces(self, blocks: Iterator[bytes]) -> Iterator[list[Any]]:
        text, opening = self._begin(blocks)
        if not opening:
            yield self._end(text)
            return
        enough = 0
        for block in blocks:
            text += block
            if len(text) < enough:
                continue
            piece, text = self._cut(text)
            if piece:
                enough = 0
                yield piece
            elif len(text) > _PIECE:  # no cut fits: the rest is read at once
                text = self._all(text, blocks)
            else:  # each attempt is as long as all before it
                enough = 2 * len(text)
        yield self._end(opening + text)

    def _begin(self, blocks: Iterator[bytes]) -> tuple[bytes, bytes]:
        """What follows the opening bracket, and how to open what is left; "" if all is read."""
        text, total = b"", 0
        for block in blocks:
            total += len(block)
            text = (text + block).removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
            if text[:1] == b"[":
                return text[1:], b"["
            found = _KEY.search(text, max(len(text) - len(block) - 100, 0))
            if found:
                try:
                    self.about = orjson.loads(text[: found.start()].rstrip(b", \t\r\n") + b"}")
                except orjson.JSONDecodeError:
                    break  # it is the key of something else
                return text[found.end() :], b'{"traceEvents":['
            if total > _HEAD:
                break
        return self._all(text, blocks), b""

    def _all(self, text: bytes, blocks: Iterator[bytes]) -> bytes:
        parts, total = [text], len(text)
        for block in blocks:
            parts.append(block)
            total += len(block)
            if total > limits.WHOLE:
                raise limits.refuse(f"{self.path} has", limits.WHOLE, "bytes in one piece")
        return b"".join(parts)

    def _cut(self, text: bytes) -> tuple[list[Any], bytes]:
        """The events in the longest beginning that is whole, and the rest."""
        for between in [self._between] if self._between else _kinds(text):
            end = len(text)
            for _ in range(_TRIES):
                end = text.rfind(between, 0, end)
                if end < 0:
                    break
                comma = end + between.index(b",")
                found = self._decoded(b"[" + text[:comma] + b"]")
                if found is None:
                    continue
                self._between = between
                return found, text[comma + 1 :]
        return [], text

    def _decoded(self, text: bytes) -> list[Any] | None:
        for decode in (self.decode, orjson.loads):
            try:
                found: list[Any] = decode(text)
                return found
            except (ValueError, msgspec.MsgspecError, RecursionError):
                continue
        return None

    def _end(self, text: bytes) -> list[Any]:
        found = orjson.loads(text)
        if isinstance(found, dict):
            events = found.pop("traceEvents", None)
            self.about = {**self.about, **found}
            found = events
        if not isinstance(found, list):
            raise RefusedError(f"{self.path} has no list of trace events.")
        return found


def _kinds(text: bytes) -> list[bytes]:
    """What may stand between events: the spaces are the same between all of them."""
    found: dict[bytes, None] = {}
    for match in _BETWEEN.finditer(text):
        found[match[0]] = None
        if len(found) == _KINDS:
            break
    return list(found)
