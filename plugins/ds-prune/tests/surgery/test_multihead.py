"""Attention that can lose heads computes what torch's own does."""

import copy
import itertools
import pickle

import pytest
import torch
from cut_nets import blocks, encoder, half, net
from ds_prune.multihead import PrunedMultiheadAttention, prune_attention, unprune_attention
from ds_prune.surgery import remove
from torch import nn

from ds_core.errors import RefusedError

HEADS, SIZE, TOKENS, KEYS, BATCH = 4, 4, 5, 6, 3


def pair(**options):
    """torch's own, and the same as ours."""
    torch.manual_seed(0)
    own = nn.MultiheadAttention(HEADS * SIZE, HEADS, **options)
    for bias in (own.in_proj_bias, own.out_proj.bias):
        if bias is not None:
            nn.init.normal_(bias)
    ours = copy.deepcopy(own)
    prune_attention(ours)
    return own, ours


def assert_equal(got, expected):
    torch.testing.assert_close(got[0], expected[0], rtol=1e-5, atol=1e-6, equal_nan=True)
    assert (got[1] is None) == (expected[1] is None)
    if got[1] is not None:
        torch.testing.assert_close(got[1], expected[1], rtol=1e-5, atol=1e-6, equal_nan=True)


def masks(kind, causal_shape):
    length, keys = causal_shape
    forbidden = torch.ones(length, keys, dtype=torch.bool).triu(1)
    return {
        "none": None,
        "bool": forbidden,
        "float": torch.randn(length, keys).masked_fill(forbidden, float("-inf")),
        "each": torch.randn(BATCH * HEADS, length, keys),
    }[kind]


@pytest.mark.parametrize("mask", ["none", "bool", "float", "each"])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("cross", [True, False])
def test_all_options_of_masks_weights_and_layouts(cross, batch_first, mask):
    options = {"kdim": 7, "vdim": 9} if cross else {}
    own, ours = pair(batch_first=batch_first, **options)
    shape = (BATCH, TOKENS) if batch_first else (TOKENS, BATCH)
    query = torch.randn(*shape, HEADS * SIZE)
    key = value = query
    if cross:
        shape = (BATCH, KEYS) if batch_first else (KEYS, BATCH)
        key, value = torch.randn(*shape, 7), torch.randn(*shape, 9)
    keys = KEYS if cross else TOKENS
    padding = torch.zeros(BATCH, keys, dtype=torch.bool)
    padding[1, -2:] = True
    attn_mask = masks(mask, (TOKENS, keys))
    paddings = [None, padding if mask in ("none", "bool") else padding * -1e4]
    for need, average, pad in itertools.product((True, False), (True, False), paddings):
        given = {
            "need_weights": need, "average_attn_weights": average, "attn_mask": attn_mask,
            "key_padding_mask": pad,
        }  # fmt: skip
        assert_equal(ours(query, key, value, **given), own(query, key, value, **given))


@pytest.mark.parametrize("need_weights", [True, False])
@pytest.mark.parametrize("padded", [True, False])
def test_the_causal_hint(need_weights, padded):
    own, ours = pair(batch_first=True)
    x = torch.randn(BATCH, TOKENS, HEADS * SIZE)
    padding = None
    if padded:
        padding = torch.zeros(BATCH, TOKENS)
        padding[0, -1] = float("-inf")
    given = {
        "attn_mask": nn.Transformer.generate_square_subsequent_mask(TOKENS),
        "is_causal": True, "need_weights": need_weights, "key_padding_mask": padding,
    }  # fmt: skip
    assert_equal(ours(x, x, x, **given), own(x, x, x, **given))
    with pytest.raises(RuntimeError, match="Need attn_mask"):
        ours(x, x, x, is_causal=True)


@pytest.mark.parametrize("need_weights", [True, False])
def test_without_a_batch_and_without_biases(need_weights):
    own, ours = pair(bias=False)
    x = torch.randn(TOKENS, HEADS * SIZE)
    padding = torch.tensor([False] * (TOKENS - 1) + [True])
    given = {"need_weights": need_weights, "key_padding_mask": padding}
    assert_equal(ours(x, x, x, **given), own(x, x, x, **given))


@pytest.mark.parametrize("need_weights", [True, False])
def test_dropout_draws_the_same_numbers_and_gradients_agree(need_weights):
    own, ours = pair(dropout=0.4)
    x = torch.randn(TOKENS, BATCH, HEADS * SIZE)
    found = []
    for module in (own, ours):
        torch.manual_seed(5)
        output, _ = module(x, x, x, need_weights=need_weights)
        output.square().sum().backward()
        found.append((output, [parameter.grad for parameter in module.parameters()]))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_names_stay_and_everything_is_taken_back():
    own, ours = pair()
    assert list(ours.state_dict()) == list(own.state_dict())
    ours.load_state_dict(own.state_dict())
    unprune_attention(ours)
    assert type(ours) is nn.MultiheadAttention
    assert vars(ours).keys() == vars(own).keys()


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_attention_to_more_than_its_inputs_is_refused(options):
    module = nn.MultiheadAttention(8, 2, **options)
    with pytest.raises(RefusedError, match="cannot lose heads"):
        prune_attention(module)
    assert type(module) is nn.MultiheadAttention


def attention(**options):
    module = nn.MultiheadAttention(HEADS * SIZE, HEADS, batch_first=True, **options)
    index = blocks(HEADS, SIZE, 3)
    links = {
        "heads": [
            "head", ("in_proj_weight", 0, "produce", index), ("in_proj_bias", 0, "produce", index),
            ("out_proj.weight", 1, "consume", blocks(HEADS, SIZE)),
        ]
    }  # fmt: skip
    x = torch.randn(BATCH, TOKENS, HEADS * SIZE)
    return net(module, (x, x, x), links, need_weights=False)


def test_a_mask_for_each_of_the_original_heads_is_cut_as_well():
    one = attention()
    one.kwargs["attn_mask"] = torch.randn(BATCH * HEADS, TOKENS, TOKENS)
    kept = {"heads": torch.tensor([True, False, False, True]).numpy()}
    expected = one.reference(kept)[0]
    remove(one.model, one.structure, kept)
    assert one.model.kept_heads == (0, 3)
    torch.testing.assert_close(one.output()[0], expected)
    mask = one.kwargs["attn_mask"].view(BATCH, HEADS, TOKENS, TOKENS)[:, [0, 3]]
    one.kwargs["attn_mask"] = mask.flatten(0, 1)
    torch.testing.assert_close(one.output()[0], expected)


def test_heads_that_go_in_turn_are_counted_from_the_first():
    one = attention()
    remove(one.model, one.structure, {"heads": torch.tensor([True, False, True, True]).numpy()})
    index = blocks(3, SIZE, 3)
    links = {
        "heads": [
            ("in_proj_weight", 0, "produce", index), ("in_proj_bias", 0, "produce", index),
            ("out_proj.weight", 1, "consume", blocks(3, SIZE)),
        ]
    }  # fmt: skip
    again = net(one.model, one.args, links, need_weights=False)
    kept = {"heads": torch.tensor([True, True, False]).numpy()}
    expected = again.reference(kept)[0]
    remove(one.model, again.structure, kept)
    assert one.model.kept_heads == (0, 2)
    assert (one.model.num_heads, one.model.dense_heads) == (2, 4)
    torch.testing.assert_close(again.output()[0], expected)


@pytest.mark.parametrize("padded", [True, False])
def test_fused_layers_of_torch_are_not_taken(padded):
    one = encoder()
    kept = half(one.structure)
    padding = torch.zeros(2, 5, dtype=torch.bool)
    if padded:
        padding[0, -1] = True
        one.kwargs["src_key_padding_mask"] = padding
    expected = one.reference(kept)
    remove(one.model, one.structure, kept)
    assert type(one.model.layers[0].self_attn) is PrunedMultiheadAttention
    got = one.output()
    torch.testing.assert_close(got[~padding], expected[~padding], rtol=1e-4, atol=1e-5)


def test_it_can_be_copied_pickled_exported_and_trained():
    one = encoder()
    remove(one.model, one.structure, half(one.structure))
    expected = one.output()
    one.model.eval()
    for model in (copy.deepcopy(one.model), pickle.loads(pickle.dumps(one.model))):
        torch.testing.assert_close(model(*one.args), expected)
    exported = torch.export.export(one.model, one.args).module()
    torch.testing.assert_close(exported(*one.args), expected)
    one.model.train()(*one.args).sum().backward()
    attention = one.model.layers[0].self_attn
    assert attention.in_proj_weight.grad.shape == (3 * 2 * 4, 16)
