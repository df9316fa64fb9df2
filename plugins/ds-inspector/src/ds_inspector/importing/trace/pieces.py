"""The events of a trace, piece by piece, so that neither text nor objects are ever all in memory.

The array is cut where one event seems to end and the next to begin. That a cut was right is known
once the piece before it is JSON: only whole elements between brackets are.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Callable, Generator, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, Any

import orjson

from ds_core.errors import RefusedError
from ds_inspector.importing import limits
from ds_inspector.importing.trace.ahead import ahead
from ds_inspector.importing.trace.helpers import Helpers

_FIRST = 1 << 16  # enough to see what it is
_BLOCK = 1 << 20  # small, as objects that fit the processor's cache are made and freed faster
_HEAD = 4 << 20
_LARGE = 48 << 20  # what is read within the time that it takes to start a process
_PIECE = 16 << 20
_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_KINDS = 16  # of what may stand between events
_SPACE = b" \t\r\n"
_GZIP = b"\x1f\x8b"
_TRIES = 8


class Pieces:
    """Iterates over what is in the array of events: lists of them, or what `decode` makes of these.

    Args:
        path: JSON, which may be compressed by gzip.

    Attributes:
        about: What stands around the array; known in full once all events are read.
        decode: What is made of a list in JSON; it raises `orjson.JSONDecodeError` if it is none.
            What stands at the end comes as a list.
        helpers: Decode most of it in other processes, if they are given.
        large: Whether that is worth it; known once there is the first piece.

    Raises:
        RefusedError: While iterating: it is damaged, no trace, or larger than is read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.about: dict[str, Any] = {}
        self.decode: Callable[[bytes], Any] = orjson.loads
        self.helpers: Helpers | None = None
        self.large = False
        self._between: bytes | None = None

    def __iter__(self) -> Iterator[Any]:
        with self.path.open("rb") as file:
            packed = file.read(2) == _GZIP
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            self.large = size > (_LARGE // 10 if packed else _LARGE)
            blocks = ahead(self._blocks(gzip.GzipFile(fileobj=file) if packed else file))
            try:
                yield from self._pieces(blocks)
            except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
                reason = str(error).partition(":")[0]
                raise RefusedError(f"{self.path} is truncated or no JSON: {reason}.") from None
            finally:
                blocks.close()

    def _blocks(self, file: IO[bytes] | gzip.GzipFile) -> Generator[bytes, None, None]:
        total, size = 0, _FIRST
        try:
            while block := file.read(size):
                total, size = total + len(block), _BLOCK
                if total > limits.TRACE:
                    raise limits.refuse(f"{self.path} has", limits.TRACE, "bytes, unpacked")
                yield block
        except (EOFError, zlib.error, gzip.BadGzipFile):
            raise RefusedError(f"{self.path} is truncated or damaged.") from None

    def _pieces(self, blocks: Iterator[bytes]) -> Iterator[Any]:
        text, opening = self._begin(blocks)
        if not opening:
            yield self._end(text)
            return
        enough = 0
        blocks = chain([b""], blocks)  # what there is may do
        while (block := next(blocks, None)) is not None:
            text += block
            if len(text) < enough:
                continue
            if self.helpers is not None and self._between is not None:
                left = yield from self._helped(self.helpers, self._between, text, blocks)
                self.helpers, text = None, b""
                blocks = chain(left, blocks)  # to be cut with care
                continue
            piece, text = self._cut(text)
            if piece is not None:
                enough = 0
                yield piece
            elif len(text) > _PIECE:  # no cut fits: the rest is read at once
                text = self._all(text, blocks)
            else:  # each attempt is as long as all before it
                enough = 2 * len(text)
        yield self._end(opening + text)

    def _helped(
        self, helpers: Helpers, between: bytes, text: bytes, blocks: Iterator[bytes]
    ) -> Generator[Any, None, list[bytes]]:
        """Pieces of text, made by others; returns blocks of text from the first wrong cut on."""
        rest = text

        def cut() -> Iterator[memoryview]:
            nonlocal rest
            for block in blocks:
                rest = text = rest + block
                found = text.rfind(between)
                if found >= 0:
                    comma = found + between.index(b",")
                    rest = text[comma + 1 :]
                    yield memoryview(text)[:comma]
                elif len(text) > _PIECE:
                    return

        left = yield from helpers.in_order(cut())
        return [*(piece.tobytes() + b"," for piece in left), rest]

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

    def _cut(self, text: bytes) -> tuple[Any, bytes]:
        """What is made of the longest beginning that is whole, and the rest."""
        for between in [self._between] if self._between else _kinds(text):
            end = len(text)
            for _ in range(_TRIES):
                end = text.rfind(between, 0, end)
                if end < 0:
                    break
                comma = end + between.index(b",")
                try:
                    found = self.decode(b"[" + text[:comma] + b"]")
                except (orjson.JSONDecodeError, RecursionError):
                    continue
                self._between = between
                return found, text[comma + 1 :]
        return None, text

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
