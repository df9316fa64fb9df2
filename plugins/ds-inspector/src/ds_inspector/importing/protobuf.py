"""Protocol buffers by their wire format, without schemas or copies of what is not asked for.

The encoding: https://protobuf.dev/programming-guides/encoding. Messages are ranges of one buffer,
usually a file mapped to memory: a field of two gigabytes is passed over without being read.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator

from ds_inspector.importing import limits

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types."""

Field = tuple[int, int, int]
"""Number of the field; start and end of its bytes, or its value and -1."""


class DamagedError(ValueError):
    """Bytes that are no message."""


class Wire:
    """A buffer of messages.

    Args:
        data: What all ranges refer to.
    """

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self._left = limits.FIELDS

    def fields(self, start: int, end: int) -> Iterator[Field]:
        """The fields of the message in a range, in the order in which they come.

        Numbers of fixed width come as the unsigned integer that has their bits.

        Raises:
            DamagedError: The range holds no message.
            RefusedError: The file has more fields than are read.
        """
        data = self.data
        left = began = self._left
        try:
            while start < end:
                key = data[start]
                start += 1
                if key > 127:
                    key, start = self._varint(start - 1)
                kind = key & 7
                if kind == BYTES:
                    length = data[start]
                    start += 1
                    if length > 127:
                        length, start = self._varint(start - 1)
                    stop = start + length
                    if stop > end:
                        raise DamagedError("a field is longer than its message")
                    yield key >> 3, start, stop
                elif kind == VARINT:
                    value, stop = self._varint(start)
                    yield key >> 3, value, -1
                elif kind in (FIXED32, FIXED64):
                    stop = start + (4 if kind == FIXED32 else 8)
                    if stop > end:
                        raise DamagedError("a number is longer than its message")
                    yield key >> 3, int.from_bytes(data[start:stop], "little"), -1
                else:
                    raise DamagedError(f"there is no wire type {kind}")
                start = stop
                left -= 1
                if left < 0:
                    raise limits.refuse("The file has", limits.FIELDS, "protobuf fields")
        except IndexError:
            raise DamagedError("it ends within a field") from None
        finally:
            self._left -= began - left
        if start > end:
            raise DamagedError("a number is longer than its message")

    def _varint(self, start: int) -> tuple[int, int]:
        data, value, shift = self.data, 0, 0
        while True:
            byte = data[start]
            start += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value & 0xFFFFFFFFFFFFFFFF, start
            shift += 7
            if shift > 63:
                raise DamagedError("a number has more than 64 bits")

    def text(self, start: int, end: int, limit: int = limits.NAME) -> str:
        """A string, cut to a number of characters; bytes that are no UTF-8 are replaced."""
        if end - start > 4 * limit:
            return limits.cut(self.data[start : start + 4 * limit].decode(errors="replace"), limit)
        return limits.cut(self.data[start:end].decode(errors="replace"), limit)

    def numbers(self, start: int, end: int) -> list[int]:
        """Packed varints."""
        found = []
        while start < end:
            value, start = self._varint(start)
            found.append(value)
        return found


def signed(value: int) -> int:
    """A varint as an integer of 64 bits with a sign."""
    return value - (1 << 64) if value >> 63 else value


def real(value: int) -> float:
    """A number of 32 bits as a float."""
    number: float = struct.unpack("<f", (value & 0xFFFFFFFF).to_bytes(4, "little"))[0]
    return number
