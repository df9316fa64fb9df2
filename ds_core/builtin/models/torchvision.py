"""Architectures of torchvision."""

from __future__ import annotations

import inspect
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from ds_core.builtin.models.images import random_images
from ds_core.causes import cause
from ds_core.components.model_source import PRETRAINED, ModelSource
from ds_core.errors import RefusedError
from ds_core.weights import load_weights

if TYPE_CHECKING:
    from torch.nn import Module


class TorchvisionSource(ModelSource):
    """What `torchvision.models.list_models()` lists: `resnet50`, `vit_b_16`, `convnext_tiny`.

    Models are torchvision's own. Classifiers return logits, but `googlenet` and `inception_v3`
    return those of their auxiliary heads as well while they train.
    """

    name: ClassVar[str] = "torchvision"
    rank: ClassVar[int] = 30

    def missing(self) -> str | None:
        return None if find_spec("torchvision") else "torchvision"

    def names(self) -> list[str]:
        from torchvision.models import list_models

        return list(list_models())

    def build(self, name: str, *, weights: str | None, num_classes: int | None) -> Module:
        """`torchvision.models.get_model`; pretrained with `DEFAULT` weights.

        With another number of classes than those weights have, the last layer keeps fresh ones.
        """
        from torchvision.models import get_model, get_model_builder, get_model_weights

        options: dict[str, Any] = {} if num_classes is None else {"num_classes": num_classes}
        if "weights_backbone" in inspect.signature(get_model_builder(name)).parameters:
            options["weights_backbone"] = None  # which is to download them otherwise
        pretrained = weights == PRETRAINED
        try:
            if pretrained and num_classes is None:
                return get_model(name, weights="DEFAULT", **options)  # type: ignore[no-any-return]
            model: Module = get_model(name, weights=None, **options)
            state = get_model_weights(name).DEFAULT.get_state_dict() if pretrained else None
        except Exception as error:
            raise RefusedError(f"torchvision cannot build {name!r}: {cause(error)}.") from error
        if state is not None:
            load_weights(model, state, name, fresh_head=True)
        return model

    def example_inputs(self, name: str, model: Module, batch_size: int) -> tuple[Any, ...]:
        """Images of the size that the model or its default weights were made for."""
        import torchvision.models

        if name not in torchvision.models.list_models(module=torchvision.models):
            raise RefusedError(
                f"torchvision's {name!r} is no image classifier, so its inputs cannot be made up.",
                mend="Load it with tune=False and without transforms.",
            )
        preset = torchvision.models.get_model_weights(name).DEFAULT.transforms.keywords
        size = getattr(model, "image_size", preset.get("crop_size", 224))
        return random_images(batch_size, 3, size)
