"""C++ and CUDA source as tokens, as far as finding names in it needs: no macro is expanded.

Comments are left out, strings are kept whole, line continuations may stand anywhere. Of
preprocessor conditions it is remembered which macros must not be defined for a token to count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

NEVER = "0"
"""Stands among `Token.unless` for code under `#if 0`."""

_SPLICE = r"\\\r?\n"
_TOKEN = re.compile(
    rf"""
    (?:[^\S\n]|{_SPLICE})*+(?:
    (?P<newline>\n)
  | (?P<nothing>\Z)
  | (?P<comment>/(?:{_SPLICE})*(?:/(?:{_SPLICE}|[^\n])*
      |\*[\s\S]*?(?:\*(?:{_SPLICE})*/|\Z)))
  | (?P<raw>(?:u8|[uUL])?R"(?P<delimiter>[^\s()\\"]{{0,16}})\([\s\S]*?(?:\)(?P=delimiter)"|\Z))
  | (?P<string>(?:u8|[uUL])?"(?:{_SPLICE}|\\[^\r\n]|[^"\\\n])*"?)
  | (?P<char>(?:u8|[uUL])?'(?:{_SPLICE}|\\[^\r\n]|[^'\\\n])*'?)
  | (?P<header>\#[ \t]*(?:include|include_next|import)[ \t]*(?:<[^>\n]*>|"[^"\n]*"))
  | (?P<directive>\#[ \t]*[a-z_]+)
  | (?P<name>(?:[^\W\d]|\$)[\w$]*(?:(?:{_SPLICE})+[\w$]+)*)
  | (?P<number>\.?\d(?:(?<=[eEpP])[+-]|'?[\w.])*)
  | (?P<punct><<<|>>>|::|->|&&|\|\||<<=?|>>=?|[-+*/%&|^=!<>]=|\S)
    )""",
    re.VERBOSE,
)
_ON_ONE_LINE = frozenset({"punct", "number", "header", "directive"})
_DEPTH = 64
_SILENT = ("#error", "#warning", "#pragma", "#line")
_DEFINED = re.compile(r"(?P<no>! )?(?:defined (?:\( )?)?(?P<macro>[^\W\d]\w*)(?: \))?")


class Token(NamedTuple):
    """One piece of source."""

    kind: str
    """`name`, `number`, `string`, `char`, `header`, `directive` or `punct`; `end` ends a
    directive."""
    text: str
    """A header's is its path alone; a directive's is as `#define`."""
    line: int
    column: int
    """Of its first character, counted from 1."""
    unless: frozenset[str] = frozenset()
    """Macros under any of which the preprocessor leaves it out."""


def tokens(text: str) -> Iterator[Token]:
    """All tokens of a file in order; raises nothing, whatever `text` is."""
    conditions = _Conditions()
    line, start_of_line = 1, 0
    fresh = True  # nothing but space since the line began
    directive = ""
    held: list[Token] = []  # of a directive, until it is read: a condition guards itself
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        start = match.start(kind)
        piece = text[start : match.end()]
        if start > match.start() and "\n" in match.group():
            # Lines that were continued before the token.
            lead = text[match.start() : start]
            if "\n" in lead:
                line += lead.count("\n")
                start_of_line = match.start() + lead.rindex("\n") + 1
        here, column = line, start - start_of_line + 1
        newlines = 0 if kind in _ON_ONE_LINE else piece.count("\n")
        if newlines:
            line += newlines
            start_of_line = start + piece.rindex("\n") + 1
        if kind in ("comment", "nothing"):
            continue
        if kind == "newline":
            if directive:
                held.append(Token("end", "", here, column))
                yield from _released(held, conditions)
            fresh, directive = True, ""
            continue
        if kind == "directive":
            if fresh:
                directive = "#" + piece[1:].strip()
                held.append(Token("directive", directive, here, column))
            fresh = False
            continue
        fresh = False
        if directive in _SILENT:
            continue
        if kind == "header":
            piece = re.split(r"[<\"]", piece, maxsplit=1)[1][:-1]
        elif kind == "raw":
            kind = "string"
        elif kind == "name" and newlines:
            piece = re.sub(_SPLICE, "", piece)
        if directive:
            held.append(Token(kind, piece, here, column))
        else:
            yield Token(kind, piece, here, column, conditions.unless)
    yield from _released(held, conditions)


def _released(held: list[Token], conditions: _Conditions) -> Iterator[Token]:
    if held:
        conditions.read(held[0].text, [token.text for token in held[1:] if token.kind != "end"])
    for token in held:
        yield token._replace(unless=conditions.unless)
    held.clear()


class _Branch(NamedTuple):
    outer: frozenset[str]
    so_far: frozenset[str]
    """What the branches before this one leave to it."""


class _Conditions:
    """The `#if`s around the present place."""

    def __init__(self) -> None:
        self.unless: frozenset[str] = frozenset()
        self._open: list[_Branch] = []

    def read(self, directive: str, condition: Sequence[str]) -> None:
        if directive in ("#if", "#ifdef", "#ifndef"):
            then, otherwise = _implied(directive, condition)
            self._open.append(_Branch(self.unless, otherwise))
            # So deep, a file is no longer written by hand: what it leaves out is then looked at.
            self.unless = self.unless | then if len(self.unless) < _DEPTH else self.unless
        elif not self._open:
            return
        elif directive in ("#elif", "#elifdef", "#elifndef"):
            outer, so_far = self._open.pop()
            then, otherwise = _implied(directive.replace("el", "", 1), condition)
            self.unless = outer | so_far | then
            so_far = so_far if len(so_far) > _DEPTH else so_far | otherwise
            self._open.append(_Branch(outer, so_far))
        elif directive == "#else":
            self.unless = self._open[-1].outer | self._open[-1].so_far
        elif directive == "#endif":
            self.unless = self._open.pop().outer


def _implied(directive: str, condition: Sequence[str]) -> tuple[frozenset[str], frozenset[str]]:
    """Macros that must be undefined in the branch that follows, and in those after it."""
    text = " ".join(condition)
    if directive == "#ifdef":
        text = f"defined {text}"
    elif directive == "#ifndef":
        text = f"! defined {text}"
    if text in ("0", "1"):
        never = frozenset({NEVER})
        return (never, frozenset()) if text == "0" else (frozenset(), never)
    then: set[str] = set()
    otherwise: set[str] = set()
    if " || " not in text:
        parts = [_DEFINED.fullmatch(part.strip()) for part in text.split("&&")]
        then = {part["macro"] for part in parts if part and part["no"]}
    if " && " not in text:
        parts = [_DEFINED.fullmatch(part.strip()) for part in text.split("||")]
        otherwise = {part["macro"] for part in parts if part and not part["no"]}
    return frozenset(then), frozenset(otherwise)
