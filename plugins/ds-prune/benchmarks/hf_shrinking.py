"""Small configurations of transformers' architectures, made from their defaults."""

from __future__ import annotations

import re
from typing import Any

WIDTH, HEADS, LAYERS, VOCABULARY, SIDE = 32, 4, 2, 128, 64

_WIDTH_NAMES = ("hidden_size", "d_model", "n_embd", "embed_dim", "hidden_dim", "dim", "n_embed")
_WIDE = re.compile(
    r"(hidden_size|d_model|n_embd|n_embed|embed_dim|hidden_dim|intermediate_size|ffn_dim|d_ff|"
    r"n_inner|inner_dim|ffn_hidden_size|_dim|_width|_size_per_head|embedding_size|out_features|"
    r"^dim|feedforward|_hidden|_channels|lru_width|d_inner|conv_dim|hidden_sizes|embed_dims|"
    r"attention_hidden_size|block_channels|upsample_groups)$"
)
_NOT_WIDE = re.compile(
    r"(num_channels|in_channels|in_chans|patch|kernel|rotary|rope|state|head_dim|_ndim|feat_|"
    r"num_mel|input_feat|latent|tokens|position|factor|max_|min_|logit|cross_attention_dim$)"
)
_AT_MOST = {"patch_size": 8, "window_size": 2, "rotary_dim": 8}
_STAGES = ("stage_names", "out_features", "out_indices", "_out_features", "_out_indices")
_LAYERS = re.compile(
    r"((?<!extract_)(?<!adapter_)layers|^n_layer|_layer_num|num_blocks|^depth|_depth)$"
)
_HEADS = re.compile(r"(^|_)(heads|head|n_head|attention_heads)$")
_KEY_HEADS = re.compile(r"(kv_heads|key_value_heads|kv_n_heads|num_head_kv|multi_query_group_num)$")
_HEAD_WIDTH = re.compile(r"(head_dim|d_kv|attention_head_size|kv_channels|head_size|d_head)$")
_RANK = re.compile(r"lora_rank")
_EXPERTS = re.compile(
    r"(num_experts|local_experts|routed_experts|moe_num_experts|num_moe_experts)$"
)
_CHOSEN = re.compile(r"(experts_per_tok|top_k|topk|moe_topk|num_selected_experts|top_k_experts)$")
_GROUPS = re.compile(r"^(n_group|topk_group|num_expert_group|expert_groups)$")
_SIDES = re.compile(r"^(image_size|img_size|input_size)$")
_POSITIONS = re.compile(
    r"(max_position_embeddings|n_positions|_positions|max_seq_len|max_sequence_length|n_ctx|"
    r"max_length|max_seq_length|block_size_max)$"
)
_IDS = re.compile(r"(_token_id|_token_index|_id|_ids)$")


def shrunk(values: dict[str, Any], *, widths: bool = True) -> dict[str, Any]:
    """A configuration's values, smaller by the names that they have.

    Args:
        values: `config.to_dict()`.
        widths: Whether layers become narrower as well as fewer.
    """
    taps = len(values.get("out_indices") or ())
    layers = max(_kinds(values), taps)
    factor = _factor(values) if widths else 1.0
    ids = iter(range(VOCABULARY - 1, 3, -1))
    small = {
        name: _one(name, value, factor, layers, values, widths, ids)
        for name, value in values.items()
        if name not in _STAGES
    }
    if taps > 1:
        small["out_indices"] = list(range(1, 1 + taps))
    return small


def _factor(values: dict[str, Any]) -> float:
    if any(name.endswith("heads") and isinstance(one, list) for name, one in values.items()):
        return 0.5  # each stage has its own number, which divides its width
    for name in _WIDTH_NAMES:
        width = values.get(name)
        if isinstance(width, int) and not isinstance(width, bool):
            return min(WIDTH / width, 1.0) if width else 1.0
    lists = [values[name] for name in ("hidden_sizes", "embed_dims") if values.get(name)]
    return min(16 / min(lists[0]), 1.0) if lists and isinstance(lists[0], list | tuple) else 0.25


def _kinds(values: dict[str, Any]) -> int:
    """Layers that it takes to have one of each kind."""
    kinds = values.get("layer_types") or values.get("layers_block_type") or []
    return max(LAYERS, len(set(map(str, kinds))))


def _one(
    name: str,
    value: Any,
    factor: float,
    layers: int,
    values: dict[str, Any],
    widths: bool,
    ids: Any,
) -> Any:
    if isinstance(value, dict):
        return shrunk(value, widths=widths) if name.endswith("_config") else value
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, list | tuple):
        return _several(name, value, factor, layers, widths)
    if not isinstance(value, int):
        return value
    if _IDS.search(name):
        return next(ids) if value >= VOCABULARY else value
    if name.endswith("vocab_size") or name in ("vocab_size_per_layer_input", "n_vocab"):
        return min(value, VOCABULARY)
    if _LAYERS.search(name) and value > layers:
        return layers
    if _SIDES.search(name):
        return min(value, SIDE)
    if name in _AT_MOST:
        return min(value, _AT_MOST[name])
    if _POSITIONS.search(name):
        return min(value, VOCABULARY)
    if _EXPERTS.search(name):
        return min(value, 4)
    if _CHOSEN.search(name):
        return min(value, 2)
    if _GROUPS.search(name):
        return 1
    if not widths:
        return value
    if _KEY_HEADS.search(name):
        return value if value <= 2 else HEADS if value == _heads(values) else 2
    if _HEADS.search(name):
        return min(value, HEADS)
    if _HEAD_WIDTH.search(name):
        return min(value, WIDTH // HEADS)
    if _RANK.search(name):
        return min(value, 16)
    if _WIDE.search(name) and not _NOT_WIDE.search(name):
        return _narrow(value, factor)
    return value


def _heads(values: dict[str, Any]) -> int | None:
    return values.get("num_attention_heads") or values.get("n_heads") or values.get("n_head")


def _several(name: str, value: Any, factor: float, layers: int, widths: bool) -> Any:
    if _SIDES.search(name):
        return [min(one, SIDE) for one in value]
    if name in ("layer_types", "layers_block_type", "mlp_layer_types"):
        first = list(dict.fromkeys(value))
        return [*first, *value[len(first) :]][:layers] if len(first) < layers else first[:layers]
    if name == "depths" or name.endswith("_depths"):
        return [min(one, 1) for one in value]
    integers = all(isinstance(one, int) and not isinstance(one, bool) for one in value)
    if widths and value and integers and _WIDE.search(name) and not _NOT_WIDE.search(name):
        return [_narrow(one, factor) for one in value]
    return value


def _narrow(value: int, factor: float) -> int:
    """The width, a multiple of 8."""
    return value if value < 8 else max(8, round(value * factor / 8) * 8)
