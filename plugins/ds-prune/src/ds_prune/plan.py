"""A removal that can be kept in a folder and done again on a fresh model."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ds_core.errors import ConfigError, RefusedError
from ds_core.weights import load_weights
from ds_prune.report import Result
from ds_prune.surgery.folder import FORMAT, PLAN, PlanFile, SourceFile, contents, read, write
from ds_prune.surgery.record import Record
from ds_prune.surgery.removal import apply_record
from ds_prune.surgery.source import Source

if TYPE_CHECKING:
    import os

    from torch import Tensor
    from torch.nn import Module

    AnyModule = TypeVar("AnyModule", bound=Module)

Figure = tuple[float, float]
"""Before the removal and after it."""


@dataclass(frozen=True)
class Plan:
    """What was removed from a model, and its weights.

    Attributes:
        record: What was removed.
        model: Name of the model's class.
        weights: The small model's state dict, each shared tensor under one of its names; None
            where a plan is of the shapes alone.
        source: How the whole model is made, as far as the plan is to tell.
        figures: Numbers for readers, before and after, as `multiply_adds`; `parameters` is always
            there.
        result: What it came to, layer by layer.
        versions: Of ds-prune and torch, with which it was made.
    """

    record: Record
    model: str
    weights: Mapping[str, Tensor] | None = None
    source: Source | None = None
    figures: Mapping[str, Figure] = field(default_factory=dict)
    result: Result | None = None
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: Module,
        record: Record,
        *,
        source: Source | None = None,
        figures: Mapping[str, Figure] | None = None,
        result: Result | None = None,
        weights: bool = True,
    ) -> Plan:
        """The plan that leads to a model that was cut.

        Args:
            model: The small one. Its weights are not copied: save before training goes on.
            record: All that was removed since it was built; `Record.then` joins several removals.
            source: How the whole model is made.
            figures: What else to tell readers.
            result: What it came to, layer by layer.
            weights: Whether the plan is to hold weights.

        Raises:
            RefusedError: The model is not what the record leads to, or its state dict holds more
                than tensors.
        """
        from ds_prune.surgery.slicing import named_tensors

        for name, tensor in named_tensors(model).items():
            if name not in record.shapes or record.shapes[name][1] != tuple(tensor.shape):
                raise RefusedError(
                    f"{name!r} of shape {tuple(tensor.shape)} is not what the removal left.",
                    mend="Join the records of all removals with Record.then.",
                )
        before, after = _parameters(model, record)
        return cls(
            record,
            type(model).__name__,
            _weights(model) if weights else None,
            source,
            {"parameters": (before, after), **_told(result), **(figures or {})},
            result,
            {name: _version(name) for name in ("ds-prune", "torch")},
        )

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write `plan.json` and `weights.safetensors` into a folder, all or nothing.

        An earlier plan in that folder is replaced. The same plan gives the same bytes.

        Raises:
            ConfigError: Something else is there, or it cannot be written.
        """
        source = None
        if self.source is not None:
            source = SourceFile(
                kind=self.source.kind, name=self.source.name, arguments=dict(self.source.arguments)
            )
        file = PlanFile(
            format=FORMAT,
            model=self.model,
            versions=dict(self.versions),
            source=source,
            figures=dict(self.figures),
            result=self.result,
            weights=self.weights is not None,
            **contents(self.record),
        )
        write(Path(folder), file, self.weights)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Plan:
        """Read a plan; nothing that it names is imported or run.

        Raises:
            ConfigError: There is none, or its files do not fit each other.
        """
        file, weights = read(Path(folder))
        record = file.record()
        where = str(Path(folder) / PLAN)
        record.check(where)
        for name, tensor in (weights or {}).items():
            shapes = record.shapes.get(name)
            if shapes is not None and shapes[1] != tuple(tensor.shape):
                raise ConfigError(
                    f"The weights have {name!r} of shape {tuple(tensor.shape)}, where the plan "
                    f"says {shapes[1]}.",
                    mend="Save it anew.",
                    where=where,
                )
        source = None
        if file.source is not None:
            source = Source(file.source.kind, file.source.name, file.source.arguments)
        figures, versions = dict(file.figures), dict(file.versions)
        return cls(record, file.model, weights, source, figures, file.result, versions)

    def apply(self, model: AnyModule, *, weights: bool = True) -> AnyModule:
        """Make a model small that was built as the whole one was.

        Args:
            model: Changed in place.
            weights: Whether to load the plan's weights as well; otherwise the model keeps those of
                its own that stay.

        Returns:
            The model.

        Raises:
            RefusedError: The model differs from the one that was cut; says where first. It is
                unchanged then.
        """
        if weights and self.weights is None:
            raise RefusedError("The plan holds no weights.", mend="Apply it with weights=False.")
        removal = apply_record(model, self.record)
        if weights and self.weights is not None:
            try:
                _check_weights(model, self.weights)
                load_weights(model, self.weights, "the plan")
            except BaseException:
                removal.undo()
                raise
        removal.commit()
        return model


def load_model(
    folder: str | os.PathLike[str], model: Module | None = None, *, trust: bool = False
) -> Module:
    """The small model that a folder holds, with its weights.

    Args:
        folder: What `Plan.save` wrote.
        model: The whole model, freshly built; it becomes the small one. Unless given, it is made as
            the plan says.
        trust: Whether a function or file may be used that the plan names.

    Raises:
        ConfigError: There is no plan, or its files are damaged.
        RefusedError: The plan does not say how the model is made, or in a way that needs trust; or
            the model does not fit.
    """
    plan = Plan.load(folder)
    if model is None:
        if plan.source is None:
            raise RefusedError(
                f"The plan in {str(folder)!r} does not say how its {plan.model} is made.",
                mend="Build the whole model and give it as model=.",
            )
        model = plan.source.build(trust=trust)
    return plan.apply(model, weights=plan.weights is not None)


def _told(result: Result | None) -> dict[str, Figure]:
    if result is None:
        return {}
    seconds = {} if result.seconds is None else {"seconds": result.seconds}
    return {"multiply_adds": result.multiply_adds, **seconds}


def _weights(model: Module) -> dict[str, Tensor]:
    import torch

    found: dict[str, Tensor] = {}
    seen: set[tuple[object, ...]] = set()
    for name, value in model.state_dict().items():
        if not isinstance(value, torch.Tensor):
            raise RefusedError(
                f"{name!r} in the model's state dict is no tensor but a {type(value).__name__}, "
                "which a plan cannot hold.",
                mend="Make the plan with weights=False and save the state yourself.",
            )
        same = (value.data_ptr(), tuple(value.shape), value.stride(), value.dtype, value.device)
        if not value.numel() or same not in seen:
            seen.add(same)
            found[name] = value
    return found


def _check_weights(model: Module, weights: Mapping[str, Tensor]) -> None:
    """Whether all can be loaded, before any is."""
    own = model.state_dict()
    filled = {tensor.data_ptr() for name, tensor in own.items() if name in weights}
    for name, tensor in own.items():
        if name not in weights and tensor.data_ptr() not in filled:
            raise RefusedError(f"The plan's weights do not have {name!r}.", mend="Save it anew.")
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            raise RefusedError(
                f"{name!r} of shape {tuple(tensor.shape)} in the plan's weights does not fit this "
                f"{type(model).__name__}."
            )


def _parameters(model: Module, record: Record) -> Figure:
    names = {name for name, _ in model.named_parameters()}
    only = {name: shapes for name, shapes in record.shapes.items() if name in names}
    return dataclasses.replace(record, shapes=only).numbers


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"  # imported from where its source lies
