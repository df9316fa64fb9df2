"""Columns of text put together and taken apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ds_inspector.recording.table import Array, Texts


def blank(rows: int) -> Texts:
    """A column of unnamed texts."""
    return Texts(np.zeros(rows, "<u4"), [""])


def joined(columns: Sequence[Texts]) -> Texts:
    """One column after the other."""
    number: dict[str, int] = {}
    codes = []
    for column in columns:
        places = [number.setdefault(text, len(number)) for text in column.values]
        codes.append(np.array(places or [0], "<u4")[column.codes])
    return Texts(np.concatenate([np.zeros(0, "<u4"), *codes]), list(number))


def taken(texts: Texts, rows: Array) -> Texts:
    """The texts of rows by number; unnamed where it is -1."""
    codes = np.where(rows >= 0, texts.codes[rows] + 1, 0)
    return Texts(codes, ["", *texts.values])


def starting(texts: Texts, prefix: str) -> Array:
    """Which rows begin so."""
    matches = np.array([text.startswith(prefix) for text in texts.values] or [False], bool)
    result: Array = matches[texts.codes]
    return result


def among(texts: Texts, wanted: set[str]) -> Array:
    """Which rows are one of these."""
    matches = np.array([text in wanted for text in texts.values] or [False], bool)
    result: Array = matches[texts.codes]
    return result
