"""Architectures of transformers, with random weights or from a folder that it wrote."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from ds_core.builtin import host_memory
from ds_core.builtin.models.folders import config_in
from ds_core.builtin.models.images import random_images
from ds_core.causes import cause
from ds_core.components.model_source import PRETRAINED, RANDOM, ModelSource
from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from torch.nn import Module


class _Known(NamedTuple):
    """An architecture under the name that the field calls it by."""

    model_type: str
    head: str
    checkpoint: str
    options: dict[str, Any] = {}


def _resnet(checkpoint: str, depths: tuple[int, ...], *, basic: bool = False) -> _Known:
    options: dict[str, Any] = {"depths": list(depths)}
    if basic:
        options |= {"layer_type": "basic", "hidden_sizes": [64, 128, 256, 512]}
    return _Known("resnet", "IMAGE_CLASSIFICATION", f"microsoft/{checkpoint}", options)


_KNOWN = {
    "resnet18": _resnet("resnet-18", (2, 2, 2, 2), basic=True),
    "resnet34": _resnet("resnet-34", (3, 4, 6, 3), basic=True),
    "resnet50": _resnet("resnet-50", (3, 4, 6, 3)),
    "resnet101": _resnet("resnet-101", (3, 4, 23, 3)),
    "resnet152": _resnet("resnet-152", (3, 8, 36, 3)),
    "mobilenet_v2": _Known(
        "mobilenet_v2", "IMAGE_CLASSIFICATION", "google/mobilenet_v2_1.0_224", {}
    ),
    "vit_b_16": _Known("vit", "IMAGE_CLASSIFICATION", "google/vit-base-patch16-224", {}),
    "bert_base": _Known("bert", "MASKED_LM", "google-bert/bert-base-uncased", {}),
    "gpt2": _Known("gpt2", "CAUSAL_LM", "openai-community/gpt2", {}),
}

_CLASSIFIERS = (
    "IMAGE_CLASSIFICATION",
    "SEQUENCE_CLASSIFICATION",
    "AUDIO_CLASSIFICATION",
    "VIDEO_CLASSIFICATION",
)

_HEADS = (*_CLASSIFIERS, "MASKED_LM", "CAUSAL_LM")

_SEQUENCE = 128
_CLASSES = 1000  # of ImageNet, as the architectures were published


class TransformersSource(ModelSource):
    """Named architectures, any `model_type` of transformers, and local folders.

    * `resnet18` to `resnet152`, `mobilenet_v2`, `vit_b_16` classify images, in 1000 classes unless
      told otherwise; `bert_base` and `gpt2` are language models. Parameter counts are those of the
      published architectures.
    * Any other `model_type` (`convnext`, `llama`, ...) is built from its default configuration: as
      `AutoModel`, or with its classification head where `num_classes` is given.
    * A folder that `save_pretrained` wrote is built as what it was saved from.

    Models with a head return their logits as a tensor where transformers returns an object. They
    are of a subclass that does nothing else: `isinstance`, parameter names, `save_pretrained` and
    `generate` stay, and a call with `labels=` or `return_dict=` answers as transformers does.
    """

    name: ClassVar[str] = "transformers"
    rank: ClassVar[int] = 10

    def missing(self) -> str | None:
        return None if find_spec("transformers") else "transformers"

    def names(self) -> list[str]:
        from transformers import CONFIG_MAPPING

        return list(dict.fromkeys([*_KNOWN, *CONFIG_MAPPING.keys()]))

    def knows(self, name: str) -> bool:
        return name in _KNOWN or "model_type" in config_in(name) or name in self.names()

    def build(self, name: str, *, weights: str | None, num_classes: int | None) -> Module:
        """From the name's configuration, its published checkpoint, or the folder's own weights.

        Raises:
            RefusedError: There is no such head, checkpoint, or memory; or transformers refuses.
        """
        folder = "model_type" in config_in(name)
        wants_stored = weights != RANDOM if folder else weights == PRETRAINED
        if wants_stored and not folder and name not in _KNOWN:
            raise RefusedError(
                f"transformers publishes no weights under the bare name {name!r}.",
                mend="Download a checkpoint and give its folder as the name.",
            )
        try:
            config = _configuration(name, folder, num_classes)
            model_class = _model_class(name, config, folder, num_classes)
            if not wants_stored:
                _check_memory(name, model_class, config)
                return model_class(config)  # type: ignore[no-any-return]
            model: Module = model_class.from_pretrained(
                name if folder else _KNOWN[name].checkpoint,
                config=config,
                local_files_only=folder,
                ignore_mismatched_sizes=num_classes is not None,
            )
        except RefusedError:
            raise
        except Exception as error:
            raise RefusedError(f"transformers cannot build {name!r}: {cause(error)}.") from error
        return model.float()

    def example_inputs(self, name: str, model: Module, batch_size: int) -> tuple[Any, ...]:
        """Images, or token ids of shape (batch_size, 128 or the longest that the model takes)."""
        import torch

        config: Any = model.config
        kind = getattr(model, "main_input_name", "")
        if kind == "pixel_values" and not hasattr(config, "num_frames"):
            channels = getattr(config, "num_channels", 3)
            return random_images(batch_size, channels, getattr(config, "image_size", None) or 224)
        text_alone = config.get_text_config() is config and not config.is_encoder_decoder
        if kind == "input_ids" and text_alone:
            length = min(_SEQUENCE, getattr(config, "max_position_embeddings", None) or _SEQUENCE)
            return (torch.randint(0, config.vocab_size, (batch_size, length)),)
        raise RefusedError(
            f"What {type(model).__name__} takes cannot be made up.",
            mend="Load it with tune=False and without transforms.",
        )


def _configuration(name: str, folder: bool, num_classes: int | None) -> Any:
    from transformers import CONFIG_MAPPING, AutoConfig

    options = {} if num_classes is None else {"num_labels": num_classes}
    if folder:
        return AutoConfig.from_pretrained(name, local_files_only=True, **options)
    known = _KNOWN.get(name) or _Known(name, "", "")
    if known.head == "IMAGE_CLASSIFICATION":
        options = {"num_labels": _CLASSES, **options}
    config = CONFIG_MAPPING[known.model_type](**known.options, **options)
    if num_classes is not None and getattr(config, "pad_token_id", 0) is None:
        # Models that read a class off the last token must know which tokens are padding.
        config.pad_token_id = getattr(config, "eos_token_id", None) or 0
    return config


def _model_class(name: str, config: Any, folder: bool, num_classes: int | None) -> Any:
    import transformers

    if folder and num_classes is None and config.architectures:
        found = getattr(transformers, config.architectures[0], None)
        if found is None:
            raise RefusedError(f"transformers has no class {config.architectures[0]!r}.")
        headed = found in [_head(task, config) for task in _HEADS]
        return returning_logits(found) if headed else found
    if num_classes is not None:
        for task in _CLASSIFIERS:
            if found := _head(task, config):
                return returning_logits(found)
        raise RefusedError(
            f"transformers has no classification head for {name!r}, so it has no classes.",
            mend="Leave out num_classes.",
        )
    if name in _KNOWN:
        return returning_logits(_head(_KNOWN[name].head, config))
    plain = transformers.MODEL_MAPPING.get(type(config), None)
    if plain is None:
        raise RefusedError(
            f"transformers has no model for the type {name!r} alone.",
            mend="Choose an architecture, or a folder with a model.",
        )
    return plain


def _head(task: str, config: Any) -> Any:
    """transformers' class of a model with a head, or None where there is no such head."""
    import transformers

    mapping = getattr(transformers, f"MODEL_FOR_{task}_MAPPING")
    return mapping.get(type(config), None)


def _check_memory(name: str, model_class: Any, config: Any) -> None:
    """Refuse what would have the process killed: default configurations may mean billions."""
    import torch

    free = host_memory.available()
    with torch.device("meta"):
        needed = sum(p.numel() * p.element_size() for p in model_class(config).parameters())
    if free is not None and needed > free:
        raise RefusedError(
            f"{name!r} has {needed / 4e9:.1f} billion parameters, which need "
            f"{needed / 2**30:.0f} GiB; {free / 2**30:.0f} GiB are free.",
            mend="Choose a smaller architecture, or load it where there is more memory.",
        )


@functools.cache
def returning_logits(base: Any) -> Any:
    """A subclass of a transformers model whose call returns the logits as a tensor."""

    @functools.wraps(base.forward)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = base.forward(self, *args, **kwargs)
        return output if {"labels", "return_dict"} & kwargs.keys() else output.logits

    def __reduce__(self: Any) -> Any:
        # A class made here cannot be found by name, but made anew from one that can.
        return _unpickled, (base,), self.__dict__

    body = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce__": __reduce__,
        "forward": forward,
    }
    return type(base.__name__, (base,), body)


def _unpickled(base: Any) -> Module:
    made = returning_logits(base)
    return made.__new__(made)  # type: ignore[no-any-return]
