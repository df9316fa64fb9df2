"""Inference that keeps what only a backward would need."""

from __future__ import annotations

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent
from ds_inspector.analysis.advice.finding import Finding

_LEAST = 0.1
"""Share of what a step's tensors have at most at once."""
_FEW = 3
"""Tensors that outputs alone may be."""


def find(facts: Facts) -> Finding | None:
    """No estimate: recording it has a cost of its own that differs from machine to machine."""
    if facts.has_backward:
        return None
    tensors = facts.recording.tensors
    rows = tensors.texts("kind").equal("activation") & (tensors.numbers("step") >= 0)
    count = rows.sum() / len(facts.lengths)
    if count <= _FEW:
        return None
    size = float(tensors.numbers("bytes")[rows].sum()) / len(facts.lengths)
    made = float(tensors.numbers("bytes")[tensors.numbers("step") >= 0].sum()) / len(facts.lengths)
    share = size / made if made else 0.0
    if share < _LEAST:
        return None
    largest = int(np.argmax(np.where(rows, tensors.numbers("bytes"), -1)))
    return Finding(
        id="grad-mode",
        title="Inference with gradients on",
        evidence=f"{count:.3g} tensors of {size / 2**20:.3g} MiB in a step, {percent(share)} of "
        "what it allocates, are kept for a backward that does not come.",
        remedy="Run it in torch.inference_mode(). What is saved in time is not estimated.",
        pass_="torch.inference_mode",
        module=tensors.texts("module")[largest],
        op=tensors.texts("op")[largest],
        source=tensors.texts("source")[largest],
    )
