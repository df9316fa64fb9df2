"""Makes batches of parts of a trace until there are no more: run as a process of its own."""

from __future__ import annotations

import gc
import pickle
import struct
import sys
from contextlib import suppress
from typing import IO

import orjson

from ds_inspector.importing.trace.batch import decode

END = b""
"""After which no text comes."""

_LENGTH = struct.Struct("<Q")


def send(pipe: IO[bytes], content: bytes | memoryview) -> None:
    """Write one message."""
    pipe.write(_LENGTH.pack(len(content)))
    pipe.write(content)
    pipe.flush()


def receive(pipe: IO[bytes]) -> bytes:
    """Read one message.

    Raises:
        EOFError: There is none, or not all of it.
    """
    head = pipe.read(_LENGTH.size)
    if len(head) == _LENGTH.size:
        (size,) = _LENGTH.unpack(head)
        content = pipe.read(size)
        if len(content) == size:
            return content
    raise EOFError


def main() -> None:
    """Answer each text with a batch, or with None if no events stand in it."""
    gc.disable()  # nothing of what JSON makes refers to itself
    with suppress(EOFError):
        while (text := receive(sys.stdin.buffer)) != END:
            try:
                batch = decode(b"[%b]" % text)
            except (orjson.JSONDecodeError, RecursionError):
                batch = None
            try:
                send(sys.stdout.buffer, pickle.dumps(batch, pickle.HIGHEST_PROTOCOL))
            except BrokenPipeError:  # who asked is gone
                sys.stdout = None  # which would be flushed at exit
                return


if __name__ == "__main__":
    main()
