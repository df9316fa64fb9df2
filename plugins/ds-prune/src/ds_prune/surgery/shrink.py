"""A removal that is proved, or as much of it as can be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from ds_core.causes import cause
from ds_core.errors import DsError
from ds_core.nested import tensors_in
from ds_prune.structure import Group, Kept, Structure
from ds_prune.surgery.doubled import doubled, in_double, singles
from ds_prune.surgery.narrowing import Attempt, Narrowing
from ds_prune.surgery.proof import Proof, prove
from ds_prune.surgery.removal import Choice, Removal, apply_record, remove
from ds_prune.surgery.slicing import checked
from ds_prune.surgery.telling import telling_weights
from ds_prune.surgery.undisturbed import undisturbed

if TYPE_CHECKING:
    from torch.nn import Module
    from torch.optim import Optimizer

    from ds_prune.surgery.record import Change, Record

PROOFS = 40
"""Forwards of cut models that a search may take."""


class Taken(Protocol):
    """One way through a forward that branches."""

    def taken(self) -> AbstractContextManager[object]:
        """Within, a forward takes it."""

    def reference(
        self,
        kept: Kept,
        args: tuple[Any, ...] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """As that of `Analysed`, on this way."""


class Analysed(Protocol):
    """A model's analysis, as far as a proof needs it."""

    @property
    def structure(self) -> Structure:
        """What may be removed."""

    def reference(
        self,
        kept: Kept,
        args: tuple[Any, ...] | None = None,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Outputs without the other atoms, computed on the whole model.

        Without inputs these are those on the example inputs.
        """

    @property
    def ways(self) -> Sequence[Taken]:
        """What the forward does where its inputs or buffers have other values."""


@dataclass(frozen=True)
class Outcome:
    """What a shrinking came to.

    Attributes:
        removal: What was removed, and the way back.
        kept: Of each group that was cut, which atoms stay.
        left: Of groups that should have been cut and were not, the reason.
        error: The largest relative error of the outputs that was found in the proof.
        proofs: How many forwards of cut models it took.
    """

    removal: Removal
    kept: Kept
    left: Mapping[str, str]
    error: float
    proofs: int

    @property
    def cut(self) -> tuple[str, ...]:
        """Groups that were cut."""
        return tuple(self.kept)

    @property
    def attributes(self) -> tuple[Change, ...]:
        """What was changed in modules."""
        return self.removal.record.attributes


class _Made(NamedTuple):
    record: Record
    error: float


def shrink(
    model: Module,
    analysis: Analysed,
    kept: Kept,
    args: tuple[Any, ...] = (),
    kwargs: Mapping[str, Any] | None = None,
    optimizers: Optimizer | Sequence[Optimizer] = (),
    *,
    tolerance: float | None = None,
    proofs: int = PROOFS,
) -> Outcome:
    """Take atoms out of a model in place, as far as its outputs prove to be what they should.

    The small model's outputs on the example inputs, in evaluation mode, must equal those of the
    whole model whose removed atoms nothing reads. For the proof, parameters that would hide
    mistakes are varied: see `telling_weights`. What differs in float32 may do so by the ranking of
    numbers that are all but equal, and is computed once more in float64. Groups that fail are found
    and left whole; where nothing can be proved nothing is changed.

    Args:
        model: As it was when it was analysed.
        analysis: Of the model.
        kept: For groups that should lose atoms, which stay.
        args: The example inputs of the analysis.
        kwargs: Those that are given by name.
        optimizers: Those that hold state for parameters of the model.
        tolerance: Largest relative error of outputs; see `prove`.
        proofs: How many forwards of cut models may be made.

    Raises:
        RefusedError: A group is unknown or would lose all of its atoms.
    """
    structure = analysis.structure
    wanted = checked(structure, kept)
    references: dict[tuple[str, ...], list[Any]] = {}
    ways: list[Any] = [analysis, *analysis.ways]
    given = args, dict(kwargs or {})

    def compared(removal: Removal, inputs: Any, right: Sequence[Any]) -> Proof:
        """What the cut model computes, on each way, with what it should."""
        worst = Proof(0.0)
        for way, expected in zip(ways, right, strict=True):
            taken = nullcontext() if way is analysis else way.taken()
            with undisturbed(model), removal.following_inputs(), taken:
                outputs = model(*inputs[0], **inputs[1])
            proof = prove(outputs, expected, tolerance)
            if not proof.holds:
                return proof
            worst = max(worst, proof, key=lambda one: one.error)
        return worst

    def attempt(names: Sequence[str], choice: Choice) -> Attempt[_Made]:
        chosen = {name: wanted[name] for name in names}
        if tuple(names) not in references:
            references.clear()
            try:
                with undisturbed(model):
                    references[tuple(names)] = [one.reference(chosen) for one in ways]
            except Exception as error:
                return Attempt(None, f"its reference cannot be computed: {cause(error)}")
        try:
            removal = remove(model, structure, chosen, optimizers, choice)
        except DsError as error:
            return Attempt(None, error.what.rstrip("."))
        kinds = {site.kind: len(site.options) for site in removal.sites}
        sure = {site.kind for site in removal.sites if site.sure}
        try:
            proof = compared(removal, given, references[tuple(names)])
        except Exception as error:
            return Attempt(None, f"the model's forward fails ({cause(error)})", kinds, sure)
        finally:
            removal.undo()
        made = None
        if proof.holds:
            made = _Made(removal.record, proof.error)
        elif isfinite(proof.error) and singles(model):
            made = again(chosen, choice)
        return Attempt(made, proof.against, kinds, sure)

    def again(chosen: Kept, choice: Choice) -> _Made | None:
        """The same with float64 in place of float32; None where that proves nothing either."""
        wide = in_double(given)
        try:
            with doubled(model):
                with undisturbed(model):
                    right = [one.reference(chosen, *wide) for one in ways]
                removal = remove(model, structure, chosen, (), choice)
                try:
                    proof = compared(removal, wide, right)
                finally:
                    removal.undo()
        except Exception:  # the model, or its graph, does not compute in float64
            return None
        return _Made(removal.record, proof.error) if proof.holds else None

    groups = {group.name: group for group in structure.groups if group.name in wanted}
    families = {name: _family(model, group) for name, group in groups.items()}
    search = Narrowing(attempt, families, proofs)
    with telling_weights(model):
        telling = _finite(model, analysis)
        if telling:
            search.run()
    if not telling:
        search.run()
    if search.made is None:
        return Outcome(Removal(model), {}, search.left, 0.0, search.attempts)
    removal = apply_record(model, search.made.record, optimizers)
    kept_now = {name: wanted[name] for name in search.good}
    return Outcome(removal, kept_now, search.left, search.made.error, search.attempts)


def _finite(model: Module, analysis: Analysed) -> bool:
    """Whether the whole model computes finite numbers now."""
    try:
        with undisturbed(model):
            return all(bool(one.isfinite().all()) for one in tensors_in(analysis.reference({})))
    except Exception:
        return True  # which attempts report


def _family(model: Module, group: Group) -> str:
    """The same for groups of layers of the same classes that are cut alike."""
    parts = {
        (type(model.get_submodule(owner)).__name__, name, member.dim, member.role)
        for member in group.members
        for owner, _, name in [member.tensor.rpartition(".")]
    }
    return f"{group.kind} {sorted(parts)}"
