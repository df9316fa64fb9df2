"""Architectures of timm, by name or from a folder that it wrote."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ds_core.builtin.models.folders import config_in
from ds_core.builtin.models.images import random_images
from ds_core.causes import cause
from ds_core.components.model_source import PRETRAINED, RANDOM, ModelSource
from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from torch.nn import Module


class TimmSource(ModelSource):
    """What `timm.list_models()` lists, pretrained tags (`resnet50.a1_in1k`), and local folders.

    A folder holds a config.json that names the `architecture` beside its weights, as
    `timm.models.save_for_hf` writes it.
    """

    name: ClassVar[str] = "timm"
    rank: ClassVar[int] = 20

    def missing(self) -> str | None:
        return None if find_spec("timm") else "timm"

    def names(self) -> list[str]:
        import timm

        return list(timm.list_models())

    def knows(self, name: str) -> bool:
        import timm

        return bool(timm.is_model(name)) or "architecture" in config_in(name)

    def build(self, name: str, *, weights: str | None, num_classes: int | None) -> Module:
        """`timm.create_model`; a folder with its own weights unless `random` is asked for."""
        import timm

        options = {} if num_classes is None else {"num_classes": num_classes}
        folder = "architecture" in config_in(name)
        pretrained = weights != RANDOM if folder else weights == PRETRAINED
        identity = f"local-dir:{Path(name).resolve()}" if folder else name
        try:
            model: Module = timm.create_model(identity, pretrained=pretrained, **options)
        except Exception as error:
            raise RefusedError(f"timm cannot build {name!r}: {cause(error)}.") from error
        return model.float()

    def example_inputs(self, name: str, model: Module, batch_size: int) -> tuple[Any, ...]:
        """Images of the size in the model's own configuration."""
        channels, *size = getattr(model, "pretrained_cfg", {}).get("input_size", (3, 224, 224))
        return random_images(batch_size, channels, size)
