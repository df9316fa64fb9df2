"""A model written for other runtimes, and run there before anyone relies on it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds_core.causes import cause
from ds_core.errors import ConfigError, DsError, RefusedError
from ds_core.nested import tensors_in
from ds_prune.surgery.proof import prove
from ds_prune.surgery.undisturbed import undisturbed

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def export(
    model: Module,
    args: tuple[Any, ...],
    path: str | os.PathLike[str],
    kwargs: Mapping[str, Any] | None = None,
) -> None:
    """Write a model as `.onnx` or `.pt2`, load the file and compare what it computes.

    The program takes inputs of the shapes given, in evaluation mode.

    Args:
        model: On the CPU or another device; is left as it is.
        args: Example inputs by position.
        path: Its suffix says the format. ONNX needs `pip install "ds-prune[onnx]"`, and is compared
            where onnxruntime is installed.
        kwargs: Example inputs by name.

    Raises:
        ConfigError: The suffix is another, or the file cannot be written.
        DsError: A library is missing.
        RefusedError: The model cannot be exported, or the file computes something else; no file is
            left then.
    """
    target = Path(path)
    writers = {".onnx": _onnx, ".pt2": _pt2}
    if target.suffix not in writers:
        raise ConfigError(
            f"No model can be exported as {target.name!r}.", mend="End its name in .onnx or .pt2."
        )
    with undisturbed(model):
        expected = list(tensors_in(model(*args, **(kwargs or {}))))
        temporary = target.with_name(f".{target.stem}.part{target.suffix}")
        try:
            got = writers[target.suffix](model, args, dict(kwargs or {}), temporary)
            proof = prove(got, expected) if got is not None else None
            if proof is not None and not proof.holds:
                raise RefusedError(
                    f"{target.name} does not compute what the model does: {proof.against}."
                )
            temporary.replace(target)
        except OSError as error:
            raise ConfigError(f"Cannot write {target}: {error.strerror or error}.") from None
        finally:
            temporary.unlink(missing_ok=True)


def _pt2(
    model: Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: Path
) -> list[Tensor] | None:
    import torch

    try:
        program = torch.export.export(model, args, kwargs, strict=False)
    except Exception as error:
        raise RefusedError(f"torch.export cannot follow this model: {cause(error)}.") from error
    try:
        torch.export.save(program, path)
    except RuntimeError as error:  # what torch's own archive raises where it cannot write
        raise OSError(cause(error)) from error
    return list(tensors_in(torch.export.load(path).module()(*args, **kwargs)))


def _onnx(
    model: Module, args: tuple[Any, ...], kwargs: dict[str, Any], path: Path
) -> list[Tensor] | None:
    import torch

    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise DsError(
            "ONNX export needs onnxscript, which is not installed.",
            mend='Run: pip install "ds-prune[onnx]"',
        ) from None
    try:
        program = torch.onnx.export(model, args, kwargs=kwargs, dynamo=True, verbose=False)
    except Exception as error:
        raise RefusedError(f"torch.onnx cannot export this model: {cause(error)}.") from error
    assert program is not None
    program.save(path)
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    names = [one.name for one in session.get_inputs()]
    given = [tensor.detach().cpu().numpy() for tensor in tensors_in((args, kwargs))]
    found = session.run(None, dict(zip(names, given, strict=True)))
    return [torch.from_numpy(one) for one in found]
