"""One model cut by ds-prune, and whether the result is right without asking ds-prune."""

from __future__ import annotations

import contextlib
import copy
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ds_core.causes import cause
from ds_core.errors import DsError
from ds_core.nested import tensors_in

RATIO = 0.3
TOLERANCE = 1e-3
"""Largest relative error; float32 sums in another order come to some 1e-6."""
ROUNDING = 1e-14
"""Relative change of float64 weights that is like rounding."""


@dataclass
class Subject:
    """A model to be cut.

    Attributes:
        make: Makes one in evaluation mode, with weights by torch's current seed.
        args: Example inputs by position.
        kwargs: And by name.
        others: Inputs of other sizes, by what differs.
    """

    make: Callable[[], nn.Module]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, tuple[tuple[Any, ...], Mapping[str, Any]]] = field(default_factory=dict)


def lively(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A model none of whose weights are so small that mistakes would not show.

    Those of wide layers get less, so that numbers do not grow from layer to layer.
    """
    torch.manual_seed(seed)
    model = make()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.is_floating_point():
                summed = parameter[0].numel() if parameter.dim() > 1 else 1
                size = min(0.05, 0.5 / max(summed, 1) ** 0.5)
                parameter.add_(size * torch.randn(parameter.shape))
    return model.eval()


def ours(subject: Subject) -> dict[str, Any]:
    """Cut, save, load, train; and compare with the whole model whose weights are zero.

    Returns:
        `result`: `pruned`, `nothing`, `refused` or `WRONG`; `why` it is not `pruned`.
    """
    from ds_prune.one_shot import prune

    model, dense = lively(subject.make, 0), lively(subject.make, 0)
    dense.load_state_dict(model.state_dict())
    given = subject.kwargs or subject.args
    before = sum(one.numel() for one in model.parameters())
    state = {name: value.clone() for name, value in model.state_dict().items() if _tensor(value)}
    try:
        with kept_structure() as structures:
            plan = prune(model, given, ratio=RATIO, recover=(), criterion="magnitude")
        structure = structures[0]
    except DsError as error:
        after = {name: value for name, value in model.state_dict().items() if _tensor(value)}
        if any(not torch.equal(after[name], value) for name, value in state.items()):
            return {"result": "WRONG", "why": f"refused, but the model is changed: {error.what}"}
        none = "no channel that could go" in error.what
        return {"result": "nothing" if none else "refused", "why": error.what, "before": before}
    after_count = sum(one.numel() for one in model.parameters())
    cut = [group for group in structure.groups if _removed(group, plan.record)]
    row: dict[str, Any] = {
        "before": before,
        "after": after_count,
        "groups": len(cut),
        "of": sum(not group.normalised and group.count > 1 for group in structure.groups),
        "normalised": sum(group.normalised for group in structure.groups),
    }
    if not after_count < before:
        return row | {"result": "nothing", "why": "nothing became smaller"}
    with torch.no_grad():
        whole = dense(*subject.args, **subject.kwargs)
    zeroed = zero_what_is_read(dense, structure, plan.record)
    with torch.no_grad():
        moved = difference(zeroed(*subject.args, **subject.kwargs), whole)
    if not isinstance(moved, str) and not moved > 10 * TOLERANCE:
        return row | {"result": "pruned", "why": f"the outputs hardly tell: {moved}", "told": False}
    row["moved"] = moved
    checks: dict[str, Callable[[], float | str]] = {
        "gates": lambda: _same(model, zeroed, subject.args, subject.kwargs),
        "reloaded": lambda: _reloaded(subject, model, plan),
    }
    for what, (args, kwargs) in subject.others.items():
        checks[what] = lambda args=args, kwargs=kwargs: _same(model, zeroed, args, kwargs)
    checks["training"] = lambda: _trains(subject, model)  # last, as it changes the model
    for what, check in checks.items():
        try:
            found = check()
        except Exception as error:
            return row | {"result": "WRONG", "why": f"{what}: {cause(error)}"}
        if isinstance(found, str):
            return row | {"result": "WRONG", "why": f"{what}: {found}"}
        row[what] = found
    return row | {"result": "pruned"}


@contextlib.contextmanager
def kept_structure() -> Iterator[list[Any]]:
    """What analyses find out within."""
    from ds_prune.analysis import analysis

    found: list[Any] = []
    own = analysis.Analysis

    def noting(*args: Any, **kwargs: Any) -> Any:
        made = own(*args, **kwargs)
        found.append(made.structure)
        return made

    analysis.Analysis = noting  # type: ignore[assignment,misc]
    try:
        yield found
    finally:
        analysis.Analysis = own  # type: ignore[misc]


def zero_what_is_read(dense: nn.Module, structure: Any, record: Any) -> nn.Module:
    """The whole model, in which weights that read removed channels are zero."""
    tensors = {**dict(dense.named_parameters()), **dict(dense.named_buffers())}
    with torch.no_grad():
        for group in structure.groups:
            for member in group.members:
                kept = record.kept.get(member.tensor, {}).get(member.dim)
                if member.role != "consume" or kept is None or _direction(member, group):
                    continue
                tensor = tensors[member.tensor]
                gone = torch.ones(tensor.shape[member.dim], dtype=torch.bool)
                gone[torch.as_tensor(kept)] = False
                own = torch.zeros_like(gone)
                own[torch.as_tensor(member.index).flatten()] = True
                tensor.index_fill_(member.dim, (gone & own).nonzero().flatten(), 0.0)
    return dense


def _direction(member: Any, group: Any) -> bool:
    """Whether it is the direction of a weight of which the norm is zeroed as well.

    A direction of zeros would have none, and make everything nan.
    """
    for own, norm in (("original1", "original0"), ("weight_v", "weight_g")):
        if member.tensor.endswith(own):
            sibling = member.tensor.removesuffix(own) + norm
            return any(
                (one.tensor, one.dim, one.role) == (sibling, member.dim, "consume")
                for one in group.members
            )
    return False


def _removed(group: Any, record: Any) -> bool:
    member = group.members[0]
    kept = record.kept.get(member.tensor, {}).get(member.dim)
    return kept is not None and bool(set(member.index.flatten().tolist()) - set(kept.tolist()))


def difference(one: Any, other: Any, but: Collection[int] = ()) -> float | str:
    """The largest relative difference of tensors, or why they cannot be compared.

    Those whose places are in `but` are left out.
    """
    left, right = list(tensors_in(one)), list(tensors_in(other))
    if [a.shape for a in left] != [a.shape for a in right]:
        return "the outputs have other shapes"
    worst = 0.0
    for place, (a, b) in enumerate(zip(left, right, strict=True)):
        if place in but or not a.is_floating_point():
            continue
        a, b = a.double(), b.double()
        mask = b.isfinite()
        if not torch.equal(mask, a.isfinite()):
            return "the outputs are not finite at the same places"
        size = float((b[mask]).norm())
        worst = max(worst, float((a[mask] - b[mask]).norm()) / (size or 1.0))
    return worst


def _same(model: nn.Module, right: nn.Module, args: Any, kwargs: Any) -> float | str:
    """The difference, or what is wrong.

    Where almost equal numbers are ranked, float32 may differ; then float64 is compared, without
    outputs that rounding changes in the whole model as well, as where equal numbers are ranked.
    """
    model.eval()
    found = difference(*(_computed(one, args, kwargs) for one in (model, right)))
    if not isinstance(found, str) and not found <= TOLERANCE:
        with contextlib.suppress(Exception):  # not every model computes in float64
            found = _in_double(model, right, args, kwargs)
    if isinstance(found, str) or found <= TOLERANCE:
        return found
    return f"the outputs are off by {found:.2g}"


def _in_double(model: nn.Module, right: nn.Module, args: Any, kwargs: Any) -> float | str:
    from ds_prune.surgery.doubled import in_double

    given = in_double((args, dict(kwargs)))
    small, whole, moved = (copy.deepcopy(one).double() for one in (model, right, right))
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.mul_(1 + ROUNDING * torch.randn_like(parameter))
    expected, other = (list(tensors_in(_computed(one, *given))) for one in (whole, moved))
    rounded = {
        place
        for place, (one, two) in enumerate(zip(expected, other, strict=True))
        if isinstance(by := difference(one, two), str) or by > TOLERANCE
    }
    if len(rounded) == len(expected):
        return "rounding changes all outputs"
    return difference(_computed(small, *given), expected, rounded)


def _computed(model: nn.Module, args: Any, kwargs: Any) -> Any:
    torch.manual_seed(0)
    with torch.no_grad():
        return model(*args, **kwargs)


def _reloaded(subject: Subject, model: nn.Module, plan: Any) -> float | str:
    from ds_prune.plan import load_model

    with tempfile.TemporaryDirectory() as folder:
        plan.save(folder)
        fresh = load_model(folder, lively(subject.make, 1)).eval()
    return _same(fresh, model, subject.args, subject.kwargs)


def _trains(subject: Subject, model: nn.Module) -> float | str:
    """One step, where the whole model can take one."""
    whole = lively(subject.make, 0)
    for one, name in ((whole, "whole"), (model, "small")):
        try:
            one.train()
            optimizer = torch.optim.AdamW(one.parameters(), 1e-4)
            outputs = [
                each
                for each in tensors_in(one(*subject.args, **subject.kwargs))
                if each.is_floating_point() and each.requires_grad
            ]
            torch.stack([each.square().mean() for each in outputs]).sum().backward()
            optimizer.step()
        except Exception as error:
            if name == "whole":
                return 0.0
            return str(cause(error))
    if any(one.grad is not None and one.grad.shape != one.shape for one in model.parameters()):
        return "a gradient has another shape than its parameter"
    return 0.0


def _tensor(value: Any) -> bool:
    return isinstance(value, Tensor)
