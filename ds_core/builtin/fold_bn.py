"""Batch normalisation folded into the layer before it, for inference."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import pydantic

from ds_core.causes import cause
from ds_core.components import Options, Transform
from ds_core.errors import RefusedError
from ds_core.hookspecs import hookimpl
from ds_core.nested import tensors_in

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node
    from torch.nn import Module


class FoldBatchNorm(Transform):
    """Scales and shifts a convolution's or linear layer's weights by the normalisation after it.

    In evaluation a batch normalisation multiplies each channel by one constant and adds another,
    which the layer before it can do at no cost (Jacob et al., Quantization and Training of Neural
    Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018, section 3.2). Which layers
    follow each other is read from the graph that `torch.export` makes of a forward, so neither
    names nor the order of definition matter.

    The result is a copy of the model in evaluation mode, in which the folded normalisations are
    identities. It is an ordinary module: it can be saved, exported and compiled. Its outputs on the
    example inputs are compared with the model's before it is handed over.
    """

    name: ClassVar[str] = "fold-bn"

    class Config(Options):
        """How exactly outputs must agree."""

        tolerance: float | None = pydantic.Field(default=None, gt=0)
        """Largest relative error, as a ratio of L2 norms; unless given, the square root of the
        machine epsilon of the outputs' dtype (3.5e-4 for float32)."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._folded: tuple[tuple[str, str], ...] = ()
        self._left: dict[str, str] = {}
        self._error: float | None = None

    @hookimpl
    def ds_transform(self, model: Module, example_inputs: tuple[Any, ...]) -> Module:
        """A folded copy of `model`.

        Raises:
            RefusedError: The model cannot be copied or exported, or the outputs differ.
        """
        import torch

        folded = _evaluated(model)
        with torch.no_grad():
            expected = [tensor.clone() for tensor in tensors_in(folded(*example_inputs))]
            pairs, self._left = _pairs(folded, example_inputs)
            for layer, norm in pairs:
                folded.set_submodule(layer, _fused(folded, layer, norm))
                folded.set_submodule(norm, torch.nn.Identity())
            self._folded = tuple(pairs)
            got = list(tensors_in(folded(*example_inputs)))
        self._error = self._compare(expected, got)
        return folded.eval()

    def report(self) -> dict[str, Any]:
        """Pairs that were folded, normalisations left with the reason, and the relative error."""
        return {
            "folded": [list(pair) for pair in self._folded],
            "left": dict(self._left),
            "error": self._error,
        }

    def _compare(self, expected: list[Tensor], got: list[Tensor]) -> float:
        worst = 0.0
        for right, value in zip(expected, got, strict=True):
            error, tolerance = _difference(value, right), self.config.tolerance
            if tolerance is None:
                tolerance = _half_digits(right)
            worst = max(worst, error)
            if not error <= tolerance:  # nan included
                raise RefusedError(
                    f"transform {self.name!r}: on the example inputs the folded model is off by "
                    f"{error:.2g}, relatively, where {tolerance:.2g} is allowed.",
                    mend="Check that the model gives finite outputs and computes the same twice in "
                    "evaluation mode; or give a larger tolerance.",
                )
        return worst


def _evaluated(model: Module) -> Module:
    import torch

    if isinstance(model, torch.fx.GraphModule):
        raise RefusedError(
            "transform 'fold-bn' works on modules, and this is a graph without them.",
            mend="Fold the model that the graph was made from, then export it.",
        )
    try:
        return copy.deepcopy(model).eval()
    except Exception as error:
        raise RefusedError(
            f"transform 'fold-bn' cannot copy this {type(model).__name__}: {cause(error)}.",
            mend="Make it a model that copy.deepcopy accepts.",
        ) from error


def _pairs(
    model: Module, example_inputs: tuple[Any, ...]
) -> tuple[list[tuple[str, str]], dict[str, str]]:
    """Names of layers and normalisations to fold, and of normalisations to leave, with reasons."""
    import torch
    from torch.nn.modules.batchnorm import _BatchNorm

    try:
        graph = torch.export.export(model, example_inputs).graph
    except Exception as error:
        raise RefusedError(
            f"transform 'fold-bn' cannot follow this {type(model).__name__}: torch.export says "
            f"{cause(error)}.",
            mend="A forward that depends on the data cannot be exported.",
        ) from error
    modules = dict(model.named_modules(remove_duplicate=False))
    pairs: list[tuple[str, str]] = []
    left = {
        name: "the example inputs do not reach it"
        for name, module in modules.items()
        if isinstance(module, _BatchNorm)
    }
    for node in graph.nodes:
        if node.target is not torch.ops.aten.batch_norm.default:
            continue
        norm = _module_of(node)
        reason = _why_not(node, modules)
        if reason:
            left[norm] = reason
        else:
            left.pop(norm)
            pairs.append((_module_of(node.args[0]), norm))
    return pairs, left


def _why_not(node: Node, modules: dict[str, Module]) -> str:
    """Why the normalisation at `node` cannot be folded into what is before it; empty if it can."""
    import torch
    from torch import nn

    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, *transposed)
    norm = modules[_module_of(node)]
    before: Any = node.args[0]
    if type(norm) not in norms:
        return f"{type(norm).__name__} may do more than normalise"
    if norm.running_mean is None:
        return "it keeps no running statistics, so it depends on the batch"
    if not isinstance(before, torch.fx.Node) or not _weighted(before):
        return "no convolution or linear layer is right before it"
    name = _module_of(before)
    layer = modules[name]
    if type(layer) not in layers:
        return f"the layer before it is called inside {name or 'the model'!r}, not as a module"
    if len(before.users) > 1:
        return f"the output of {name!r} is used elsewhere too"
    if len(_users(before, 1)) > 1:
        return f"the weight of {name!r} is used more than once"
    if len(_users(node, 3)) > 1:
        return "it is used more than once"
    if type(layer) is nn.Linear and before.meta["val"].dim() != 2:
        return f"the channels that it normalises are not the features of {name!r}"
    if type(layer) in transposed and layer.groups != 1:
        return f"{name!r} is a transposed convolution in groups"
    if any(_hooks(module) for module in (norm, layer)):
        return "it or the layer before it has hooks"
    return ""


def _weighted(node: Node) -> bool:
    """Whether it applies a convolution or a linear layer, whose weight is its second argument."""
    name = str(node.target)
    return node.op == "call_function" and name.startswith(("aten.conv", "aten.linear."))


def _users(node: Node, argument: int) -> dict[Node, None]:
    """Every node that takes what `node` takes as its argument at this position."""
    taken: Any = node.args[argument]
    return dict(taken.users)


def _module_of(node: Any) -> str:
    """The name of the module whose forward made the node; empty for the model's own."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    return str(stack[-1][0]) if stack else ""


def _hooks(module: Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def _fused(model: Module, layer_name: str, norm_name: str) -> Module:
    from torch.nn.modules.conv import _ConvTransposeNd
    from torch.nn.utils.fusion import fuse_conv_bn_weights

    layer: Any = model.get_submodule(layer_name)
    norm: Any = model.get_submodule(norm_name)
    fused = copy.deepcopy(layer)
    # A linear layer's weight is that of a convolution of size one.
    fused.weight, fused.bias = fuse_conv_bn_weights(
        layer.weight,
        layer.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
        transpose=isinstance(layer, _ConvTransposeNd),
    )
    fused.bias.requires_grad_(layer.weight.requires_grad)
    return fused  # type: ignore[no-any-return]


def _difference(value: Tensor, right: Tensor) -> float:
    import torch

    if not right.is_floating_point() and not right.is_complex():
        return 0.0 if torch.equal(value, right) else float("inf")
    wide = torch.complex128 if right.is_complex() else torch.float64
    value, right = value.to("cpu", wide), right.to("cpu", wide)
    size = float(torch.linalg.vector_norm(right))
    error = float(torch.linalg.vector_norm(value - right))
    return error / size if size else error


def _half_digits(tensor: Tensor) -> float:
    import torch

    exact = not tensor.is_floating_point() and not tensor.is_complex()
    return 0.0 if exact else float(torch.finfo(tensor.dtype).eps ** 0.5)
