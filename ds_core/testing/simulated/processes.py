"""A process of its own for what a process can do only once."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_fresh_process(
    function: Callable[Arguments, Result], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> Result:
    """Call `function` in a new interpreter and return what it returns, or raise what it raises.

    The function must be importable (defined at the top of a module) and what goes in and out must
    be picklable. A process that crashes raises `concurrent.futures.process.BrokenProcessPool`.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *args, **kwargs).result()
