"""Following a forward through the modules of a model, by their qualified names."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ds_core.changes import Changes

if TYPE_CHECKING:
    from torch.nn import Module

Enter = Callable[[str], None]
"""`enter(name)`: called as a module's forward begins."""

Leave = Callable[[str, Any, Any], None]
"""`leave(name, inputs, output)`: called as it ends, also by an exception (the output is then None).

The inputs are the positional arguments and the others.
"""


def unwrapped(model: Module) -> Module:
    """The model without the wrappers of `torch.compile` and data parallelism."""
    seen: set[int] = set()
    while id(model) not in seen:
        seen.add(id(model))
        inner = getattr(model, "_orig_mod", None)
        if inner is None and type(model).__name__ in _WRAPPERS:
            inner = getattr(model, "module", None)
        model = model if inner is None else inner
    return model


_WRAPPERS = ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel")


def names_of(model: Module) -> dict[Module, str]:
    """Every module once, under the first of its names; the model itself is ""."""
    return {module: name for name, module in model.named_modules()}


def follow(names: dict[Module, str], enter: Enter, leave: Leave) -> Changes:
    """Call `enter` and `leave` around every forward of these modules, until undone.

    The hooks are torch's for all modules: nothing is on the model, which may be copied and saved
    meanwhile. A forward that is compiled is left alone, as it would call them, or not, for good.
    """
    from torch.compiler import is_compiling
    from torch.nn.modules.module import (
        register_module_forward_hook,
        register_module_forward_pre_hook,
    )

    known = {id(module): name for module, name in names.items()}

    def before(module: Module, args: Any) -> None:
        if not is_compiling():
            name = known.get(id(module))
            if name is not None:
                enter(name)

    def after(module: Module, args: Any, *rest: Any) -> None:
        if not is_compiling():
            name = known.get(id(module))
            if name is not None:
                # After an exception, torch gives no keyword arguments.
                kwargs, output = rest if len(rest) == 2 else ({}, None)
                leave(name, (args, kwargs), output)

    changes = Changes()
    # torch warns of such hooks where a compiled model is called, though ours do nothing there.
    warnings.filterwarnings("ignore", message="Using `torch.compile.module.` when there are global")
    changes.on_undo(functools.partial(_remove_filter, warnings.filters[0]))
    changes.add_handle(register_module_forward_pre_hook(before))
    handle = register_module_forward_hook(after, with_kwargs=True, always_call=True)
    changes.on_undo(functools.partial(_forget, handle.id))  # torch's own removal leaves that
    changes.add_handle(handle)
    return changes


def _forget(hook: int) -> None:
    from torch.nn.modules import module

    module._global_forward_hooks_with_kwargs.pop(hook, None)


def _remove_filter(entry: Any) -> None:
    filters: Any = warnings.filters
    if entry in filters:
        filters.remove(entry)
