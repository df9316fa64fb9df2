"""Which kernels multiply matrices: TunableOp tries rocBLAS's and hipBLASLt's and keeps the fastest.

Which kernel is taken may change how products round, not what weights hold. Tuning takes minutes on
large models, so it happens where it is asked for: on the shapes of one forward and backward.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds_core.components.layout import undisturbed

if TYPE_CHECKING:
    from torch.nn import Module

    from ds_core.components.backend import Backend


def tune_products(
    backend: Backend, model: Module, example_inputs: tuple[Any, ...], tunable: Any
) -> tuple[str, ...]:
    """Tune the matrix multiplies of one forward, and leave TunableOp on with what was found.

    A TunableOp that the user has switched on or off by PYTORCH_TUNABLEOP_ENABLED is left alone.

    Args:
        backend: Whose device the model is on.
        model: Run in eval mode; left as it is.
        example_inputs: Positional arguments of one forward, on the model's device.
        tunable: `torch.cuda.tunable`.

    Returns:
        One sentence; none where there was nothing to tune.

    Raises:
        Exception: Whatever the model raises on `example_inputs`; TunableOp is as it was.
    """
    import os

    import torch

    setting = os.environ.get("PYTORCH_TUNABLEOP_ENABLED")
    if setting is not None:
        return (f"Kernels stay as PYTORCH_TUNABLEOP_ENABLED={setting} has them.",)
    before, tuned_before = tunable.is_enabled(), tunable.tuning_is_enabled()
    known = len(tunable.get_results()) if before else 0
    keep = False
    try:
        tunable.enable(True)
        tunable.tuning_enable(True)
        with undisturbed(backend, model), torch.no_grad():
            model(*example_inputs)
            backend.synchronize()
        found = len(tunable.get_results()) - known
        keep = found > 0
    finally:
        tunable.tuning_enable(tuned_before and before)
        tunable.enable(before or keep)
    if not keep:
        return ()
    plural = "s" if found > 1 else ""
    return (
        f"TunableOp has chosen kernels for {found} matrix multiply shape{plural} of a forward; "
        f"others use the default. They are in {tunable.get_filename()} once the process ends.",
    )
