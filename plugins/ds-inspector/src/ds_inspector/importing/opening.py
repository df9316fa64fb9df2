"""Which kind a file is, told by what is in it."""

from __future__ import annotations

import gc
import mmap
import stat
import zipfile
from itertools import chain
from pathlib import Path

from ds_core.errors import DsError, RefusedError
from ds_inspector.importing import archive, onnx_model, onnxruntime, tensorflow
from ds_inspector.importing.protobuf import DamagedError, Wire
from ds_inspector.importing.trace import reading
from ds_inspector.importing.trace.pieces import Pieces
from ds_inspector.recording import Recording, load
from ds_inspector.recording.store import is_recording

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MODEL = "saved_model.pb"
_KNOWN = (
    "It can be a recording (.dsrec), a model of ONNX, PyTorch (.pt2) or TensorFlow, or a trace of "
    "torch.profiler or onnxruntime."
)


def open_any(path: str | Path, *, profile: str | Path | None = None) -> Recording:
    """Read whatever can be shown; the suffix does not matter.

    Args:
        path: A recording, an ONNX model, a program of torch.export, a trace of torch.profiler, a
            profile of onnxruntime, a GraphDef, or a SavedModel or its folder.
        profile: Of onnxruntime, joined to the ONNX model at `path` by the names of nodes.

    Raises:
        RefusedError: The file is of no such kind, damaged, or larger than is read.
    """
    path = Path(path)
    collecting = gc.isenabled()
    gc.disable()  # there are millions of objects, and none of them refers to itself
    try:
        recording = _open(path)
        if profile is not None:
            if recording.about.origin != "onnx":
                raise RefusedError(f"{path} is no ONNX model, so that no profile fits it.")
            recording = onnxruntime.joined(recording, _profile(Path(profile)))
    except DsError:
        raise
    except OSError as error:
        name = error.filename or path
        raise RefusedError(f"{name} cannot be read: {error.strerror or error}.") from error
    except (DamagedError, UnicodeError, zipfile.BadZipFile) as error:
        raise RefusedError(f"{path} is damaged, or no file that is known: {error}.") from error
    except MemoryError as error:
        raise RefusedError(f"{path} needs more memory than there is.") from error
    finally:
        if collecting:
            gc.enable()
    recording.path = path
    return recording


def _open(path: Path) -> Recording:
    if path.is_dir():
        if not (path / _MODEL).is_file():
            raise RefusedError(f"{path} is a folder without a {_MODEL}.", mend=_KNOWN)
        path = path / _MODEL
    if not stat.S_ISREG(path.stat().st_mode):
        raise RefusedError(f"{path} is no ordinary file.")
    with path.open("rb") as file:
        head = file.read(4096)
    if not head:
        raise RefusedError(f"{path} is empty.")
    if is_recording(path) or head.startswith(b"SQLite format 3\0"):
        return load(path)
    if head.startswith(b"PK\x03\x04"):
        return archive.read(path)
    if head.startswith(b"\x1f\x8b") or head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in b"{[":
        return _json(path)
    if head.startswith(_HDF5):
        raise RefusedError(
            f"{path} is HDF5, in which Keras may hide code.",
            mend="Save the model as .keras, or export it as a SavedModel.",
        )
    return _protobuf(path)


def _json(path: Path) -> Recording:
    pieces = Pieces(path)
    coming = iter(pieces)
    first: list[object] = next(coming, [])
    if onnxruntime.is_profile(first):
        return onnxruntime.read(chain([first], coming), path).recording
    return reading.read(pieces, chain([first], coming), path)


def _profile(path: Path) -> onnxruntime.Profile:
    pieces = iter(Pieces(path))
    first: list[object] = next(pieces, [])
    if not onnxruntime.is_profile(first):
        raise RefusedError(f"{path} is no profile of onnxruntime.")
    return onnxruntime.read(chain([first], pieces), path)


def _protobuf(path: Path) -> Recording:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        size, title = len(data), path.name
        wire = Wire(data)
        kinds = set()
        for number, _, end in wire.fields(0, size):
            kinds.add((number, end >= 0))
            if len(kinds) > 40 or number > 1000:
                break
        if (7, True) in kinds:
            return onnx_model.read(wire, size, title)
        if (1, False) in kinds and (2, True) in kinds:
            return tensorflow.read_saved_model(wire, size, title)
        if kinds and kinds <= {(1, True), (2, True), (3, False), (4, True), (5, True)}:
            return tensorflow.read_graph(wire, size, title)
    raise RefusedError(f"{path} is of no kind that is known.", mend=_KNOWN)
