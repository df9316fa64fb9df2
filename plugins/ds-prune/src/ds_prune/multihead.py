"""torch's multi-head attention with fewer heads than its embedding has room for.

torch.nn.MultiheadAttention asserts that heads times their size are the embedding's size, so that it
cannot lose a head. A module becomes the class below in place: parameters, their names and hooks
stay.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ds_core.errors import RefusedError


class PrunedMultiheadAttention(nn.MultiheadAttention):
    """Computes what `torch.nn.MultiheadAttention` does, over any number of heads.

    `in_proj_weight` is `[3 * heads * head_dim, in]` (or `q_proj_weight`, `k_proj_weight` and
    `v_proj_weight` are `[heads * head_dim, in]`), `out_proj.weight` is `[out, heads * head_dim]`.
    Weights that are returned are of the heads that are left, or are averaged over these.
    """

    kept_heads: tuple[int, ...]
    """Which of the original heads are left."""
    dense_heads: int
    """How many heads there were."""

    @property
    def _qkv_same_embed_dim(self) -> bool:
        # What torch's fused transformer layer asks before it takes these weights as they were.
        return False

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """As torch's, whose arguments these are; nested tensors are not taken.

        A mask of three dimensions may be for all original heads, or for those that are left.
        """
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")
        batched = query.dim() == 3
        if not batched:
            query, key, value = (tensor.unsqueeze(0) for tensor in (query, key, value))
            if key_padding_mask is not None:
                key_padding_mask = key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            query, key, value = (tensor.transpose(0, 1) for tensor in (query, key, value))
        q, k, v = self._projected(query, key, value)
        by_hint = is_causal and key_padding_mask is None and not need_weights
        mask = None if by_hint else self._mask(attn_mask, key_padding_mask, q)
        dropped = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            logits = (q * math.sqrt(1.0 / q.shape[-1])) @ k.transpose(-2, -1)
            weights = functional.softmax(logits if mask is None else logits + mask, dim=-1)
            weights = functional.dropout(weights, dropped) if dropped else weights
            heads = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            heads = functional.scaled_dot_product_attention(
                q, k, v, mask, dropped, is_causal=by_hint
            )
        # The weight and not the module is used, as torch does: it calls no hooks of `out_proj`.
        output = functional.linear(
            heads.transpose(1, 2).flatten(2), self.out_proj.weight, self.out_proj.bias
        )
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output if self.batch_first else output.transpose(0, 1), weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values, each `[batch, heads, tokens, head_dim]`."""
        three: Any = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        if self.in_proj_weight is not None:
            three = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [
            functional.linear(tensor, weight, bias)
            .view(*tensor.shape[:2], -1, self.head_dim)
            .transpose(1, 2)
            for tensor, weight, bias in zip((query, key, value), three, biases, strict=True)
        ]

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, query: Tensor
    ) -> Tensor | None:
        """What is added to logits, in a shape that broadcasts to theirs."""
        mask = None
        if attn_mask is not None:
            mask = _added(attn_mask, query.dtype)
            if mask.dim() == 3:
                mask = mask.reshape(query.shape[0], -1, *mask.shape[1:])
                if mask.shape[1] == self.dense_heads != self.num_heads:
                    mask = mask[:, list(self.kept_heads)]
        if key_padding_mask is not None:
            padding = _added(key_padding_mask, query.dtype)[:, None, None, :]
            mask = padding if mask is None else mask + padding
        return mask


def prune_attention(module: nn.MultiheadAttention) -> None:
    """Make it a `PrunedMultiheadAttention`, which has all its heads still.

    Raises:
        RefusedError: It is of a subclass, or attends to more than its inputs.
    """
    if type(module) is not nn.MultiheadAttention:
        raise RefusedError(
            f"{type(module).__name__} may do more than torch.nn.MultiheadAttention, whose forward "
            "would be replaced."
        )
    if module.bias_k is not None or module.add_zero_attn:
        raise RefusedError("Attention with add_bias_kv or add_zero_attn cannot lose heads.")
    heads = module.num_heads
    module.__class__ = PrunedMultiheadAttention
    vars(module).update(kept_heads=tuple(range(heads)), dense_heads=heads)


def unprune_attention(module: nn.MultiheadAttention) -> None:
    """Take `prune_attention` back."""
    module.__class__ = nn.MultiheadAttention
    del vars(module)["kept_heads"], vars(module)["dense_heads"]


def _added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))
