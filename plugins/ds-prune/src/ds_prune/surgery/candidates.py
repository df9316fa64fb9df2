"""Numbers in users' modules that count channels or heads, and what they may have to become.

A forward that says `x.view(b, n, self.heads, self.head_dim)` needs another number of heads when
some are gone. Which attributes mean what no one can know; so there are candidates: integers that
equal something that changes. Names tell which meaning is tried first, and the proof decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ds_prune.structure import Kept, Structure

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_prune.surgery.record import Dims, Shape

_NEAR = 3
"""Tensors that many modules below one may be what its attributes count."""

# What can never count channels.
_OTHER = re.compile(
    r"stride|kernel|padding|dilation|idx|index|layers$|depth|vocab|seq|length|position|^max_|_max|"
    r"classes|labels|scale|ratio|reduction|seed|patch|image|img|window|resolution|tokens|version|"
    r"epoch|step|bits|topk|dropout|_id$|training|bucket|shift|point|rate"
)
_PER_HEAD = re.compile(
    r"^head_?(dim|size|width)|attention_head_size|dim_head|d_head|d_kv|per_head|key_value|"
    r"^(key|value|qk|v)_dim$"
)
_HEADS = re.compile(r"heads?$|^n_?heads?|heads_|^h$")
_GROUPS = re.compile(r"group")
_SIZE = re.compile(
    r"dim|size|chan|feat|width|hidden|inner|embed|planes|filters|units|^d_|^n[fx]$|^ch?$|split|mid"
)
_FEW = 8
"""Longer lists are of indices rather than of sizes."""

# Sizes inside of a layer rather than of what goes past it.
_INSIDE = re.compile(r"inner|split|all_head|attn")


@dataclass(frozen=True)
class Site:
    """A number in a module.

    Attributes:
        module: Name of the module in the model.
        attribute: Its attribute, a number, or several of which this is one.
        place: Which of several; None for a number.
        kind: The same for the same attribute of modules of the same class, which are decided on
            together.
        options: What it may become, the likeliest first; what it is is among them.
        sure: Whether its name says that it counts what changes.
    """

    module: str
    attribute: str
    place: int | None
    kind: str
    options: tuple[int, ...]
    sure: bool


def sites(
    model: Module,
    structure: Structure,
    kept: Kept,
    cut: Mapping[str, Dims],
    shapes: Mapping[str, Shape],
) -> list[Site]:
    """All candidates in modules of users' own classes, in the model's order.

    Args:
        model: As it was before the cut, as far as its attributes go.
        structure: Of the model.
        kept: What is kept of groups that lose atoms.
        cut: What is kept of tensors.
        shapes: Of all tensors, before the cut.
    """
    from torch import nn

    named = dict(model.named_modules())
    owners = {name.rpartition(".")[0] for name in cut}
    above = {"."} | {prefix for owner in owners for prefix in _prefixes(owner)}
    found = []
    for name, module in named.items():
        parent = name.rpartition(".")[0]
        leaf = not list(module.parameters()) and (parent or ".") in above
        if (name or ".") not in above and not leaf:
            continue
        own = type(module).__module__.startswith("torch.nn.")
        if own and not isinstance(module, nn.Unflatten):
            continue
        numbers = _Numbers(parent if leaf else name, structure, kept, cut, shapes)
        skip = _derived_names(module)
        for attribute, place, value in _integers(module):
            if attribute in skip or (not own and _OTHER.search(attribute)):
                continue
            options = numbers.options(attribute, value)
            if len(options) > 1:
                kind = f"{type(module).__module__}.{type(module).__qualname__}.{attribute}.{place}"
                sure = bool(_HEADS.search(attribute) or _INSIDE.search(attribute))
                found.append(Site(name, attribute, place, kind, options, sure))
    return found


class _Numbers:
    """What changes in the tensors below a module, by what it was."""

    def __init__(
        self,
        module: str,
        structure: Structure,
        kept: Kept,
        cut: Mapping[str, Dims],
        shapes: Mapping[str, Shape],
    ) -> None:
        prefix = f"{module}." if module else ""
        self.extents: list[tuple[int, int]] = []
        self.same: set[int] = set()
        near = [
            (name.removeprefix(prefix).count("."), name)
            for name in shapes
            if name.startswith(prefix)
        ]
        for depth, name in sorted(near, key=lambda pair: pair[0]):
            for dim, size in enumerate(shapes[name]):
                left = len(cut[name][dim]) if dim in cut.get(name, {}) else size
                if left != size and depth <= _NEAR:
                    self.extents.append((size, left))
                elif depth <= 1 and dim < 2:
                    self.same.add(size)
        self.counts = list(_counts(structure, kept, cut, shapes, prefix))

    def options(self, name: str, value: int) -> tuple[int, ...]:
        """What an attribute of this name and value may become."""
        if value < 2:
            return (value,)
        full = [new for old, new in self.extents if old == value]
        parts = [
            new // times
            for times in (2, 3, 4)
            for old, new in self.extents
            if old == value * times and new % times == 0
        ]
        counts = [new for old, new in self.counts if old == value]
        if _PER_HEAD.search(name) or _GROUPS.search(name):
            ordered = [value, *counts, *full]
        elif _HEADS.search(name):
            ordered = [*counts, value, *full]
        elif _SIZE.search(name):
            changed = [*full, *parts]
            stays = value in self.same and not _INSIDE.search(name)
            ordered = [value, *changed] if stays else [*changed, value]
            ordered += counts
        else:
            ordered = [*full, value, *parts, *counts]
        return tuple(dict.fromkeys((*ordered, value)))


def _counts(
    structure: Structure,
    kept: Kept,
    cut: Mapping[str, Dims],
    shapes: Mapping[str, Shape],
    prefix: str,
) -> Iterator[tuple[int, int]]:
    """Numbers of atoms below a module, and of parts as large as those that atoms consist of."""
    for group in structure.groups:
        members = [member for member in group.members if member.tensor.startswith(prefix)]
        if group.name not in kept or not members:
            continue
        yield group.count, int(kept[group.name].sum())
        for size in sorted({member.index.shape[1] for member in members} - {1}):
            for member in members:
                old = shapes[member.tensor][member.dim]
                new = len(cut[member.tensor][member.dim])
                if old % size == 0 and new % size == 0:
                    yield old // size, new // size


def _prefixes(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _integers(module: Module) -> Iterator[tuple[str, int | None, int]]:
    for name, value in vars(module).items():
        if type(value) is int:
            yield name, None, value
        elif type(value) in (tuple, list) and all(type(one) is int for one in value[: _FEW + 1]):
            if len(value) > _FEW:
                continue
            for place, one in enumerate(value):
                yield name, place, one


def _derived_names(module: Any) -> Iterable[str]:
    """Attributes that subclasses of torch's modules inherit, which follow from weights."""
    from ds_prune.surgery.own_attributes import derived_attributes

    return list(derived_attributes(module, "", {}))
