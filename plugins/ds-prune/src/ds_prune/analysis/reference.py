"""What a dense model computes with atoms taken out, found without slicing any weight."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ds_core.errors import RefusedError
from ds_core.nested import tensors_in
from ds_prune.analysis.aliasing import asserts, bases, written_into
from ds_prune.analysis.graph import AUTOCAST, first_names
from ds_prune.analysis.masked import masked

if TYPE_CHECKING:
    from torch import Tensor
    from torch.fx import Node
    from torch.nn import Module

    from ds_prune.analysis.flow import Flow
    from ds_prune.analysis.graph import Capture
    from ds_prune.analysis.grouping import Atoms
    from ds_prune.analysis.labels import Labels
    from ds_prune.structure import Kept


class Reference:
    """The captured forward of a model, with its current weights.

    Atoms are taken out where they are read: the weights that sum over them are zero there, and
    statistics leave them out. This is what a model without them has to compute.
    """

    def __init__(self, model: Module, capture: Capture, flow: Flow, atoms: Atoms) -> None:
        self._model = model
        self._capture = capture
        self._flow = flow
        self._atoms = atoms
        self._last = _last_uses(capture)
        written = [one for node in capture.graph.nodes if (one := written_into(node)) is not None]
        self._written = {whole for part in written for whole in (part, *bases(part))}

    def outputs(
        self, kept: Kept, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None = None
    ) -> list[Tensor]:
        """The tensors in the outputs, in the order of `ds_core.nested.tensors_in`.

        Args:
            kept: For each group's name which atoms stay; without any, the outputs are the model's.
            args: Inputs of the sizes that were analysed.
            kwargs: And by name.

        Raises:
            RefusedError: The inputs are of other sizes.
        """
        import torch

        given = [tensor.detach() for tensor in tensors_in((args, dict(kwargs or {})))]
        self._check(given)
        gone = self._gone(kept)
        readers: dict[Node, list[tuple[Node, int, Tensor]]] = {}
        for reader in self._flow.readers:
            indices = self._indices(reader.labels, gone)
            if len(indices):
                readers.setdefault(reader.node, []).append((reader.operand, reader.dim, indices))
        statistics: dict[Node, dict[int, Tensor]] = {}
        for statistic in self._flow.statistics:
            for dim, labels in statistic.over.items():
                if len(self._indices(labels, gone)):
                    statistics.setdefault(statistic.node, {})[dim] = self._rest(labels, gone)
        values = self._begin(given)
        dtypes = self._dtypes(values)
        with torch.no_grad(), torch.random.fork_rng():
            for node in self._capture.graph.nodes:
                if node.op == "call_function" and not asserts(node):
                    values[node] = self._computed(
                        node, values, readers.get(node, []), statistics.get(node), dtypes
                    )
                for used in self._last.get(node, ()):
                    values.pop(used, None)
            return [values[node] for node in self._capture.outputs]

    def _computed(
        self,
        node: Node,
        values: Mapping[Node, Any],
        readers: list[tuple[Node, int, Tensor]],
        kept: Mapping[int, Tensor] | None,
        dtypes: Mapping[Any, Any],
    ) -> Any:
        import torch

        local = dict.fromkeys(node.all_input_nodes)
        inputs = {used: values[used] for used in local}
        for operand, dim, indices in readers:
            weight = inputs[operand]
            inputs[operand] = weight.index_fill(dim, indices.to(weight.device), 0)

        def given(argument: Any) -> Any:
            if isinstance(argument, torch.fx.Node):
                return inputs[argument]
            return dtypes.get(argument, argument) if isinstance(argument, torch.dtype) else argument

        args = torch.fx.node.map_aggregate(node.args, given)
        kwargs = torch.fx.node.map_aggregate(node.kwargs, given)
        run = partial(masked, node.target, kept) if kept else node.target
        with torch.autocast(*mode) if (mode := node.meta.get(AUTOCAST)) else nullcontext():
            return run(*args, **kwargs)  # type: ignore[operator]

    def _begin(self, given: list[Tensor]) -> dict[Node, Any]:
        names = first_names(self._model)
        tensors: dict[str, Tensor] = dict(self._model.named_parameters(remove_duplicate=False))
        tensors |= dict(self._model.named_buffers(remove_duplicate=False))
        assert set(self._capture.states.values()) <= set(names.values())
        values: dict[Node, Any] = {
            node: tensors[name].detach() for node, name in self._capture.states.items()
        }
        values |= self._capture.constants
        values |= zip(self._capture.inputs, given, strict=True)
        return {
            node: value.clone() if node in self._written else value
            for node, value in values.items()
        }

    def _dtypes(self, values: dict[Node, Any]) -> dict[Any, Any]:
        """What dtypes are now that were others when the forward was captured.

        Tensors of such that the forward made from numbers become of the new dtype here.
        """
        changed = {
            before: values[node].dtype
            for node in self._capture.states
            if (before := node.meta["val"].dtype) != values[node].dtype
        }
        for node in self._capture.constants:
            if (one := values[node]).dtype in changed:
                values[node] = one.to(changed[one.dtype])
        return changed

    def _check(self, given: list[Tensor]) -> None:
        expected = [tuple(node.meta["val"].shape) for node in self._capture.inputs]
        shapes = [tuple(tensor.shape) for tensor in given]
        if shapes != expected:
            raise RefusedError(
                f"The inputs have shapes {shapes}, and {expected} were analysed.",
                mend="Give inputs like those of the analysis.",
            )

    def _gone(self, kept: Kept) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each class whether it is removed."""
        atoms = self._atoms
        gone = np.zeros(len(atoms.group), np.bool_)
        for number, group in enumerate(atoms.groups):
            if group.name in kept:
                mine = np.flatnonzero(atoms.group == number)
                gone[mine] = ~kept[group.name][atoms.atom[mine]]
        return gone

    def _indices(self, labels: Labels, gone: np.ndarray[Any, np.dtype[np.bool_]]) -> Tensor:
        import torch

        return torch.from_numpy(np.flatnonzero(gone[self._flow.classes.find(labels)]))

    def _rest(self, labels: Labels, gone: np.ndarray[Any, np.dtype[np.bool_]]) -> Tensor:
        import torch

        return torch.from_numpy(np.flatnonzero(~gone[self._flow.classes.find(labels)]))


def _last_uses(capture: Capture) -> dict[Node, list[Node]]:
    """For each node those that are not needed after it."""
    ends: dict[Node, Node] = {}
    for node in capture.graph.nodes:
        for used in node.all_input_nodes:
            ends[used] = node
    last: dict[Node, list[Node]] = {}
    for used, node in ends.items():
        if node.op != "output":
            last.setdefault(node, []).append(used)
    return last
