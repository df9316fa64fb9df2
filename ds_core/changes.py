"""What a session changed on the user's objects, in order, so that it can all be undone."""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from ds_core.errors import SessionError

_ABSENT = object()


class Changes:
    """A log of changes, undone from the last to the first.

    Components change the user's objects only through it; whatever fits none of its methods is done
    by hand and its opposite given to `on_undo`.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []

    def __len__(self) -> int:
        return len(self._undo)

    def on_undo(self, action: Callable[[], None]) -> None:
        """Have `action` called when the log is undone."""
        self._undo.append(action)

    def set_attribute(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute; undoing restores the old value, or its absence."""
        old = vars(owner).get(name, _ABSENT)
        setattr(owner, name, value)

        def undo() -> None:
            if old is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)

        self.on_undo(undo)

    def set_methods(self, owner: Any, **methods: Any) -> None:
        """Give one object methods or properties of its own by swapping its class for a subclass.

        Identity, `isinstance`, `repr` and `__dict__` stay as they are. A copy or a pickle of the
        object is one of its original class.
        """
        swap = _Swap(owner, type(owner), methods)
        swap.make()

        def undo() -> None:
            if type(owner) is not swap.derived:
                raise SessionError(
                    f"The class of {swap.base.__name__} was changed to "
                    f"{type(owner).__qualname__} after the session attached.",
                    mend="Undo that change first, then detach.",
                )
            owner.__class__ = swap.base

        self.on_undo(undo)

    def add_gradient_hook(self, parameter: Any, hook: Callable[[Any], Any]) -> None:
        """Register a tensor hook that runs before the user's own; undoing leaves no trace."""
        before = parameter._backward_hooks
        handle = parameter.register_hook(hook)
        hooks = parameter._backward_hooks
        hooks.move_to_end(handle.id, last=False)

        def undo() -> None:
            handle.remove()
            if before is None and not hooks:
                parameter._backward_hooks = None

        self.on_undo(undo)

    def add_handle(self, handle: Any) -> None:
        """Have a torch hook handle removed when the log is undone."""
        self.on_undo(handle.remove)

    def undo(self) -> None:
        """Undo everything. An entry that fails does not keep the others from being undone.

        Raises:
            Exception: The first failure, after all entries have been tried. Those that failed stay
                in the log, for another try.
        """
        failure: Exception | None = None
        failed: list[Callable[[], None]] = []
        while self._undo:
            action = self._undo.pop()
            try:
                action()
            except Exception as error:
                failure = failure or error
                failed.append(action)
        self._undo = failed[::-1]
        if failure is not None:
            raise failure


class _Swap:
    """One object that has methods of its own, and the class that it had without them."""

    def __init__(self, owner: Any, base: type, methods: dict[str, Any]) -> None:
        self.owner, self.base, self._methods = owner, base, methods
        self.derived = base

    def make(self) -> None:
        self.derived = _subclass(self.base, {**self._methods, "_ds_swap": self})
        self.owner.__class__ = self.derived

    def restore(self) -> None:
        """Put the methods back, on whatever class the object has by now."""
        if type(self.owner) is self.base:
            self.owner.__class__ = self.derived
        else:
            self.base = type(self.owner)
            self.make()


@contextmanager
def plainly(objects: Iterable[Any]) -> Iterator[None]:
    """Within, objects are of the classes that they had before methods of their own were set.

    A class that is changed within stays, under the methods.
    """
    swaps: list[_Swap] = []
    for one in objects:
        while (swap := vars(type(one)).get("_ds_swap")) is not None and swap.owner is one:
            swaps.append(swap)
            one.__class__ = swap.base
    try:
        yield
    finally:
        for swap in reversed(swaps):
            swap.restore()


def _subclass(base: type, methods: dict[str, Any]) -> type:
    def as_original(self: Any, act: Callable[[], Any]) -> Any:
        swapped = type(self)
        self.__class__ = base
        try:
            return act()
        finally:
            self.__class__ = swapped

    def __deepcopy__(self: Any, memo: dict[int, Any]) -> Any:
        return as_original(self, lambda: copy.deepcopy(self, memo))

    def __copy__(self: Any) -> Any:
        return as_original(self, lambda: copy.copy(self))

    def __reduce_ex__(self: Any, protocol: Any) -> Any:
        made = as_original(self, lambda: self.__reduce_ex__(protocol))
        if isinstance(made, tuple) and made[0] is copyreg.__newobj__:  # type: ignore[attr-defined]
            # pickle insists that this function's class be the object's; the plain one it takes.
            return (made[1][0].__new__, *made[1:])
        return made

    body: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__deepcopy__": __deepcopy__,
        "__copy__": __copy__,
        "__reduce_ex__": __reduce_ex__,
        **methods,
    }
    return type(base.__name__, (base,), body)
