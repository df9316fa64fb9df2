"""Telling apart calls of the same operator, and finding them in another account of the step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ds_inspector.recording.table import Array, Texts


def shared_codes(first: Texts, second: Texts) -> tuple[Array, Array]:
    """Numbers for two columns of text, equal where the texts are."""
    number = {text: code for code, text in enumerate(dict.fromkeys(first.values))}
    for text in second.values:
        number.setdefault(text, len(number))
    codes = [
        np.array([number[text] for text in column.values] or [0], np.int64)[column.codes]
        for column in (first, second)
    ]
    return codes[0], codes[1]


def groups(keys: Sequence[Array]) -> Array:
    """Numbers from 0 that are equal where all keys are; all keys have one length."""
    group = np.zeros(len(keys[0]), np.int64)
    for key in keys:
        _, number = np.unique(key, return_inverse=True)
        group = group * (int(number.max(initial=0)) + 1) + number
        _, group = np.unique(group, return_inverse=True)
    return group


def ordinals(group: Array) -> Array:
    """Of each row, how many earlier ones are of its group."""
    order = np.argsort(group, kind="stable")
    ranked = group[order]
    begins = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(group)])
    lengths = np.diff(np.append(begins, len(group)))
    place = np.arange(len(group)) - np.repeat(begins, lengths)
    result = np.empty(len(group), np.int64)
    result[order] = place
    return result


def matched(first: Sequence[Array], second: Sequence[Array], *, cyclic: bool = False) -> Array:
    """Find each row of one account in another by keys and by how often the keys occurred before.

    Keys whose numbers of rows differ between the accounts are other calls, and match nothing.

    Args:
        first: Keys of rows, in order of time.
        second: The same keys of another account's rows, in order of time.
        cyclic: Take a whole multiple of the other's rows for repetitions of them.

    Returns:
        Rows of `second`, one for each of `first`, or -1.
    """
    rows = len(first[0])
    both = groups([np.concatenate(pair) for pair in zip(first, second, strict=True)])
    mine, other = both[:rows], both[rows:]
    kinds = int(both.max(initial=-1)) + 1
    counts, others = np.bincount(mine, minlength=kinds), np.bincount(other, minlength=kinds)
    same = counts == others
    if cyclic:
        same = (others > 0) & (counts % np.maximum(others, 1) == 0)
    begins = np.cumsum(others) - others
    place = ordinals(mine)
    if cyclic:
        place %= np.maximum(others, 1)[mine]
    sorted_rows = np.argsort(other, kind="stable")
    at = begins[mine] + place
    found = same[mine]
    result = np.full(rows, -1, np.int64)
    result[found] = sorted_rows[at[found]]
    return result
