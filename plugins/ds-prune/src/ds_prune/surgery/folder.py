"""A plan's files: JSON and safetensors in a folder that is there as a whole or not at all."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
import pydantic

from ds_core.causes import cause
from ds_core.errors import ConfigError
from ds_core.weights import read_weights
from ds_prune.report import Result
from ds_prune.surgery.record import Change, Record

if TYPE_CHECKING:
    from torch import Tensor

FORMAT: Final = 1
PLAN = "plan.json"
WEIGHTS = "weights.safetensors"

_Count = pydantic.NonNegativeInt
_Shape = list[_Count]
_Number = bool | int | list[int]


class _Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True)


class ChangeFile(_Part):
    """An attribute that was changed."""

    module: str
    attribute: str
    old: _Number
    new: _Number


class SourceFile(_Part):
    """How the model is made that the plan was cut from."""

    kind: Literal["model", "function"]
    name: str
    arguments: dict[str, Any]


class PlanFile(_Part):
    """What is in `plan.json`."""

    format: Literal[1]
    model: str
    versions: dict[str, str]
    source: SourceFile | None
    shapes: list[tuple[str, _Shape, _Shape]]
    kept: dict[str, dict[_Count, list[_Count]]]
    attributes: list[ChangeFile]
    attention: list[str]
    figures: dict[str, tuple[int | float, int | float]]
    result: Result | None = None
    weights: bool

    def record(self) -> Record:
        """What was removed."""
        return Record(
            {name: (tuple(before), tuple(after)) for name, before, after in self.shapes},
            {
                name: {dim: np.array(index, dtype=np.int64) for dim, index in dims.items()}
                for name, dims in self.kept.items()
            },
            tuple(
                Change(one.module, one.attribute, _value(one.old), _value(one.new))
                for one in self.attributes
            ),
            tuple(self.attention),
        )


def contents(record: Record) -> dict[str, Any]:
    """A record as `PlanFile` has it."""
    return {
        "shapes": [(name, list(old), list(new)) for name, (old, new) in record.shapes.items()],
        "kept": {
            name: {dim: index.tolist() for dim, index in dims.items()}
            for name, dims in record.kept.items()
        },
        "attributes": [
            {
                "module": one.module,
                "attribute": one.attribute,
                "old": _listed(one.old),
                "new": _listed(one.new),
            }
            for one in record.attributes
        ],
        "attention": list(record.attention),
    }


def write(folder: Path, plan: PlanFile, weights: Mapping[str, Tensor] | None) -> None:
    """Write the folder beside its place and move it there; what was there of a plan is replaced.

    Raises:
        ConfigError: Something else is there, or it cannot be written; nothing is left then.
    """
    folder = folder.absolute()
    check_place(folder)
    mark = secrets.token_hex(4)
    fresh, old = (folder.with_name(f".{folder.name}.{mark}.{end}") for end in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        if weights is not None:
            _write_weights(fresh / WEIGHTS, weights)
        text = json.dumps(plan.model_dump(), sort_keys=True, separators=(",", ":"))
        (fresh / PLAN).write_text(text + "\n", encoding="utf-8")
        for file in fresh.iterdir():
            _flush(file)
        if folder.exists():
            folder.rename(old)
        try:
            fresh.rename(folder)
        except OSError:
            if old.exists():
                old.rename(folder)
            raise
    except Exception as error:
        raise ConfigError(
            f"The plan cannot be written to {str(folder)!r}: {cause(error)}.",
            mend="Check the path, its permissions and the space on the disk.",
        ) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def check_place(folder: Path) -> None:
    """Whether a plan may be written there.

    Raises:
        ConfigError: Something else is there, or the folder around it is none to write into.
    """
    folder = folder.absolute()
    if folder.exists() and not _replaceable(folder):
        raise ConfigError(
            f"{str(folder)!r} is there and is no plan, so it is not overwritten.",
            mend="Choose another name.",
        )
    around = next(one for one in folder.parents if one.exists())
    if not around.is_dir() or not os.access(around, os.W_OK):
        raise ConfigError(
            f"The plan cannot be written to {str(folder)!r}: {str(around)!r} is no folder that can "
            "be written into.",
            mend="Check the path and its permissions.",
        )


def read(folder: Path) -> tuple[PlanFile, dict[str, Tensor] | None]:
    """What `write` wrote.

    Raises:
        ConfigError: There is no such folder, or its files are not what a plan consists of.
    """
    path = folder / PLAN
    if not path.is_file():
        raise ConfigError(f"There is no plan in {str(folder)!r}.", mend="Check the path.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {cause(error)}.") from None
    version = found.get("format") if isinstance(found, dict) else None
    if isinstance(version, int) and version > FORMAT:
        raise ConfigError(
            f"{str(path)!r} is of format {version}, and this ds-prune knows {FORMAT}.",
            mend="Install a newer ds-prune.",
        )
    try:
        plan = PlanFile.model_validate_json(json.dumps(found))
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise ConfigError(
            f"{str(path)!r} is no plan: {where}: {first['msg']}.", mend="Save it anew."
        ) from None
    return plan, read_weights(folder / WEIGHTS) if plan.weights else None


def _write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save_file

    ready, seen = {}, set()
    for name, tensor in weights.items():
        own = tensor.detach().cpu().contiguous()
        storage = own.untyped_storage()
        # The format wants a storage of its own for each, and no more of it than the tensor takes.
        if storage.data_ptr() in seen or storage.nbytes() != own.numel() * own.element_size():
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        ready[name] = own
    save_file(ready, path)


def _replaceable(folder: Path) -> bool:
    if not folder.is_dir() or folder.is_symlink():
        return False
    return {one.name for one in folder.iterdir()} in (set(), {PLAN}, {PLAN, WEIGHTS})


def _flush(file: Path) -> None:
    with file.open("rb+") as opened:
        os.fsync(opened.fileno())


def _value(number: _Number) -> int | tuple[int, ...]:
    return tuple(number) if isinstance(number, list) else number


def _listed(value: int | tuple[int, ...]) -> _Number:
    return list(value) if isinstance(value, tuple) else value
