"""What of CUDA stands in one C++ or CUDA source: names, headers and constructs, with places."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ds_core.compatibility import cuda_names
from ds_core.compatibility.cpp_tokens import NEVER, Token, tokens
from ds_core.compatibility.warps import warp_sites

_PTX = re.compile(
    r"%\w*(?:lane|warp|sm)id|\b(?:cp\.async|ldmatrix|mma\.sync|wgmma|mbarrier|membar|fence\.)"
    r"|\b\w+\.(?:[\w:]+\.)*[busf](?:8|16|32|64)\b"
)
_OPERATORS_ONLY = {
    "return",
    "else",
    "case",
    "throw",
    "new",
    "delete",
    "goto",
    "sizeof",
    "co_return",
}
_AFTER_DECLARATOR = {";", "=", ",", ")", "(", "{", "[", ":"}
_CONDITIONS = {"#if", "#ifdef", "#ifndef", "#elif"}
_STARTS = {";", "{", "}", ">", "::", "(", ","}
_TYPE_KEYWORDS = {"struct", "class", "enum", "union", "using", "namespace", "typename"}


class Site(NamedTuple):
    """One occurrence."""

    name: str
    """Of a name or header: itself; of a construct: as in `porting.CONSTRUCTS`."""
    line: int
    column: int
    unless: frozenset[str] = frozenset()

    def lives(self, macros: Collection[str]) -> bool:
        """Whether a compiler that defines `macros` gets to see it."""
        return not (self.unless and self.unless.intersection((NEVER, *macros)))


class NativeScan(NamedTuple):
    """All of one file, in the order in which it stands there."""

    names: tuple[Site, ...] = ()
    headers: tuple[Site, ...] = ()
    constructs: tuple[Site, ...] = ()
    declared: frozenset[str] = frozenset()
    """Names that look like CUDA's and are declared here: they are the project's own."""
    kernels: tuple[Site, ...] = ()
    """Each `__global__`."""

    @property
    def first(self) -> Site | None:
        """The first thing of CUDA's, if there is one."""
        return min((*self.kernels, *self.names, *self.headers), key=lambda s: s[1:3], default=None)


def scan_native(text: str, is_cuda: bool) -> NativeScan:
    """Look through a source.

    Args:
        text: The source.
        is_cuda: Whether it is compiled for the device (`.cu`, `.cuh`): all inline assembly is
            then PTX. Elsewhere it counts where it reads like PTX.
    """
    found = list(tokens(text))
    names, headers, kernels = [], [], []
    declared: set[str] = set()
    constructs = list(_constructs(found, is_cuda))
    directive = ""
    for index, token in enumerate(found):
        if token.kind in ("directive", "end"):
            directive = token.text
        elif token.kind == "header":
            if cuda_names.is_header(token.text):
                headers.append(_site(token, token.text))
        elif token.kind == "name":
            if token.text == "__global__":
                kernels.append(_site(token, token.text))
            elif directive not in _CONDITIONS and cuda_names.is_name(token.text):
                if _declares(found, index):
                    declared.add(token.text)
                if not _belongs_elsewhere(found, index):
                    names.append(_site(token, token.text))
    return NativeScan(
        tuple(names), tuple(headers), tuple(constructs), frozenset(declared), tuple(kernels)
    )


def _site(token: Token, name: str) -> Site:
    return Site(name, token.line, token.column, token.unless)


def _text(found: Sequence[Token], index: int) -> str:
    return found[index].text if 0 <= index < len(found) else ""


def _belongs_elsewhere(found: Sequence[Token], index: int) -> bool:
    """A member, or a name in a namespace: CUDA's own are neither."""
    before = _text(found, index - 1)
    return before in (".", "->") or (before == "::" and found[index - 2].kind == "name")


def _declares(found: Sequence[Token], index: int) -> bool:
    before, after = _text(found, index - 1), _text(found, index + 1)
    if before in _TYPE_KEYWORDS or before == "#define":
        return True
    if after not in _AFTER_DECLARATOR:
        return False
    if before == ">":
        return True
    if before in ("*", "&"):
        # A type begins something: `float* x` declares, `= a * x` and `(&x` do not.
        if index < 2 or found[index - 2].kind != "name":
            return False
        start = found[index - 3] if index > 2 else None
        return start is None or start.kind in ("name", "end") or start.text in _STARTS
    return index > 0 and found[index - 1].kind == "name" and before not in _OPERATORS_ONLY


def _constructs(found: Sequence[Token], is_cuda: bool) -> Iterator[Site]:
    device_code = is_cuda or any(t.text in ("__global__", "__device__") for t in found)
    yield from (Site(*site) for site in (warp_sites(found) if device_code else ()))
    yield from _launches(found)
    directive = ""
    for index, token in enumerate(found):
        if token.kind in ("directive", "end"):
            directive = token.text
        elif token.kind == "header":
            known = cuda_names.construct(token.text)
            if known and cuda_names.is_header(token.text):
                yield _site(token, known)
        elif token.kind == "name":
            rule = _construct(found, index, directive, is_cuda)
            if rule:
                yield _site(token, rule)


def _construct(found: Sequence[Token], index: int, directive: str, is_cuda: bool) -> str:
    text, after = found[index].text, _text(found, index + 1)
    if text in ("asm", "__asm__", "__asm"):
        return "inline-ptx" if _is_ptx(found, index, is_cuda) else ""
    if directive in _CONDITIONS:
        # A macro that nobody defined is 0 here: nothing fails, code is left out.
        return "arch-guard" if text in ("__CUDA_ARCH__", "CUDART_VERSION") else ""
    if text in ("cutlass", "cute"):
        return "cutlass" if after == "::" else ""
    if text in ("wmma", "nvcuda"):
        return "wmma" if after == "::" or _text(found, index - 1) == "namespace" else ""
    if text == "texture":
        return "texture-reference" if after == "<" else ""
    if text == "cuda" and after == "::":
        return "async-copy" if _text(found, index + 2) in ("pipeline", "barrier") else ""
    return cuda_names.construct(text)


def _is_ptx(found: Sequence[Token], index: int, is_cuda: bool) -> bool:
    start = index + 1
    while _text(found, start) in ("volatile", "__volatile__", "inline", "goto"):
        start += 1
    if _text(found, start) != "(":
        return False
    text = "".join(token.text for token in found[start + 1 : start + 9] if token.kind == "string")
    return is_cuda or _PTX.search(text) is not None


def _launches(found: Sequence[Token]) -> Iterator[Site]:
    """Kernels that are launched from within a kernel."""
    depth, inside, coming = 0, 0, False
    for token in found:
        if token.text == "__global__":
            coming = True
        elif token.text == ";":
            coming = coming and inside > 0
        elif token.text == "{":
            depth += 1
            if coming and not inside:
                inside, coming = depth, False
        elif token.text == "}":
            inside = 0 if inside == depth else inside
            depth -= 1
        elif token.text == "<<<" and token.kind == "punct" and inside:
            yield _site(token, "device-launch")
