"""Sums of products: linear layers, matrix products, einsum, attention, embeddings."""

from __future__ import annotations

import string

from ds_prune.analysis.call import Call
from ds_prune.analysis.flow import Flow
from ds_prune.analysis.records import Product
from ds_prune.analysis.rules.registry import rule
from ds_prune.analysis.value import Value, free

_ROW = 16
"""Bytes of which a row of a grouped product is a multiple."""


def _added(flow: Flow, call: Call, result: Value, bias: Value | None) -> Value:
    """`result` plus a bias along its last dimensions, which makes channels as the weight does."""
    if bias is None:
        return result
    for dim in range(bias.rank):
        flow.play(bias, dim, "produce")
    return flow.elementwise([result, bias], result.shape)


@rule("linear")
def linear(flow: Flow, call: Call) -> Value:
    """Input [..., i], weight [o, i], bias [o]."""
    value, weight = call.value("input"), call.value("weight")
    lead = string.ascii_lowercase[: value.rank - 1]
    out = flow.contract(call, [(value, lead + "I"), (weight, "OI")], lead + "O", weight)
    return _added(flow, call, out, call["bias"])


@rule("bmm", "dot", "linalg_matmul", "matmul", "mm", "mv")
def matmul(flow: Flow, call: Call) -> Value:
    """Matrix products, broadcast over leading dimensions."""
    return _product(flow, call, *call.values[:2])


@rule("inner")
def inner(flow: Flow, call: Call) -> Value:
    """Two tensors [..., i], every row of one with every row of the other."""
    first, second = call.values
    left = string.ascii_lowercase[: first.rank - 1]
    right = string.ascii_lowercase[len(left) : len(left) + second.rank - 1]
    return flow.contract(call, [(first, left + "I"), (second, right + "I")], left + right)


@rule("addmm", "baddbmm", "addbmm", "addmv")
def addmm(flow: Flow, call: Call) -> Value:
    """A matrix product plus something."""
    added, first, second = call.values[:3]
    return _added(flow, call, _product(flow, call, first, second), added)


def _product(flow: Flow, call: Call, first: Value, second: Value) -> Value:
    letters = string.ascii_lowercase
    lead = letters[: max(first.rank, second.rank, 2) - 2]
    left = "I" if first.rank == 1 else lead[len(lead) - first.rank + 2 :] + "LI"
    right = "I" if second.rank == 1 else lead[len(lead) - second.rank + 2 :] + "IR"
    out = lead + ("L" if first.rank > 1 else "") + ("R" if second.rank > 1 else "")
    return flow.contract(call, [(first, left), (second, right)], out)


@rule("einsum")
def einsum(flow: Flow, call: Call) -> Value:
    """Any sum of products; a letter that occurs twice in one operand is not followed."""
    equation, operands = str(call["equation"]).replace(" ", ""), call["tensors"]
    inputs, _, out = equation.partition("->")
    terms = inputs.split(",")
    spare = [letter for letter in string.ascii_letters if letter not in equation]
    widest = max(
        (value.rank - len(term.replace("...", "")))
        for term, value in zip(terms, operands, strict=True)
    )
    ellipsis = "".join(spare[: max(widest, 0)])
    written = []
    for term, value in zip(terms, operands, strict=True):
        count = value.rank - len(term.replace("...", ""))
        written.append(term.replace("...", ellipsis[len(ellipsis) - count :] if count else ""))
    if "->" not in equation:
        seen = "".join(inputs).replace(",", "").replace(".", "")
        out = ("..." if "..." in inputs else "") + "".join(
            sorted(letter for letter in set(seen) if seen.count(letter) == 1)
        )
    out = out.replace("...", ellipsis)
    if any(len(set(term)) < len(term) for term in written):
        flow.freeze_all(operands, "einsum takes a diagonal of it")
        return free(call.shape)
    return flow.contract(call, list(zip(operands, written, strict=True)), out)


@rule("bilinear")
def bilinear(flow: Flow, call: Call) -> Value:
    """Two inputs [..., i] and [..., j], weight [o, i, j]."""
    first, second, weight = call["input1"], call["input2"], call["weight"]
    lead = string.ascii_lowercase[: first.rank - 1]
    operands = [(first, lead + "I"), (second, lead + "J"), (weight, "OIJ")]
    return _added(flow, call, flow.contract(call, operands, lead + "O", weight), call["bias"])


@rule("embedding")
def embedding(flow: Flow, call: Call) -> Value:
    """Weight [number, channels], looked up by row."""
    weight, indices = call["weight"], call["indices"]
    flow.freeze(weight, [0], "its rows are looked up by number")
    flow.freeze_all([indices], "it holds numbers of rows")
    flow.play(weight, 1, "produce")
    found = free((*indices.shape, weight.shape[1]))
    return Value(found.shape, (*found.labels[:-1], weight.labels[1]))


@rule("_grouped_mm", "transformers::grouped_mm_fallback")
def experts(flow: Flow, call: Call) -> Value:
    """Input [tokens, i], sorted by expert, weight [experts, i, o].

    torch's own takes rows of multiples of 16 bytes only.
    """
    value, weight = call.values[:2]
    if value.rank != 2 or weight.rank != 3:
        raise ValueError("experts' tokens are not in one row")
    flow.freeze(weight, [0], "experts are chosen by number")
    flow.freeze_all(call.values[2:], "it counts tokens")
    flow.meet([(value, 1), (weight, 1)], "sums over")
    flow.read(call, weight, 1)
    flow.play(weight, 2, "produce")
    for labels in weight.labels[1:]:
        flow.align(labels, max(1, _ROW // call.node.meta["val"].element_size()))
    over = [labels for labels in weight.labels[1:] if labels is not None]
    flow.products.append(Product(call.layer, call.name, value.shape[0], tuple(over)))
    return Value(call.shape, (value.labels[0], weight.labels[2]))


@rule("scaled_dot_product_attention")
def attention(flow: Flow, call: Call) -> Value:
    """Query [..., h, l, e], key [..., h, s, e], value [..., h, s, v]; see torch's function."""
    query, key, value, mask = call["query"], call["key"], call["value"], call.get("attn_mask")
    for one in (query, key):
        flow.freeze(one, [one.rank - 1], "attention is scaled by its size")
    if call.get("enable_gqa") and key.rank > 2 and key.shape[-3] != query.shape[-3]:
        query = _grouped(flow, query, key.shape[-3])
        key, value = (_unsqueezed(one) for one in (key, value))
        mask = None if mask is None else _mask(flow, mask, query, key.shape[-4])
    lead = string.ascii_lowercase[: query.rank - 2]
    before = len(flow.products)
    weights = flow.contract(call, [(query, lead + "LE"), (key, lead + "SE")], lead + "LS")
    if mask is not None:
        weights = flow.elementwise([weights, mask], weights.shape)
    flow.freeze(weights, [weights.rank - 1], "softmax is taken over it")
    out = flow.contract(call, [(weights, lead + "LS"), (value, lead + "SV")], lead + "LV")
    for place in range(before, len(flow.products)):
        one = flow.products[place]
        flow.products[place] = Product(one.layer, call.name, one.repeats, one.over)
    if out.rank == len(call.shape):
        return out
    heads = flow.merge(out.labels[-4:-2], out.shape[-4:-2])
    return Value(call.shape, (*out.labels[:-4], heads, *out.labels[-2:]))


def _grouped(flow: Flow, query: Value, heads: int) -> Value:
    """Queries as [..., heads of keys, queries for each, length, e]."""
    ratio = query.shape[-3] // heads
    axes = flow.split(query.labels[-3], (heads, ratio))
    if axes[1] is not None:
        flow.classes.freeze(axes[1], "several heads of queries share one of keys")
    return Value(
        (*query.shape[:-3], heads, ratio, *query.shape[-2:]),
        (*query.labels[:-3], *axes, *query.labels[-2:]),
    )


def _unsqueezed(value: Value) -> Value:
    dims = [*range(value.rank - 2), None, value.rank - 2, value.rank - 1]
    return value.pick(dims, (*value.shape[:-2], 1, *value.shape[-2:]))


def _mask(flow: Flow, mask: Value, query: Value, heads: int) -> Value:
    if mask.rank < 3:
        return mask
    if mask.shape[-3] == 1:
        return _unsqueezed(mask)
    return _grouped(flow, mask, heads)
