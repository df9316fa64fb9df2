"""Data parallelism over all ranks alike, with torch's own reducer."""

from __future__ import annotations

import gc
import os
from typing import TYPE_CHECKING, Any

import pydantic

from ds_core.components import Options, Topology
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.nn import Module
    from torch.nn.parallel import DistributedDataParallel

    from ds_core.components import Backend
    from ds_core.hookspecs import Around
    from ds_core.session import Session


class Flat(Topology):
    """Averages gradients over the default process group while backward still runs.

    torch's DistributedDataParallel is made around the model, but only its reducer is used: the
    model stays the object that it was. Started by torchrun, the process group is made where the
    script has not; in a single process nothing is reduced.

    Li et al., PyTorch Distributed, VLDB 2020 (arXiv:2006.15704).
    """

    name = "flat"
    rank = 1

    class Config(Options):
        """What torch's reducer is told."""

        bucket_mb: float = pydantic.Field(default=25.0, gt=0)
        """MiB of gradients that travel together."""
        find_unused_parameters: bool = False
        """Look for parameters that a forward did not use; costs a walk over the graph."""
        sync_buffers: bool = True
        """Copy rank 0's buffers (BatchNorm's statistics) to all ranks before each forward."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._reducer: DistributedDataParallel | None = None

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Take over rank 0's parameters and buffers, and prepare to average gradients."""
        if self.ranks > 1:
            self._make_reducer(session)
            session.changes.on_undo(self._drop_reducer)

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """Tell the reducer that a forward begins, and which outputs it had."""
        if self._reducer is None:
            return None
        import torch

        # torch.compile breaks the graph here, outside the model itself.
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def begin(args: Any, kwargs: Any) -> Any:
            assert self._reducer is not None
            self._reducer.require_backward_grad_sync = session.synchronising
            return self._reducer._pre_forward(*args, **kwargs)  # type: ignore[no-untyped-call]

        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def end(output: Any) -> Any:
            assert self._reducer is not None
            return self._reducer._post_forward(output)  # type: ignore[no-untyped-call]

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not torch.is_grad_enabled():
                return call(*args, **kwargs)  # a rank may evaluate alone
            args, kwargs = begin(args, kwargs)
            return end(call(*args, **kwargs))

        return around

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Make a new reducer for the new parameters."""
        if self._reducer is not None:
            self._drop_reducer()
            self._make_reducer(session)

    def explain(self, backend: Backend) -> list[str]:
        library = backend.distributed_backend()
        ranks = os.environ.get("WORLD_SIZE")
        where = f"over {library} between {ranks} ranks" if ranks else "once torchrun starts ranks"
        return [f"averages gradients in buckets of {self.config.bucket_mb:g} MiB {where}"]

    def report(self) -> dict[str, Any]:
        if self._reducer is None:
            return {"ranks": 1, "note": "a single process: nothing to reduce"}
        import torch.distributed as dist

        return {"ranks": dist.get_world_size(), "backend": dist.get_backend()}

    def _make_reducer(self, session: Session) -> None:
        import inspect

        from torch.nn.parallel import DistributedDataParallel

        options: dict[str, Any] = {}
        if not self.config.sync_buffers:
            known = inspect.signature(DistributedDataParallel).parameters
            # torch 2.13 renamed it and deprecates the old name.
            new, old = "forward_sync_buffers", "broadcast_buffers"
            options[new if new in known else old] = False
        self._reducer = DistributedDataParallel(
            session.model,
            bucket_cap_mb=self.config.bucket_mb,
            find_unused_parameters=self.config.find_unused_parameters,
            **options,
        )

    def _drop_reducer(self) -> None:
        if self._reducer is not None:
            # Its hooks on the parameters live in C++ and go with it, or here at the latest.
            self._reducer._remove_autograd_hooks()  # type: ignore[no-untyped-call]
            self._reducer = None
            # It is in a cycle of references, and one that outlives its process group makes gloo
            # abort the interpreter at exit, now and then.
            gc.collect()
