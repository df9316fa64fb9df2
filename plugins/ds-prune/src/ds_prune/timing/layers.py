"""Linear layers and convolutions as they were called, and the same ones at other widths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_prune.structure import Extent, Structure
from ds_prune.timing.timer import Run

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class Called:
    """A layer that changes its width with what is kept.

    Attributes:
        name: Of the module.
        module: A linear layer or a convolution.
        shapes: Of the input of each call.
        layout: Of the input's memory.
        dtype: Of the input.
        inputs: How long the weight's dimension of inputs is.
        outputs: How long its dimension of outputs is.
        given: What the numbers that it gives out are proportional to.
        positions: How many there are for each index of `given`, in all calls.
    """

    name: str
    module: Any
    shapes: tuple[tuple[int, ...], ...]
    layout: torch.memory_format
    dtype: torch.dtype
    inputs: Extent
    outputs: Extent
    given: Extent
    positions: int

    def at(self, inputs: int, outputs: int, call: int = 0) -> Run:
        """A layer like it whose weight has these widths, on an input of the size that fits it."""
        import torch

        made = _like(self.module, inputs, outputs).eval()
        axis = -1 if isinstance(self.module, torch.nn.Linear) else -1 - len(self.module.kernel_size)
        shape = list(self.shapes[call])
        shape[axis] = getattr(made, "in_features", None) or made.in_channels
        x = torch.randn(shape, dtype=self.dtype, device=self.module.weight.device)
        if x.dim() == 4:
            x = x.contiguous(memory_format=self.layout)
        return Run(made, (x,))

    def key(self, inputs: int, outputs: int, call: int = 0) -> str:
        """What its time depends on, apart from the device."""
        module = self.module
        form = ""
        if hasattr(module, "kernel_size"):
            form = f"{module.kernel_size} {module.stride} {module.padding} {module.dilation} "
            form += f"{module.groups} {module.padding_mode}"
        kind = type(module).__name__
        dtypes = f"{self.dtype} {module.weight.dtype} {self.layout}"
        shape = "x".join(map(str, self.shapes[call]))
        whole = "x".join(map(str, module.weight.shape))
        bias = module.bias is not None
        return f"{kind} {shape} {whole} {form} {bias} {dtypes} -> {inputs} {outputs}"


def called_layers(
    model: Module, structure: Structure, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Called]:
    """The linear layers and convolutions of the model that one forward calls and whose width is not
    fixed."""
    import torch
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    transposed = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    calls: dict[str, list[tuple[Tensor, int]]] = {}

    def note(name: str) -> Any:
        def hook(module: Module, args: tuple[Any, ...], kwargs: Any, output: Tensor) -> None:
            x = args[0] if args else next(iter(kwargs.values()))
            calls.setdefault(name, []).append((x, output.numel()))

        return hook

    modules = {
        name: module
        for name, module in model.named_modules()
        if type(module) in (*kinds, *transposed) and f"{name}.weight" in structure.shapes
    }
    hooks = [
        module.register_forward_hook(note(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        with torch.no_grad():
            model(*args, **kwargs)
    finally:
        for handle in hooks:
            handle.remove()
    found = []
    for name, seen in calls.items():
        module: Any = modules[name]
        outputs, inputs = structure.shapes[f"{name}.weight"][:2]
        if isinstance(module, transposed):
            outputs, inputs = inputs, outputs
        # Of a transposed convolution in groups, the weight has the outputs of one group only.
        of_one_group = isinstance(module, transposed) and module.groups > 1 and not outputs.parts
        given = inputs if of_one_group else outputs
        first = seen[0][0]
        last = first.dim() == 4 and first.is_contiguous(memory_format=torch.channels_last)
        found.append(
            Called(
                name,
                module,
                tuple(tuple(x.shape) for x, _ in seen),
                torch.channels_last if last else torch.contiguous_format,
                first.dtype,
                inputs,
                outputs,
                given,
                sum(count for _, count in seen) // given.size({}),
            )
        )
    return [layer for layer in found if layer.inputs.parts or layer.outputs.parts]


def _like(module: Any, inputs: int, outputs: int) -> Any:
    """A layer of the same kind whose weight has these widths."""
    import torch

    place = {"device": module.weight.device, "dtype": module.weight.dtype}
    bias = module.bias is not None
    if isinstance(module, torch.nn.Linear):
        return torch.nn.Linear(inputs, outputs, bias, **place)
    # The weight's first dimension is of all groups, its second of each.
    first, second = (inputs, outputs) if module.transposed else (outputs, inputs)
    groups = module.groups
    if second == module.weight.shape[1]:
        groups = max(groups * first // module.weight.shape[0], 1)
    first = max(first // groups, 1) * groups
    all_in, all_out = (first, second * groups) if module.transposed else (second * groups, first)
    options = {"output_padding": module.output_padding} if module.transposed else {}
    made = type(module)(
        all_in,
        all_out,
        module.kernel_size,
        module.stride,
        module.padding,
        dilation=module.dilation,
        groups=groups,
        bias=bias,
        padding_mode=module.padding_mode,
        **options,
        **place,
    )
    if module.weight.dim() == 4 and not module.weight.is_contiguous():
        made = made.to(memory_format=torch.channels_last)
    return made
