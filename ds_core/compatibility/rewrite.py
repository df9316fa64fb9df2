"""Rewriting what has an equal on every accelerator; needs libcst.

Everything that is rewritten does the same on a CUDA device as before, and serves other
accelerators too. What has no equal is left to the reader of the findings.
"""

from __future__ import annotations

import ast
import re
import warnings

import libcst as cst

from ds_core.compatibility.python_bindings import AMP, Bindings
from ds_core.compatibility.python_scan import Use, scan_python
from ds_core.compatibility.torch_cuda import EQUAL, HARMLESS

_AUTOCAST = ("enabled", "dtype", "cache_enabled")
_NAMED = re.compile(rb"""(["'])cuda(?::\d*)?""")
_CONDITIONS = {"is_available", "device_count"}
_FACTORIES = {
    *("zeros", "ones", "empty", "full", "rand", "randn", "randint", "randperm", "eye"),
    *("arange", "linspace", "logspace", "tensor", "as_tensor"),
    *("zeros_like", "ones_like", "empty_like", "full_like", "rand_like", "randn_like"),
}


def rewrite(source: bytes) -> bytes:
    """The source with all that has an equal replaced; the very same bytes where nothing has.

    A condition (`torch.cuda.is_available()`) is only replaced where nothing is left in the file
    that needs CUDA: it may stand before just that. Never fails: what cannot be parsed or printed
    back as it was is returned as it is.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source)
        bindings = Bindings.of(tree)
        if bindings is None:
            return source
        module = cst.parse_module(source)
        if module.bytes != source:
            return source
        changed = module.visit(_Rewriter(bindings, conditions=True)).bytes
        if _NAMED.search(changed) or any(_needs_cuda(use) for use in scan_python(changed)):
            changed = module.visit(_Rewriter(bindings, conditions=False)).bytes
            scan_python(changed)
    except (SyntaxError, ValueError, RecursionError, MemoryError, cst.ParserSyntaxError):
        return source
    return changed


def _needs_cuda(use: Use) -> bool:
    if use.rule == "torch-cuda":
        return use.subject.partition(".")[0] not in HARMLESS
    return use.rule in ("cuda-call", "cuda-amp", "cuda-attribute", "device-string", "map-location")


class _Rewriter(cst.CSTTransformer):
    def __init__(self, bound: Bindings, conditions: bool) -> None:
        self.bound = bound
        self.conditions = conditions

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom:
        is_amp = _dotted(original_node.module) == "torch.cuda.amp" and not original_node.relative
        if not (self.bound.amp and is_amp):
            return updated_node
        return updated_node.with_changes(module=_names("torch", "amp"))

    def leave_IfExp(self, original_node: cst.IfExp, updated_node: cst.IfExp) -> cst.IfExp:
        asked = f"{self.bound.torch}.cuda.is_available"
        test = original_node.test
        if (
            isinstance(test, cst.Call)
            and _dotted(test.func) == asked
            and _string(original_node.body) == "cuda"
            and _string(original_node.orelse) == "cpu"
        ):
            return updated_node.with_changes(
                body=cst.Attribute(self._current(), cst.Name("type")),
                test=test.with_changes(
                    func=_names(self.bound.torch, "accelerator", "is_available")
                ),
            )
        return updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        torch, name = self.bound.torch, _dotted(original_node.func)
        head, _, last = name.rpartition(".")
        if head == f"{torch}.cuda" and last in EQUAL:
            asks = last in _CONDITIONS and not self.conditions
            if asks or any(arg.keyword or arg.star for arg in original_node.args):
                return updated_node
            return updated_node.with_changes(func=_names(torch, "accelerator", EQUAL[last]))
        if head == f"{torch}.cuda.amp" and last in AMP:
            return self._amp(updated_node, last, _names(torch, "amp", last))
        if name in self.bound.amp:
            return self._amp(updated_node, self.bound.amp[name], updated_node.func)
        if last == "init_process_group" and self._is_distributed(head):
            return _collective(updated_node)
        if head == torch and last in _FACTORIES:
            return self._factory(updated_node)
        return self._method(original_node, updated_node)

    def _method(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:
        func = updated_node.func
        if not isinstance(func, cst.Attribute):
            return updated_node
        if _dotted(func.value).partition(".")[0] in self.bound.modules:
            return updated_node
        args = list(updated_node.args)
        if func.attr.value == "cuda" and not self.bound.has_cuda_method:
            keywords = [arg.keyword.value if arg.keyword else "" for arg in args]
            is_super = isinstance(func.value, cst.Call) and _dotted(func.value.func) == "super"
            if not is_super and keywords in ([], ["non_blocking"]):
                moved = func.with_changes(attr=cst.Name("to"))
                return updated_node.with_changes(
                    func=moved, args=[cst.Arg(self._current(), comma=_comma(bool(args))), *args]
                )
        plain = bool(args) and not args[0].keyword and not args[0].star
        if func.attr.value == "to" and plain and _string(args[0].value) == "cuda":
            args[0] = args[0].with_changes(value=self._current())
            return updated_node.with_changes(args=args)
        return updated_node

    def _amp(self, call: cst.Call, kind: str, func: cst.BaseExpression) -> cst.Call:
        args = list(call.args)
        if kind == "autocast":
            # torch.amp.autocast takes the same, but in another order.
            args = [
                arg if arg.keyword else arg.with_changes(keyword=cst.Name(name), equal=_EQUAL_SIGN)
                for arg, name in zip(args, (*_AUTOCAST, *[""] * len(args)), strict=False)
            ]
        first = cst.Arg(cst.SimpleString('"cuda"'), comma=_comma(bool(args)))
        return call.with_changes(func=func, args=[first, *args])

    def _factory(self, call: cst.Call) -> cst.Call:
        args = [
            arg.with_changes(value=self._current())
            if arg.keyword and arg.keyword.value == "device" and _string(arg.value) == "cuda"
            else arg
            for arg in call.args
        ]
        return call.with_changes(args=args)

    def _is_distributed(self, name: str) -> bool:
        return name in self.bound.distributed or name == f"{self.bound.torch}.distributed"

    def _current(self) -> cst.Call:
        return cst.Call(_names(self.bound.torch, "accelerator", "current_accelerator"))


def _collective(call: cst.Call) -> cst.Call:
    """Without a backend's name torch takes each device's own."""
    args = []
    for number, arg in enumerate(call.args):
        is_backend = arg.keyword.value == "backend" if arg.keyword else number == 0
        if is_backend and not arg.star and _string(arg.value) == "nccl":
            arg = arg.with_changes(value=cst.Name("None"))
        args.append(arg)
    lone = len(args) == 1 and call.args[0].value is not args[0].value
    return call.with_changes(args=[] if lone else args)


def _comma(followed: bool) -> cst.Comma | cst.MaybeSentinel:
    if not followed:
        return cst.MaybeSentinel.DEFAULT
    return cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))


_EQUAL_SIGN = cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace(""))


def _names(first: str, *rest: str) -> cst.BaseExpression:
    node: cst.BaseExpression = cst.Name(first)
    for name in rest:
        node = cst.Attribute(node, cst.Name(name))
    return node


def _dotted(node: cst.CSTNode | None) -> str:
    """`a.b.c` as it is written; empty for anything else, also with comments or brackets inside."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        if node.lpar:
            return ""
        parts.append(node.attr.value)
        node = node.value
    if not isinstance(node, cst.Name) or node.lpar:
        return ""
    return ".".join([node.value, *reversed(parts)])


def _string(node: cst.BaseExpression) -> str | None:
    """The value of a plain string without brackets around it."""
    if not isinstance(node, cst.SimpleString) or node.lpar:
        return None
    value = node.evaluated_value
    return value if isinstance(value, str) else None
