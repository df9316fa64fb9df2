"""The analysis of a model, and what it is good for."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError, nearest
from ds_prune.analysis.capture import capture
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.graph import Arguments, Capture, draws, first_names
from ds_prune.analysis.grouping import Atoms, Slot, gather, kept_whole
from ds_prune.analysis.questions import Answers, answering
from ds_prune.analysis.records import Product
from ds_prune.analysis.reference import Reference
from ds_prune.analysis.walk import finish, resolve, walk
from ds_prune.structure import Extent, Structure, Work

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from ds_prune.analysis.labels import Labels
    from ds_prune.structure import Kept


def analyse(
    model: Module,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any] | None = None,
    *,
    keep: Collection[str] = (),
) -> Structure:
    """What may be removed from a model.

    Args:
        model: Is left as it is.
        args: Example inputs of its forward, by position. What is found holds for inputs of other
            sizes as far as the forward does the same with them.
        kwargs: And by name.
        keep: Names of modules whose output channels stay whole.

    Raises:
        RefusedError: The inputs do not fit, the forward depends on the values of its data, or no
            module has a name in `keep`.
    """
    return Analysis(model, args, kwargs, keep=keep).structure


class Analysis:
    """What may be removed from a model, and what it would then compute.

    Attributes:
        structure: What was found out.
        ways: What the forward does where its inputs or buffers have other values.
    """

    def __init__(
        self,
        model: Module,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any] | None = None,
        *,
        keep: Collection[str] = (),
    ) -> None:
        """See `analyse`."""
        _check_names(model, keep)
        self._inputs = (tuple(args), dict(kwargs or {}))
        captures = capture(model, *self._inputs)
        flow = Flow()
        states = _states(model)
        labels = {
            name: tuple(flow.classes.new(size) if size > 1 else None for size in tensor.shape)
            for name, tensor in states.items()
        }
        for captured in captures:
            products = list(flow.products)
            walk(captured, labels, flow)
            finish(captured, flow, keep)
            flow.products = products or flow.products
        resolve(flow)
        _freeze_idle(captures, labels, flow)
        slots = [
            Slot(name, dim, frozenset(flow.roles.get((name, dim), ())), each)
            for name, dims in labels.items()
            for dim, each in enumerate(dims)
            if each is not None
        ]
        parameters = {name for name, _ in model.named_parameters()}
        atoms = gather(slots, flow, parameters)
        self.structure = Structure(
            atoms.groups,
            kept_whole(slots, parameters, flow),
            {
                name: tuple(
                    Extent(size) if each is None else atoms.extent(each)
                    for size, each in zip(states[name].shape, labels[name], strict=True)
                )
                for name in labels
                if name in parameters
            },
            tuple(_work(product, atoms) for product in flow.products),
            (*captures[0].notes, *_random(captures[0]), *_branched(captures), *_unsized(flow)),
        )
        flow.values.clear()
        self._own, *others = [
            Way(captured.answers, Reference(model, captured, flow, atoms), self._inputs)
            for captured in captures
        ]
        self.ways = tuple(others)

    def reference(
        self,
        kept: Kept,
        args: tuple[Any, ...] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[Tensor]:
        """What the model would compute with only these atoms; see `Reference.outputs`.

        Without inputs, the example inputs are used.
        """
        return self._own.reference(kept, args, kwargs)


@dataclass(frozen=True)
class Way:
    """One through a forward; all but the first are for other values of its inputs or buffers.

    Attributes:
        answers: To the conditions on which it branches.
    """

    answers: Answers
    _reference: Reference
    _inputs: Arguments

    def taken(self) -> AbstractContextManager[object]:
        """Within, a forward takes this way, whatever the values are."""
        return answering(self.answers)

    def reference(
        self,
        kept: Kept,
        args: tuple[Any, ...] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> list[Tensor]:
        """What the model would compute on it with only these atoms, as `Analysis.reference`."""
        if args is None and kwargs is None:
            args, kwargs = self._inputs
        return self._reference.outputs(kept, args or (), kwargs)


def _freeze_idle(
    captures: Sequence[Capture], labels: Mapping[str, tuple[Labels | None, ...]], flow: Flow
) -> None:
    """Keep parameters that no operation uses."""
    used = {name for captured in captures for node, name in captured.states.items() if node.users}
    for name in labels.keys() - used:
        for each in labels[name]:
            if each is not None:
                flow.classes.freeze(each, "the example inputs do not reach it")


def _check_names(model: Module, keep: Collection[str]) -> None:
    known = [name for name, _ in model.named_modules()]
    for name in keep:
        if name not in known:
            raise RefusedError(
                f"This {type(model).__name__} has no module {name!r} to keep.",
                mend=nearest(name, known),
            )


def _states(model: Module) -> dict[str, Tensor]:
    """Parameters, then buffers, each once by its first name."""
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    tensors |= dict(model.named_buffers())
    names = set(first_names(model).values())
    return {name: tensor for name, tensor in tensors.items() if name in names}


def _random(captured: Capture) -> tuple[str, ...]:
    names = draws(captured.graph)
    if not names:
        return ()
    return (f"The forward draws random numbers ({', '.join(names)}) in evaluation mode as well.",)


def _branched(captures: Sequence[Capture]) -> tuple[str, ...]:
    if len(captures) == 1:
        return ()
    return (
        "The forward branches on the values of its inputs or buffers; "
        f"{len(captures)} ways through it were followed.",
    )


def _unsized(flow: Flow) -> tuple[str, ...]:
    if not flow.unsized:
        return ()
    return ("Some products are of sizes that depend on the data; multiply-adds count these as 1.",)


def _work(product: Product, atoms: Atoms) -> Work:
    repeats = product.repeats
    extents = []
    for labels in product.over:
        extent = atoms.extent(labels)
        if extent.parts:
            extents.append(extent)
        else:
            repeats *= extent.fixed
    return Work(product.layer, product.operation, repeats, tuple(extents))
