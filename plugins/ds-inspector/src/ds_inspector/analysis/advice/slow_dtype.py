"""Matrix products in float32 on a machine that is faster in 16 bits."""

from __future__ import annotations

import re

import numpy as np

from ds_inspector.analysis.advice.facts import Facts, percent, spent
from ds_inspector.analysis.advice.finding import Finding

PRODUCT = re.compile(
    r"(aten::)?_?((mkldnn|cudnn|miopen|thnn)_)?(mm|addmm|bmm|baddbmm|linear|matmul|conv\w*"
    r"|scaled_dot_product\w*)|Conv|Gemm|MatMul"
)
"""Names of operators that multiply matrices."""
_FAST = 1.2
"""Times float32's rate from which another dtype is called faster."""
_LEAST = 0.05
"""Share of a step that must be saved."""


def find(facts: Facts) -> Finding | None:
    """Estimated from the rates of both dtypes, as measured when it was recorded."""
    rates = {name: facts.peaks.get(name, 0.0) for name in ("float32", "bfloat16", "float16")}
    best = max(("bfloat16", "float16"), key=lambda name: rates[name])
    if not rates["float32"] or rates[best] < _FAST * rates["float32"]:
        return None
    if rates["bfloat16"] >= 0.8 * rates[best]:
        best = "bfloat16"  # it needs no scaling of the loss
    names = facts.recording.events.texts("name")
    product = np.array([bool(PRODUCT.fullmatch(name)) for name in names.values])[names.codes]
    rows = product & facts.operator & facts.is_("dtype", "float32", "float")
    ratio = rates[best] / rates["float32"]
    gain = facts.share(rows) * (1 - 1 / ratio)
    if gain < _LEAST:
        return None
    short = {"bfloat16": "bf16", "float16": "fp16"}[best]
    how = (
        "attach precision dmp, which lets each layer find its dtype, or " + short
        if facts.has_backward
        else f"run it under torch.autocast, or convert it once with model.to(torch.{best})"
    )
    return Finding(
        id="slow-dtype",
        title=f"Float32 where {best} is faster",
        evidence=f"Matrix products in float32 take {percent(facts.share(rows))} of a step "
        f"({spent(facts.seconds(rows))}); this machine multiplied {ratio:.2g} times as fast in "
        f"{best}.",
        remedy=f"{how[0].upper()}{how[1:]}. The estimate is that they gain as much as a large "
        "product does.",
        seconds=facts.seconds(rows),
        estimate=gain,
        pass_="dmp" if facts.has_backward else "torch.autocast",
        **facts.place(rows),
    )
