"""Data parallelism with torch's own reducer, whatever carries the gradients."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

import pydantic

from ds_core.components.component import Options
from ds_core.components.topology import Topology
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch.distributed import ProcessGroup
    from torch.nn import Module
    from torch.nn.parallel import DistributedDataParallel

    from ds_core.hookspecs import Around
    from ds_core.session import Session


CommunicationHook = Any
"""`hook(bucket) -> Future[Tensor]`: given a `torch.distributed.GradBucket`, averages its buffer."""


class DataParallel(Topology):
    """Averages gradients in buckets while backward still runs.

    torch's DistributedDataParallel is made around the model, but only its reducer is used: the
    model stays the object that it was. Started by torchrun, the process group is made where the
    script has not; in a single process nothing is reduced.

    A subclass says over which group (`process_group`) and, where the group's own all-reduce is not
    what it wants, how a bucket travels (`communication_hook`).

    Li et al., PyTorch Distributed, VLDB 2020 (arXiv:2006.15704).
    """

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
        self.reducer: DistributedDataParallel | None = None
        self.group: ProcessGroup | None = None

    def process_group(self, session: Session) -> ProcessGroup | None:
        """Over which ranks gradients are averaged; None for the default process group.

        Asked for at attach, by all ranks. What is made here is destroyed through `session.changes`.
        """
        return None

    def communication_hook(self, session: Session) -> CommunicationHook | None:
        """How a bucket of gradients is averaged; None for an all-reduce of the process group."""
        return None

    def begin_forward(
        self, session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Tell the reducer that a forward begins whose gradients it will average."""
        assert self.reducer is not None
        self.reducer.require_backward_grad_sync = session.synchronising
        begun: Any = self.reducer._pre_forward(*args, **kwargs)  # type: ignore[no-untyped-call]
        return begun[0], begun[1]

    def end_forward(self, session: Session, output: Any) -> Any:
        """Tell the reducer which outputs the forward had."""
        assert self.reducer is not None
        return self.reducer._post_forward(output)  # type: ignore[no-untyped-call]

    def make_reducer(self, session: Session, *, sync_buffers: bool | None = None) -> None:
        """Take over the first rank's parameters and buffers, and average gradients from now on.

        Args:
            session: Whose model is meant.
            sync_buffers: In place of the option of that name.
        """
        import inspect

        from torch.nn.parallel import DistributedDataParallel

        options: dict[str, Any] = {}
        if not (self.config.sync_buffers if sync_buffers is None else sync_buffers):
            known = inspect.signature(DistributedDataParallel).parameters
            # torch 2.13 renamed it and deprecates the old name.
            new, old = "forward_sync_buffers", "broadcast_buffers"
            options[new if new in known else old] = False
        self.reducer = DistributedDataParallel(
            session.model,
            process_group=self.group,
            bucket_cap_mb=self.config.bucket_mb,
            find_unused_parameters=self.config.find_unused_parameters,
            **options,
        )
        hook = self.communication_hook(session)
        if hook is not None:
            self.reducer.register_comm_hook(None, lambda state, bucket: hook(bucket))

    def drop_reducer(self) -> None:
        """Average gradients no more."""
        if self.reducer is not None:
            # Its hooks on the parameters live in C++ and go with it, or here at the latest.
            self.reducer._remove_autograd_hooks()  # type: ignore[no-untyped-call]
            self.reducer = None
            # It is in a cycle of references, and one that outlives its process group makes gloo
            # abort the interpreter at exit, now and then.
            gc.collect()

    @hookimpl
    def ds_prepare_model(self, session: Session, model: Module) -> None:
        """Take over rank 0's parameters and buffers, and prepare to average gradients."""
        if self.ranks > 1:
            self.group = self.process_group(session)
            self.make_reducer(session)
            session.changes.on_undo(self._leave)

    @hookimpl
    def ds_around_forward(self, session: Session, model: Module) -> Around | None:
        """Tell the reducer that a forward begins, and which outputs it had."""
        if self.reducer is None:
            return None
        import torch

        # torch.compile breaks the graph here, outside the model itself.
        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def begin(args: Any, kwargs: Any) -> Any:
            return self.begin_forward(session, args, kwargs)

        @torch.compiler.disable  # type: ignore[untyped-decorator]
        def end(output: Any) -> Any:
            return self.end_forward(session, output)

        def around(call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if not torch.is_grad_enabled():
                return call(*args, **kwargs)  # a rank may evaluate alone
            args, kwargs = begin(args, kwargs)
            return end(call(*args, **kwargs))

        return around

    @hookimpl
    def ds_model_changed(self, session: Session, model: Module) -> None:
        """Make a new reducer for the new parameters."""
        if self.reducer is not None:
            self.drop_reducer()
            self.make_reducer(session)

    def _leave(self) -> None:
        self.drop_reducer()
        self.group = None
