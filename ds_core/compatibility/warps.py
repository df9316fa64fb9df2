"""Where device code takes it that a warp has 32 lanes, and a lane mask 32 bits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from ds_core.compatibility.cpp_tokens import Token

Found = tuple[str, int, int, frozenset[str]]
"""Construct, line, column and macros, as `native_scan.Site` has them."""

_SIZE_NAME = re.compile(r"(?i)k?_?(?:warp_?(?:size|width)|(?:threads|lanes)_?per_?warp)")
_LANE_NAME = re.compile(r"(?i)thread|block_?(?:dim|size)|lane|warp|(?:^|_)tid")
_WARP_NAME = re.compile(r"(?i)lane|warp")
_MASK_NAME = re.compile(r"(?i).*(?:mask|lanes|full|active).*")
_TAKES_MASK = re.compile(
    r"__(?:shfl|shfl_up|shfl_down|shfl_xor|ballot|any|all|uni|match_any|match_all|reduce_\w+)_sync"
    r"|__syncwarp"
)
_GIVES_MASK = re.compile(r"__ballot(?:_sync)?|__activemask|__match_(?:any|all)_sync")
_COUNTS_BITS = {"__popc", "__ffs", "__clz", "__fns"}
_ALL_LANES = re.compile(
    r"0[xX][fF]{8}[uU]?|-1|~0[uU]?|\w+\(-1\)|\w+\{-1\}|\((?:\w+)\)-1|UINT32_MAX|static_cast<\w+>\(-1\)"
)
_NARROW = {"unsigned", "int", "uint32_t", "int32_t", "uint", "u32"}
_WIDTH_AFTER = {"/": 32, "%": 32, "*": 32, "&": 31, ">>": 5, "<<": 5}
_BACKWARD_END = {";", "{", "}", "=", ",", "?", ":", "&&", "||", "<", ">", "return", "+", "-"}


def warp_sites(tokens: Sequence[Token]) -> Iterator[Found]:
    """All such places, those of one kind on one line once."""
    told: set[tuple[str, int]] = set()
    masked = any(_TAKES_MASK.fullmatch(token.text) for token in tokens if token.kind == "name")
    for index, token in enumerate(tokens):
        rule = ""
        if token.kind == "number":
            rule = _of_number(tokens, index, masked)
        elif token.kind == "name":
            rule = _of_name(tokens, index)
        if rule and (rule, token.line) not in told:
            told.add((rule, token.line))
            yield rule, token.line, token.column, token.unless


def value(text: str) -> int | None:
    """What an integer literal says; None for any other number."""
    digits = text.replace("'", "").lower().rstrip("ul")
    try:
        return int(digits, 0) if not re.fullmatch(r"0\d+", digits) else int(digits, 8)
    except ValueError:
        return None


def _of_number(tokens: Sequence[Token], index: int, masked: bool) -> str:
    number = value(tokens[index].text)
    before = tokens[index - 1] if index else None
    if number is None or before is None:
        return ""
    if number == 0xFFFFFFFF:
        named = before if before.text not in ("=", "{", "(") else tokens[max(index - 2, 0)]
        if masked and named.kind == "name" and _MASK_NAME.fullmatch(named.text):
            return "lane-mask"
        return ""
    if number == 32:
        named = before if before.text not in ("=", "{", "(") else tokens[max(index - 2, 0)]
        if named.kind == "name" and _SIZE_NAME.fullmatch(named.text):
            return "warp-size"
    if _WIDTH_AFTER.get(before.text) == number:
        about = _WARP_NAME if before.text in ("*", "<<") else _LANE_NAME
        return "warp-size" if _speaks_of(about, tokens, index - 2) else ""
    return ""


def _of_name(tokens: Sequence[Token], index: int) -> str:
    text = tokens[index].text
    called = index + 1 < len(tokens) and tokens[index + 1].text == "("
    if not called:
        return ""
    if text == "for":
        return "warp-size" if _halves_a_warp(tokens, index + 1) else ""
    if _TAKES_MASK.fullmatch(text) and _ALL_LANES.fullmatch(_first_argument(tokens, index + 2)):
        return "lane-mask"
    if _GIVES_MASK.fullmatch(text):
        narrow = {token.text for token in tokens[max(index - 4, 0) : index]}
        assigned = index > 1 and tokens[index - 1].text == "=" and tokens[index - 2].kind == "name"
        if (assigned and narrow & _NARROW) or (
            index > 1 and tokens[index - 2].text in _COUNTS_BITS and tokens[index - 1].text == "("
        ):
            return "lane-mask"
    return ""


def _first_argument(tokens: Sequence[Token], index: int) -> str:
    """What stands from `index` up to a comma or the end of the call; empty where it is long."""
    depth, text = 0, ""
    for token in tokens[index : index + 10]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth < 0 or (depth == 0 and token.text == ","):
            return text
        text += token.text
    return ""


def _speaks_of(what: re.Pattern[str], tokens: Sequence[Token], index: int) -> bool:
    """Whether the operand that ends at `index` has a name that `what` is found in."""
    depth = 0
    for token in reversed(tokens[max(index - 24, 0) : index + 1]):
        if token.text in (")", "]"):
            depth += 1
        elif token.text in ("(", "["):
            depth -= 1
            if depth < 0:
                return False
        elif depth == 0 and token.text in _BACKWARD_END:
            return False
        elif token.kind == "name" and what.search(token.text):
            return True
    return False


def _halves_a_warp(tokens: Sequence[Token], index: int) -> bool:
    """A loop from 16 down to 1, or from 1 up to 16, around a shuffle."""
    depth, head = 0, []
    for end in range(index, min(index + 40, len(tokens))):
        depth += {"(": 1, ")": -1}.get(tokens[end].text, 0)
        head.append(tokens[end].text)
        if depth == 0:
            break
    else:
        return False
    text = " ".join(head)
    down = re.search(r"= 16 ;", text) and re.search(r">>=? 1|/=? 2", text)
    up = re.search(r"(?:< 32|<= 16) ;", text) and re.search(r"<<=? 1|\*=? 2", text)
    body = tokens[end : end + 60]
    return bool(down or up) and any(token.text.startswith("__shfl") for token in body)
