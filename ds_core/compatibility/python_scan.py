"""What in a Python source is tied to NVIDIA's cards: places and subjects, for any target."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from ds_core.compatibility import torch_cuda
from ds_core.compatibility.python_literals import compares_text, outcomes, text_of
from ds_core.compatibility.python_names import Names, catches_import_errors, tail
from ds_core.components.porting import CUDA_PACKAGES


class Use(NamedTuple):
    """One place."""

    rule: str
    line: int
    column: int
    subject: str
    """What stands there, in the words of the source; of a dtype, its short name."""
    mild: bool = False
    """Nothing fails there, or it is only reached where CUDA is, but the program does something
    else than meant."""


_CUDA = re.compile(r"cuda(?::\d+)?")
_DEVICE_KEYWORDS = {"device", "device_type", "pin_memory_device", "device_map", "init_device"}
_DEVICE_NAME = re.compile(r"(?i)(?:.*_)?(?:device|dev|device_type|device_name)")
_ONLY_WARN = {"torch.autocast", "torch.amp.autocast", "torch.amp.GradScaler"}
"""What is told a device that does not exist and does nothing, with a warning."""
_DEVICE_FIRST = {
    *("torch.device", "torch.autocast", "torch.amp.autocast", "torch.amp.GradScaler"),
    *("torch.get_device_module", "torch.set_default_device", "torch.Generator", "torch.Stream"),
    *("torch.Event", "torch.distributed.init_device_mesh"),
    "torch.distributed.device_mesh.init_device_mesh",
}


def scan_python(source: bytes | str) -> list[Use]:
    """All uses in a source, in the order in which they stand there.

    Args:
        source: As bytes, its encoding declaration is obeyed.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: It cannot be parsed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    scan = _Scan(Names(tree))
    scan.visit(tree)
    return sorted(set(scan.uses), key=lambda use: (use.line, use.column, use.rule))


class _Scan(ast.NodeVisitor):
    def __init__(self, names: Names) -> None:
        self.names = names
        self.uses: list[Use] = []
        self.guarded = False
        """Inside a branch that is taken where CUDA is available alone."""
        self.caught = False
        """Inside a block whose failing imports are caught."""

    def note(self, rule: str, node: ast.AST, subject: str, mild: bool = False) -> None:
        line, column = getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1
        self.uses.append(Use(rule, line, column, subject, mild or self.guarded))

    def generic_visit(self, node: ast.AST) -> None:
        # As ast's own, in half the time.
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                for item in value:
                    if isinstance(item, ast.AST):
                        self.visit(item)
            elif isinstance(value, ast.AST) and name != "ctx":
                self.visit(value)

    # Blocks

    def visit_If(self, node: ast.If) -> None:
        self.visit(node.test)
        if tail(node.test) != "TYPE_CHECKING":
            outer, self.guarded = self.guarded, self.guarded or self._asks_for_cuda(node.test)
            self._block(node.body)
            self.guarded = outer
        self._block(node.orelse)

    def visit_Try(self, node: ast.Try) -> None:
        outer, self.caught = self.caught, self.caught or catches_import_errors(node)
        self._block(node.body)
        self.caught = outer
        self._block([*node.handlers, *node.orelse, *node.finalbody])

    def _block(self, statements: Sequence[ast.AST]) -> None:
        for statement in statements:
            self.visit(statement)

    def _asks_for_cuda(self, test: ast.expr) -> bool:
        if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
            return any(map(self._asks_for_cuda, test.values))
        if isinstance(test, ast.Compare):
            equal = len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)
            return equal and "cuda" in (text_of(test.left), text_of(test.comparators[0]))
        call = test.func if isinstance(test, ast.Call) else test
        return self.names.dotted(call) == "torch.cuda.is_available" or tail(test) == "is_cuda"

    # Names

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._name(node, self.names.dotted(node))

    def visit_Attribute(self, node: ast.Attribute) -> None:
        dotted = self.names.dotted(node)
        if dotted:
            self._name(node, dotted)
            return
        if node.attr == "is_cuda" and isinstance(node.ctx, ast.Load):
            self.note("cuda-attribute", node, "is_cuda", mild=True)
        self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._package(node, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level or not node.module:
            return
        for alias in node.names:
            self._package(node, f"{node.module}.{alias.name}")
            self._name(node, f"{node.module}.{alias.name}", imported=True)

    def _package(self, node: ast.AST, name: str) -> None:
        found = next((p for p in CUDA_PACKAGES if f"{name}.".startswith(f"{p}.")), "")
        if found:
            self.note("cuda-package", node, found, self.caught)

    def _name(self, node: ast.AST, dotted: str, imported: bool = False) -> None:
        root, _, rest = dotted.partition(".")
        if root != "torch":
            return
        if rest.startswith("cuda.amp."):
            self.note("cuda-amp", node, dotted)
        elif rest.startswith("cuda.") and rest != "cuda.amp":
            self.note("torch-cuda", node, rest.removeprefix("cuda."))
        elif rest in torch_cuda.DTYPES and not imported:
            self.note("dtype", node, torch_cuda.DTYPES[rest])

    # Calls

    def visit_Call(self, node: ast.Call) -> None:
        dotted = self.names.dotted(node.func)
        method = node.func.attr if isinstance(node.func, ast.Attribute) and not dotted else ""
        last = dotted.rpartition(".")[2] or tail(node.func)
        first = node.args[0] if node.args else None
        if method == "cuda":
            self.note("cuda-call", node.func, ".cuda()")
        elif method == "pin_memory":
            self.note("pin-memory", node, ".pin_memory()")
        elif method in torch_cuda.DTYPE_METHODS and not node.args:
            self.note("dtype", node, torch_cuda.DTYPE_METHODS[method])
        if first is not None and (method == "to" or dotted in _DEVICE_FIRST):
            self._device(first, mild=dotted in _ONLY_WARN)
        if last in ("init_process_group", "new_group") and first is not None:
            self._collective(first)
        if dotted in ("torch.load", "torch.hub.load_state_dict_from_url"):
            self._load(node)
        if last == "GradScaler":
            self.note("loss-scaler", node, "GradScaler")
        if dotted.endswith("cpp_extension.CUDAExtension"):
            self.note("cuda-extension", node, "CUDAExtension")
        elif dotted.endswith(("cpp_extension.load", "cpp_extension.load_inline")):
            self._extension(node)
        if last in ("import_module", "__import__") and first is not None:
            self._package(node, text_of(first))
        self._shapes(node, dotted, method)
        for keyword in node.keywords:
            self._keyword(keyword, last)
        self.generic_visit(node)

    def _keyword(self, keyword: ast.keyword, function: str) -> None:
        name, value = keyword.arg or "", keyword.value
        if name in _DEVICE_KEYWORDS or (name == "default" and function == "add_argument"):
            self._device(value, mild=name == "device_type")
        if name == "backend" or (name == "default" and function == "add_argument"):
            self._collective(value)
        elif name == "map_location":
            self._device(value, "map-location")
        elif name == "pin_memory" and isinstance(value, ast.Constant) and value.value is True:
            self.note("pin-memory", value, "pin_memory=True")

    def _load(self, node: ast.Call) -> None:
        if len(node.args) > 1:
            self._device(node.args[1], "map-location")
        elif not any(keyword.arg in ("map_location", None) for keyword in node.keywords):
            self.note("map-location", node, "torch.load", mild=True)

    def _extension(self, node: ast.Call) -> None:
        text = [c.value for c in ast.walk(node) if isinstance(c, ast.Constant)]
        native = any(isinstance(value, str) and value.endswith((".cu", ".cuh")) for value in text)
        if native or any(keyword.arg == "cuda_sources" for keyword in node.keywords):
            self.note("cuda-extension", node, "cpp_extension")

    def _shapes(self, node: ast.Call, dotted: str, method: str) -> None:
        name = dotted.removeprefix("torch.") if dotted.startswith("torch.") else method
        counted = len(node.args) > 1 and isinstance(node.args[1], ast.Constant)
        if name in torch_cuda.DYNAMIC and not (name == "repeat_interleave" and counted):
            self.note("dynamic-shape", node, name)
        elif dotted == "torch.where" and len(node.args) == 1 and not node.keywords:
            self.note("dynamic-shape", node, "where")
        elif dotted == "torch.compile" and any(
            k.arg == "dynamic" and isinstance(k.value, ast.Constant) and k.value.value is True
            for k in node.keywords
        ):
            self.note("dynamic-shape", node, "compile")

    def visit_Subscript(self, node: ast.Subscript) -> None:
        index = node.slice
        picks = isinstance(index, ast.Compare) and not compares_text(index)
        if picks and isinstance(node.ctx, ast.Load):
            self.note("dynamic-shape", node, "mask")
        self.generic_visit(node)

    # Strings in the place of a device or a collective library

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            self._assigned(target, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self._assigned(node.target, node.value)
        self.generic_visit(node)

    def visit_Dict(self, node: ast.Dict) -> None:
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value in ("device", "device_type"):
                self._device(value)
        self.generic_visit(node)

    def visit_arguments(self, node: ast.arguments) -> None:
        plain = [*node.posonlyargs, *node.args]
        pairs = [*zip(reversed(plain), reversed(node.defaults), strict=False)]
        pairs += [(a, d) for a, d in zip(node.kwonlyargs, node.kw_defaults, strict=True) if d]
        for argument, default in pairs:
            self._assigned(ast.Name(argument.arg, ast.Store()), default)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        asks = self._asks_for_cuda(node.test)
        if asks or any(text_of(part) == "cpu" for part in outcomes(node)):
            self._device(node, mild=True)
        self.visit(node.test)
        outer, self.guarded = self.guarded, self.guarded or asks
        self.visit(node.body)
        self.guarded = outer
        self.visit(node.orelse)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        if any(tail(side) in ("type", "device", "device_type") for side in sides):
            for side in sides:
                self._device(side, mild=True)
        if any(tail(side) in ("backend", "dist_backend") for side in sides):
            for side in sides:
                self._collective(side, mild=True)
        self.generic_visit(node)

    def _assigned(self, target: ast.expr, value: ast.expr) -> None:
        if _DEVICE_NAME.fullmatch(tail(target)):
            self._device(value)
        if re.fullmatch(r"(?i)(?:.*_)?backend", tail(target)):
            self._collective(value)

    def _device(self, node: ast.expr, rule: str = "device-string", mild: bool = False) -> None:
        ends = outcomes(node)
        mild = mild or any(text_of(part) == "cpu" for part in ends)
        for part in ends:
            text = text_of(part)
            if isinstance(part, ast.JoinedStr) and text == "cuda:":
                self.note(rule, part, "cuda:...", mild)
            elif _CUDA.fullmatch(text):
                self.note(rule, part, text, mild)

    def _collective(self, node: ast.expr, mild: bool = False) -> None:
        for part in outcomes(node):
            if "nccl" in re.split(r"[:,]", text_of(part).lower()):
                self.note("collective-string", part, text_of(part), mild)
