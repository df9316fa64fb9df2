"""Taking channels out of a model in place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_prune.structure import Kept, Structure
from ds_prune.surgery.candidates import Site, sites
from ds_prune.surgery.ledger import Ledger
from ds_prune.surgery.optimizer_state import check_optimizers
from ds_prune.surgery.own_attributes import derived_attributes, follow_input, loses_heads
from ds_prune.surgery.record import Change, Record, Value, merged
from ds_prune.surgery.slicing import (
    check_memory,
    checked,
    kept_indices,
    named_tensors,
    under_all_names,
)

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_prune.surgery.record import Dims

KEEP = -1
"""As a choice: leave the attribute as it is."""

Choice = Mapping[str, int]
"""For kinds of sites, which of their options to take; the first where a kind is not there."""


class Removal:
    """What was taken out of a model, until it is committed with the way back.

    Attributes:
        record: What was removed, as plain data.
        sites: Attributes of users' modules that might have to change, changed or not.
    """

    def __init__(self, model: Module, optimizers: Iterable[Optimizer] = ()) -> None:
        self._model = model
        self._optimizers = tuple(optimizers)
        self._ledger = Ledger()
        shapes = {name: tuple(tensor.shape) for name, tensor in named_tensors(model).items()}
        self.record = Record({name: (shape, shape) for name, shape in shapes.items()})
        self.sites: list[Site] = []

    def undo(self) -> None:
        """Give the model and the optimizers back, bit for bit, what they had before the removal.

        Tensors that were not cut keep what training made of them since. After `commit` it does
        nothing.
        """
        self._ledger.undo()

    def commit(self) -> None:
        """Let go of what was removed, so that its memory is free."""
        self._ledger.forget()

    def cut(self, kept: Mapping[str, Dims]) -> None:
        """Cut parameters and buffers, their gradients and their optimizer state."""
        check_memory(self._model, kept)
        check_optimizers(self._optimizers)
        tensors = named_tensors(self._model)
        for name, dims in kept.items():
            self._ledger.cut(name, tensors[name], dims, self._optimizers)
        shapes = {
            name: (before, tuple(tensors[name].shape))
            for name, (before, _) in self.record.shapes.items()
        }
        self.record = replace(self.record, shapes=shapes, kept=kept)

    def set(self, module: str, attribute: str, value: Value) -> None:
        """Change an attribute of a module, unless it has that value."""
        target = self._model.get_submodule(module)
        old = plain(vars(target)[attribute])
        if old != value:
            self._ledger.set(target, attribute, value)
            # One that follows inputs is set anew on each way through the forward.
            changes = merged((*self.record.attributes, Change(module, attribute, old, value)))
            self.record = replace(self.record, attributes=changes)

    def prune_attention(self, module: str) -> None:
        """Let a `torch.nn.MultiheadAttention` have fewer heads."""
        self._ledger.prune_attention(self._model.get_submodule(module))
        self.record = replace(self.record, attention=(*self.record.attention, module))

    @contextmanager
    def following_inputs(self) -> Iterator[None]:
        """Within it, a forward tells normalisations without weights how many channels there are."""
        handles = []
        for name, module in self._model.named_modules():

            def see(module: Module, inputs: tuple[Any, ...], name: str = name) -> None:
                for attribute, value in follow_input(module, tuple(inputs[0].shape)).items():
                    self.set(name, attribute, value)

            if _has_no_weights(module):
                handles.append(module.register_forward_pre_hook(see))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def remove(
    model: Module,
    structure: Structure,
    kept: Kept,
    optimizers: Optimizer | Sequence[Optimizer] = (),
    choice: Choice | None = None,
) -> Removal:
    """Take atoms out of a model in place, without a proof.

    Modules and parameters stay the objects that they are, with their hooks, dtypes, devices,
    memory formats and `requires_grad`; gradients and the state of optimizers are cut alike.
    Attributes of torch's own modules follow from the weights. Those of users' modules are guessed
    by their names and values, so use `shrink`, which proves the result, rather than this.

    Args:
        model: As it was when it was analysed.
        structure: Of the model.
        kept: For groups that lose atoms, which stay.
        optimizers: Those that hold state for parameters of the model.
        choice: Which guesses to take.

    Raises:
        RefusedError: It cannot be done; nothing was changed then.
    """
    wanted = checked(structure, kept)
    cut = kept_indices(model, structure, wanted)
    removal = Removal(model, _several(optimizers))
    shapes = {name: before for name, (before, _) in removal.record.shapes.items()}
    everywhere = under_all_names(model, cut)
    removal.sites = sites(model, structure, wanted, everywhere, under_all_names(model, shapes))
    with _whole(removal):
        removal.cut(cut)
        _set_own(model, removal, everywhere)
        _set_sites(model, removal, choice or {})
    return removal


def apply_record(
    model: Module, record: Record, optimizers: Optimizer | Sequence[Optimizer] = ()
) -> Removal:
    """Do again on a model what was done on one of the same architecture.

    Raises:
        RefusedError: The model differs from that one; says where first. Nothing was changed then.
    """
    check_fits(model, record)
    removal = Removal(model, _several(optimizers))
    with _whole(removal):
        removal.cut(record.kept)
        for name in record.attention:
            removal.prune_attention(name)
        for change in record.attributes:
            own = plain(vars(model.get_submodule(change.module)).get(change.attribute))
            if type(own) is not type(change.old) or own != change.old:
                module = repr(change.module) if change.module else "the model"
                raise RefusedError(
                    f"{change.attribute!r} of {module} is {own!r} in this {type(model).__name__}, "
                    f"where {change.old!r} is expected.",
                    mend="Build it as it was before the removal.",
                )
            removal.set(change.module, change.attribute, change.new)
    return removal


def check_fits(model: Module, record: Record) -> None:
    """Whether a model has the tensors and modules that a record was made of.

    Raises:
        RefusedError: It does not; names the first tensor or module that differs.
    """
    name = type(model).__name__
    own = {key: tuple(tensor.shape) for key, tensor in named_tensors(model).items()}
    mend = "Build it as it was before the removal."
    for key, (before, _) in record.shapes.items():
        if key not in own:
            raise RefusedError(f"{name} has no {key!r}, which the plan is for.", mend=mend)
        if own[key] != before:
            raise RefusedError(
                f"{key!r} has shape {own[key]} in this {name}, and {before} in the plan.", mend=mend
            )
    for key in own:
        if key not in record.shapes:
            raise RefusedError(f"{key!r} of this {name} is not in the plan.", mend=mend)
    modules = dict(model.named_modules())
    for key in (*record.attention, *(change.module for change in record.attributes)):
        if key not in modules:
            raise RefusedError(f"{name} has no module {key!r}, which the plan changes.", mend=mend)


def plain(value: Any) -> Any:
    """An attribute's value as a record has it."""
    return tuple(value) if isinstance(value, list | tuple) else value


def _set_own(model: Module, removal: Removal, cut: Mapping[str, Dims]) -> None:
    from torch import nn

    for name, module in model.named_modules():
        prefix = f"{name}." if name else ""
        own = {key: dims for key, dims in cut.items() if key.startswith(prefix)}
        if not own:
            continue
        if loses_heads(module, prefix, own):
            removal.prune_attention(name)
        for attribute, value in derived_attributes(module, prefix, own).items():
            if attribute in vars(module):
                removal.set(name, attribute, value)
    for name, module in model.named_modules():
        inside = f"{name}." if name else ""
        if isinstance(module, nn.TransformerEncoder) and any(
            one.startswith(inside) for one in removal.record.attention
        ):
            removal.set(name, "use_nested_tensor", False)  # only torch's own attention takes them


def _set_sites(model: Module, removal: Removal, choice: Choice) -> None:
    numbers: dict[tuple[str, str], Any] = {}
    for site in removal.sites:
        option = choice.get(site.kind, 0)
        if option == KEEP:
            continue
        new = site.options[option % len(site.options)]
        place = (site.module, site.attribute)
        if site.place is None:
            numbers[place] = new
        else:
            own = getattr(model.get_submodule(site.module), site.attribute)
            several = numbers.setdefault(place, list(own))
            several[site.place] = new
    for (module, attribute), value in numbers.items():
        removal.set(module, attribute, plain(value))


def _has_no_weights(module: Module) -> bool:
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    norms = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, _NormBase)
    return isinstance(module, norms) and not list(module.parameters(recurse=False))


@contextmanager
def _whole(removal: Removal) -> Iterator[None]:
    try:
        yield
    except BaseException:
        removal.undo()
        raise


def _several(optimizers: Optimizer | Sequence[Optimizer]) -> tuple[Optimizer, ...]:
    import torch

    return (optimizers,) if isinstance(optimizers, torch.optim.Optimizer) else tuple(optimizers)
