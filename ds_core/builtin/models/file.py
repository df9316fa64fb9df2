"""Models in files: programs that `torch.export` saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ds_core.causes import cause
from ds_core.components.model_source import ModelSource
from ds_core.errors import ConfigError, RefusedError

if TYPE_CHECKING:
    from torch.nn import Module

PROGRAM = ".pt2"
WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")


class FileSource(ModelSource):
    """A `.pt2` file: graph and weights, as `torch.export.save` writes them.

    Files of weights alone need an architecture to load them into, and folders belong to the
    library that wrote them; both are answered with what to do.
    """

    name: ClassVar[str] = "file"
    # Last: a folder is claimed by the source that can read it.
    rank: ClassVar[int] = -100

    def knows(self, name: str) -> bool:
        """Whether it is a path, or has the ending of one."""
        return Path(name).suffix in (PROGRAM, *WEIGHTS) or "/" in name or Path(name).exists()

    def build(self, name: str, *, weights: str | None, num_classes: int | None) -> Module:
        """The exported program as a module, with the weights that are stored in it."""
        path = Path(name)
        if not path.exists():
            raise ConfigError(f"There is no file {name!r}.", mend="Check the path.")
        if path.suffix != PROGRAM:
            raise _no_model(path)
        if weights is not None or num_classes is not None:
            setting = "weights" if weights is not None else "num_classes"
            raise ConfigError(
                f"{name!r} is an exported program, whose {setting} cannot be chosen.",
                mend=f"Leave out {setting}.",
            )
        program = _program(path)
        model: Module = program.module()
        return model

    def example_inputs(self, name: str, model: Module, batch_size: int) -> tuple[Any, ...]:
        """The inputs that the program was exported with; its shapes may allow no others."""
        inputs, keywords = _program(Path(name)).example_inputs or ((), {})
        if keywords or not inputs:
            raise RefusedError(
                f"{name!r} holds no positional example inputs, so nothing can be measured on it.",
                mend="Load it without transforms and with tune=False.",
            )
        return tuple(inputs)


def _program(path: Path) -> Any:
    import torch

    try:
        return torch.export.load(path)
    except Exception as error:
        raise ConfigError(
            f"{str(path)!r} cannot be read as an exported program: {cause(error)}.",
            mend="It must have been written by torch.export.save.",
        ) from error


def _no_model(path: Path) -> ConfigError:
    if path.is_dir():
        return ConfigError(
            f"The folder {str(path)!r} holds no model that an installed source can read.",
            mend="It needs a config.json, as transformers' save_pretrained or timm's "
            "save_for_hf writes it, and that library installed.",
        )
    if path.suffix in WEIGHTS:
        return ConfigError(
            f"{str(path)!r} holds weights, and nothing says of which architecture.",
            mend=f"Name it: load_model({str(path)!r}, architecture='resnet50').",
        )
    return ConfigError(
        f"{str(path)!r} is no file that holds a model.",
        mend="Give a .pt2 file, or weights (.safetensors, .pt) with architecture=....",
    )
