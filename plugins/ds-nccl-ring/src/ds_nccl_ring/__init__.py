"""Gradients between hosts and inside them: topology `hier-ring` and torch's backend `ds_ring`."""

from __future__ import annotations

from typing import Any

BACKEND = "ds_ring"
"""What `torch.distributed.init_process_group` is told."""


def register() -> None:
    """Make `ds_ring` known to torch.distributed; torch calls it at the end of its own import."""
    try:
        import torch.distributed as dist

        if dist.is_available() and BACKEND not in dist.Backend.backend_list:
            dist.Backend.register_backend(BACKEND, _make, extended_api=True, devices=["cpu"])
    except Exception as error:  # whatever is wrong here must not keep torch from being imported
        import warnings

        warnings.warn(f"backend {BACKEND!r} is not available: {error}", stacklevel=2)


def _make(parts: Any, options: Any) -> Any:
    from ds_nccl_ring.process_group import make

    return make(parts, options)
