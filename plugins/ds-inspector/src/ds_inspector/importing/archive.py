"""Zip archives: programs that torch.export saved, by their JSON. Nothing is unpacked to disk.

Tensors are in pickles beside it, which are never opened.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import orjson

from ds_core.errors import RefusedError
from ds_inspector.importing import converting, limits, pt2
from ds_inspector.recording import Recording


def read(path: Path) -> Recording:
    """Read a `.pt2` file, of several programs in it the first.

    Raises:
        RefusedError: It is another archive, damaged, or larger than is read.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > limits.MEMBERS:
            raise limits.refuse(f"{path} has", limits.MEMBERS, "files in it")
        programs = [member for member in members if _is_program(member.filename)]
        if "model.weights.h5" in {member.filename for member in members}:
            return converting.read(path)
        if not programs:
            raise _foreign(path, {member.filename.rpartition("/")[2] for member in members})
        program = _json(archive, programs[0], path)
    recording = pt2.read(program, path)
    if len(programs) > 1:
        recording.about.problems.append(f"Of {len(programs)} programs in it this is the first.")
    return recording


def _is_program(name: str) -> bool:
    parts = name.split("/")
    return (len(parts) > 1 and parts[-2] == "models" and name.endswith(".json")) or (
        parts[-1] == "serialized_exported_program.json"
    )


def _foreign(path: Path, names: set[str]) -> RefusedError:
    if "data.pkl" in names:
        return RefusedError(
            f"{path} is a pickle, which is not opened as it can run anything.",
            mend="Save the model with torch.export.save or torch.onnx.export.",
        )
    return RefusedError(f"{path} is an archive without a program of torch.export.")


def _json(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> Any:
    """A member, whatever size it declares."""
    if member.flag_bits & 1:
        raise RefusedError(f"{path} is encrypted.")
    if member.file_size > limits.WHOLE:
        raise limits.refuse(f"{path} has", limits.WHOLE, "bytes in one piece")
    try:
        with archive.open(member) as file:
            text = file.read(limits.WHOLE + 1)
        if len(text) > limits.WHOLE:
            raise limits.refuse(f"{path} has", limits.WHOLE, "bytes in one piece")
        return orjson.loads(text)
    except (orjson.JSONDecodeError, zlib.error, EOFError, NotImplementedError) as error:
        raise RefusedError(f"{path} is damaged: {member.filename[:100]} cannot be read.") from error
