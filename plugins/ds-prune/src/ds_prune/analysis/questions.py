"""Branches on the values of tensors: what a forward asks, and other answers than the true ones."""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

Question = tuple[str, int, int]
"""File and line that ask, and how often they asked before in the same forward."""

Answers = Mapping[Question, bool]

_MOST = 100
"""Questions of one forward; one that asks until something is done might never end."""

_NEAR = 3
"""Lines from a condition to what is raised."""

_OBJECTION = re.compile(r"(^|: *)(raise|assert)\b")


class Hearing:
    """What one forward asked.

    Attributes:
        answers: What it was told, in the order of its questions.
        tensors: Whose values they are, for questions to which there are two answers.
    """

    def __init__(self) -> None:
        self.answers: dict[Question, bool] = {}
        self.tensors: dict[Question, Tensor] = {}


@contextmanager
def answering(answers: Answers, otherwise: bool | None = None) -> Iterator[Hearing]:
    """Within, conditions on tensors have these answers.

    Args:
        answers: For questions that are known.
        otherwise: The answer to others; without, it is the true one.

    A tensor that is asked twice, and not written into meanwhile, is one question.
    """
    from torch.overrides import TorchFunctionMode

    heard = Hearing()
    told: list[tuple[Tensor, int, bool]] = []
    asked: dict[tuple[str, int], int] = {}

    class Mode(TorchFunctionMode):
        def __torch_function__(
            self, function: Callable[..., Any], _: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if not _asks(function, args):
                return function(*args, **(kwargs or {}))
            tensor = args[0]
            version = 0 if tensor.is_inference() else tensor._version
            for one, then, answer in told:
                if one is tensor and then == version:
                    return answer
            if len(heard.answers) == _MOST:
                raise RuntimeError(f"the forward asks for more than {_MOST} values")
            place = _place()
            question = (*place, asked.get(place, 0))
            asked[place] = question[2] + 1
            fixed = getattr(tensor, "constant", None) is not None
            if question in answers and not fixed:
                answer = answers[question]
            elif fixed or otherwise is None:
                answer = bool(function(*args, **(kwargs or {})))
            else:
                answer = otherwise
            told.append((tensor, version, answer))
            heard.answers[question] = answer
            if not fixed:
                heard.tensors[question] = tensor
            return answer

    with Mode():
        yield heard


def _asks(function: Any, args: Any) -> bool:
    import torch

    if not args or not isinstance(args[0], torch.Tensor):
        return False
    if function is torch.Tensor.item:
        return args[0].dtype == torch.bool
    return function is torch.Tensor.__bool__


def _place() -> tuple[str, int]:
    """Of the innermost code that is not torch's."""
    import torch

    own = str(Path(torch.__file__).parent)
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(own):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def objects(error: BaseException, asked: Question) -> bool:
    """Whether the code that asked objects to the answer, by `raise` or `assert` right after it.

    Errors that come later may be due to an answer that does not fit the other values.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    file, line = trace.tb_frame.f_code.co_filename, trace.tb_lineno
    near = file == asked[0] and 0 <= line - asked[1] <= _NEAR
    return near and bool(_OBJECTION.search(linecache.getline(file, line).strip()))
