"""16-bit matrix units on a CPU that has none: float16 and bfloat16 trained as accelerators do.

```python
import ds_core as ds
from ds_core.testing import emulated_16bit

with emulated_16bit() as backend:
    session = ds.attach(model, optimizer, backend=backend, precision="fp16")
    ...  # or plain torch.autocast("cpu", torch.float16) and torch.amp.GradScaler("cpu")
```

Within, torch multiplies float16 and bfloat16 CPU tensors as an accelerator's matrix units do: the
operands are the 16-bit values, products and sums are float32, and the result is rounded once, to
nearest even; float16 overflow gives inf, subnormals are kept. That holds for matrix and vector
products, convolutions of all kinds, fused attention and LSTM layers, forward and backward. All
else is torch's own: autocast, casts, elementwise kernels in 16 bit, `GradScaler`. It is for
questions of accuracy on a machine whose own 16-bit kernels are slow or missing: a float16 multiply
takes about as long as a float32 one. It says nothing about any device's speed.

What is not emulated:

* the order of a device's sums, and accumulators that are narrower than float32;
* what happens inside a fused operation: attention keeps its probabilities, and an LSTM layer what
  passes between its steps, in float32, where devices round some of it to 16 bit;
* fused layers of evaluation (`torch.nn.TransformerEncoderLayer` in 16 bit without gradients),
  sparse and quantized products: they run torch's own kernels;
* operations in other threads than the one that entered the context.

`torch.compile` runs models as they are, uncompiled, for as long as the context is entered.

`matrix_units` computes, `backend` is what a session is told.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from ds_core.testing.emulated_units.backend import Emulated16BitCpu
from ds_core.testing.emulated_units.matrix_units import MatrixUnits

__all__ = ["Emulated16BitCpu", "MatrixUnits", "emulated_16bit"]


@contextmanager
def emulated_16bit(dtypes: Sequence[str] = ("bf16", "fp16")) -> Iterator[Emulated16BitCpu]:
    """Within, 16-bit products of CPU tensors are computed as on an accelerator.

    Args:
        dtypes: Which of `bf16` and `fp16` the yielded backend calls fast. Both are emulated in any
            case, and the other one works.

    Yields:
        A backend for `ds_core.attach`. Its `products` counts what was emulated, by operator.
    """
    units = MatrixUnits()
    backend = Emulated16BitCpu(dtypes=tuple(dtypes))
    backend.products = units.products
    with units:
        yield backend
