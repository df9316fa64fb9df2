"""Transformers' vision, text and audio architectures, small and with random weights."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import transformers as hf
from hf_shrinking import SIDE, VOCABULARY, shrunk
from torch import Tensor, nn
from transformers.models.auto import modeling_auto
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from ds_core.causes import cause
from ds_core.nested import tensors_in

KINDS: dict[str, tuple[str, ...]] = {
    "vision": (
        "IMAGE_CLASSIFICATION",
        "VIDEO_CLASSIFICATION",
        "SEMANTIC_SEGMENTATION",
        "DEPTH_ESTIMATION",
        "OBJECT_DETECTION",
        "UNIVERSAL_SEGMENTATION",
        "KEYPOINT_DETECTION",
        "IMAGE_TO_IMAGE",
        "MASKED_IMAGE_MODELING",
        "BACKBONE",
        "IMAGE",
    ),
    "audio": (
        "AUDIO_CLASSIFICATION",
        "CTC",
        "SPEECH_SEQ_2_SEQ",
        "TEXT_TO_WAVEFORM",
        "TEXT_TO_SPECTROGRAM",
    ),
    "text": (
        "SEQ_TO_SEQ_CAUSAL_LM",
        "MASKED_LM",
        "CAUSAL_LM",
        "SEQUENCE_CLASSIFICATION",
        "TEXT_ENCODING",
    ),
}
BASE = {
    "vision": ("vision_model", "vit_model", "hiera_det", "seggpt", "radio"),
    "audio": ("audio", "speech", "codec", "mimi", "dac", "encodec", "wav", "clap"),
    "text": ("text", "splinter", "dpr", "bros", "qformer"),
}
"""Parts of names by which architectures without a head are told apart."""
LARGEST = 60_000_000
"""Parameters of a model that is still built."""


@dataclass(frozen=True)
class Family:
    """One architecture: its model type, its kind, and its class by name."""

    name: str
    kind: str
    model: str


@dataclass
class Built:
    """A small model of a family.

    Attributes:
        make: Makes one, with weights by torch's current seed.
        inputs: Example inputs by name.
        others: Inputs of other sizes, by what differs.
    """

    make: Callable[[], nn.Module]
    inputs: dict[str, Any]
    others: dict[str, dict[str, Any]]


class CannotBuild(Exception):
    """With the reason."""


@cache
def families() -> tuple[Family, ...]:
    """One class for each model type, in the order of `KINDS`."""
    found: dict[str, Family] = {}
    for kind, tasks in KINDS.items():
        for task in tasks:
            for name, model in getattr(modeling_auto, f"MODEL_FOR_{task}_MAPPING_NAMES").items():
                first = model if isinstance(model, str) else model[0]
                found.setdefault(name, Family(name, kind, first))
    for name, model in modeling_auto.MODEL_MAPPING_NAMES.items():
        first = model if isinstance(model, str) else model[0]
        kinds = [kind for kind, parts in BASE.items() if any(part in name for part in parts)]
        if kinds and name not in found:
            found[name] = Family(name, kinds[0], first)
    return tuple(found.values())


def build(family: Family) -> Built:
    """The smallest that can be built and run.

    Raises:
        CannotBuild: None can.
    """
    hf.logging.set_verbosity_error()
    warnings.simplefilter("ignore")
    reasons = []
    for widths in (True, False):
        try:
            return _build(family, widths)
        except Exception as error:
            reasons.append(str(cause(error)))
    raise CannotBuild("; ".join(dict.fromkeys(reasons)))


def _build(family: Family, widths: bool) -> Built:
    model_class = getattr(hf, family.model, None)
    if model_class is None:
        raise CannotBuild(f"transformers does not give {family.model}")
    config_class = CONFIG_MAPPING[family.name]
    values = shrunk(config_class().to_dict(), widths=widths)
    for name in ("use_cache", "output_attentions", "output_hidden_states", "use_mask_token"):
        values.update({name: False} if name in values else {})
    values.update(SPECIAL.get(family.name, {}) if widths else {})

    def make() -> nn.Module:
        config = config_class.from_dict(values)
        for part in (config, *(getattr(config, n, None) for n in ("decoder", "text_config"))):
            if part is not None and hasattr(part, "use_cache"):
                part.use_cache = False
        model: nn.Module = model_class(config)
        return model.float().eval()

    try:
        with torch.device("meta"):
            size = sum(one.numel() for one in make().parameters())
    except Exception:
        size = 0  # it computes with its weights while it is made
    if size > LARGEST:
        raise CannotBuild(f"it has {size / 1e6:.0f} million parameters even if it is made small")
    torch.manual_seed(0)
    model = make()
    tried = None
    for inputs in _inputs(model, 2, 12):
        try:
            with torch.no_grad():
                outputs = list(tensors_in(model(**inputs)))
        except Exception as error:
            tried = tried or error
            continue
        if not all(bool(one.isfinite().all()) for one in outputs if one.is_floating_point()):
            tried = tried or ValueError("its outputs are not finite")
            continue
        return Built(make, inputs, _others(model, inputs))
    raise tried or CannotBuild("there are no inputs for it")


def _others(model: nn.Module, inputs: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Larger batches, and longer sequences or larger images, where the model takes them."""
    found = {}
    for what, batch, length in (("batch", 3, 12), ("size", 2, 17)):
        for other in _inputs(model, batch, length):
            same = other.keys() == inputs.keys() and all(
                a.dim() == inputs[name].dim() for name, a in other.items() if isinstance(a, Tensor)
            )
            shapes = [a.shape for a in other.values() if isinstance(a, Tensor)]
            if not same or shapes == [a.shape for a in inputs.values() if isinstance(a, Tensor)]:
                continue
            try:
                with torch.no_grad():
                    model(**other)
            except Exception:
                continue
            found[what] = other
            break
    return found


def _inputs(model: Any, batch: int, length: int) -> Iterator[dict[str, Any]]:
    """Inputs that the model may take, the likeliest first."""
    generator = torch.Generator().manual_seed(batch * 100 + length)
    config, names = model.config, inspect.signature(model.forward).parameters
    text = getattr(config, "get_text_config", lambda: config)()
    rest: dict[str, Any] = {}
    if "decoder_input_ids" in names and getattr(config, "is_encoder_decoder", False):
        rest["decoder_input_ids"] = _words(text, batch, 7, generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    main = model.main_input_name
    if main in ("pixel_values", "pixel_values_videos"):
        vision = getattr(config, "vision_config", config)
        backbone = getattr(config, "backbone_config", None) or vision
        channels = getattr(vision, "num_channels", None) or getattr(backbone, "num_channels", 3)
        if isinstance(channels, list):
            channels = channels[0]
        frames = getattr(vision, "num_frames", None) or getattr(vision, "frames_per_clip", None)
        own = getattr(vision, "image_size", None) or getattr(backbone, "image_size", None)
        own = own or getattr(vision, "crop_size", None)
        own = own[0] if isinstance(own, list | tuple) else own
        sides = dict.fromkeys(side for side in (own, SIDE, 128, 224) if side)
        text_too = {}
        if "input_ids" in names:
            text_too = {"input_ids": _words(text, batch, length, generator)}
        for side in sides:
            if frames:
                yield {main: normal(batch, frames, channels, side, side), **rest}
            yield {main: normal(batch, channels, side, side), **rest}
            if text_too:
                yield {main: normal(batch, channels, side, side), **text_too, **rest}
    elif main == "input_values":
        bins = getattr(config, "num_mel_bins", None)
        if bins:
            yield {main: normal(batch, getattr(config, "max_length", 128), bins), **rest}
        yield {main: normal(batch, 4000), **rest}
        yield {main: normal(batch, 1, 4000), **rest}
        yield {main: normal(batch, 64, bins or 80), **rest}
    elif main == "input_features":
        audio = getattr(config, "audio_config", None) or getattr(config, "encoder_config", config)
        names_of = (
            "num_mel_bins",
            "feature_size",
            "input_feat_per_channel",
            "feature_projection_input_dim",
            "input_dim",
        )
        bins = next((getattr(audio, n) for n in names_of if getattr(audio, n, None)), 80)
        positions = getattr(audio, "max_source_positions", 64)
        yield {main: normal(batch, bins, 2 * positions), **rest}
        for steps in (64, 2 * positions):
            yield {main: normal(batch, steps, bins), **rest}
            yield {main: normal(batch, bins, steps), **rest}
    elif "input_ids" in names:
        yield {"input_ids": _words(text, batch, length, generator), **rest}
        words = _words(text, batch, length, generator)
        boxes = torch.arange(4).expand(batch, length, 4) * 10
        for name in ("bbox", "boxes"):
            if name in names:
                yield {"input_ids": words, name: boxes.clone()}
        yield {"input_ids": _words(text, batch, 64, generator), **rest}
    if "hidden_states" in names:
        yield {"hidden_states": normal(batch, length, getattr(config, "hidden_size", 32))}


def _words(config: Any, batch: int, length: int, generator: torch.Generator) -> Tensor:
    size = min(getattr(config, "vocab_size", None) or VOCABULARY, 90)
    return torch.randint(min(5, size - 1), size, (batch, length), generator=generator)


_RESNET = {
    "model_type": "resnet",
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
}
_WITH_RESNET = {"use_timm_backbone": False, "backbone": None, "backbone_config": _RESNET}
_WITH_ONE_MAP = {**_WITH_RESNET, "backbone_config": {**_RESNET, "out_features": ["stage4"]}}
SPECIAL: dict[str, dict[str, Any]] = {
    "conditional_detr": _WITH_ONE_MAP,
    "dab-detr": _WITH_ONE_MAP,
    "deformable_detr": _WITH_RESNET,
    "detr": _WITH_ONE_MAP,
    "table-transformer": _WITH_ONE_MAP,
    "efficientnet": {
        "width_coefficient": 1.0,
        "depth_coefficient": 0.5,
        "hidden_dim": 128,
        "out_channels": [16, 24, 40, 80, 112, 192, 320],
    },
    "esm": {"vocab_size": 33, "pad_token_id": 1},
    "xmod": {"default_language": "en_XX"},
    "dpt": {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3]},
}
"""Values of single families that must fit each other."""
