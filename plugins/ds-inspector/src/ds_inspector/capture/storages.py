"""Lives of storages, told from birth to death."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from ds_core.nested import tensors_in
from ds_inspector.capture.dispatch import Call, now

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ["temporary", "activation", "input", "gradient", "optimizer", "parameter", "buffer"]
"""In ascending rank: a storage is of the highest kind that it ever was."""


Facts = tuple[int, Any, Any, Any]
"""Not made into text yet, as that costs more than the rest."""


class _Life(weakref.ref):  # type: ignore[type-arg]
    """A reference to a storage, with its row."""

    __slots__ = ("key", "row")
    key: int
    row: int


class Storages:
    """Every storage that was seen, and when it was freed.

    torch keeps one Python object for each storage for as long as it lives in C++ as well, so that
    a weak reference to it dies with the memory, in whatever thread that happens.

    Attributes:
        born: Nanoseconds of `time.perf_counter_ns`.
        died: The same; 0 where it is alive.
        bytes: Its size when it was born; a storage that is resized ends and begins anew.
        made: The call that made it.
        number: Of that call; -1 where it was there before.
        facts: The step, and shape, dtype and device of the tensor that it was seen by.
        since: When the step began; whatever was there before was born then.
    """

    def __init__(self) -> None:
        self.born: list[int] = []
        self.died: list[int] = []
        self.bytes: list[int] = []
        self.kind: list[int] = []
        self.name: list[str] = []
        self.made: list[Call] = []
        self.number: list[int] = []
        self.facts: list[Facts] = []
        self.unseen = 0
        self.since = 0
        self._alive: dict[int, _Life] = {}
        self._ended = self._end  # bound once, as each reference holds it

    def _end(self, life: Any) -> None:
        self.died[life.row] = now()
        key = life.key
        if self._alive.get(key) is life:
            del self._alive[key]

    def see(self, tensor: Tensor, step: int) -> int | None:
        """Take note of a tensor's storage; its row where it is new, else None."""
        try:
            storage = tensor.untyped_storage()
        except (NotImplementedError, RuntimeError):  # sparse, or made by a subclass
            return self._see_inside(tensor, step)
        key = storage._cdata
        life = self._alive.get(key)
        size = storage.nbytes()
        if life is not None:
            if self.bytes[life.row] == size:
                return None
            self.died[life.row] = now()
        if not isinstance(size, int):
            return None  # symbolic: nothing is computed
        row = len(self.born)
        new = _Life(storage, self._ended)
        new.key, new.row = key, row
        self.born.append(now())
        self.died.append(0)
        self.bytes.append(size)
        self.kind.append(0)
        self.name.append("")
        self.made.append(_EXISTED)
        self.number.append(-1)
        self.facts.append((step, tensor.shape, tensor.dtype, tensor.device))
        self._alive[key] = new
        return row

    def _see_inside(self, tensor: Any, step: int) -> int | None:
        if not hasattr(tensor, "__tensor_flatten__"):
            self.unseen += 1
            return None
        row = None
        for name in tensor.__tensor_flatten__()[0]:
            found = self.see(getattr(tensor, name), step)
            row = found if row is None else row
        return row

    def call(self, value: Any, kind: str, step: int, name: str = "") -> None:
        """Say what the storages of all tensors in a value are."""
        rank = KINDS.index(kind)
        for tensor in tensors_in(value):
            row = self.see(tensor, step)
            if row is not None:
                self.born[row] = self.since
            try:
                life = self._alive.get(tensor.untyped_storage()._cdata)
            except (NotImplementedError, RuntimeError):
                continue
            if life is not None and self.kind[life.row] < rank:
                self.kind[life.row] = rank
                self.name[life.row] = name

    def living(self) -> list[int]:
        """Rows of what is alive."""
        return [life.row for life in list(self._alive.values())]

    def forget(self) -> None:
        """Watch no longer; what is alive stays so."""
        self._alive.clear()


_EXISTED = Call(0, "", "", "other", "")
