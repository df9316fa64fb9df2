"""Topologies decide how gradients travel between ranks."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, ClassVar

from ds_core.components.component import Component
from ds_core.errors import RefusedError
from ds_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from ds_core.session import Session

_groups = itertools.count()


class Topology(Component):
    """Averages gradients over the ranks of a torch.distributed process group.

    Joining the default group and reducing decisions over it is done here; how gradients travel is
    the subclass's. One that reduces in `ds_before_step` comes after the user's clipping, which then
    sees each rank's own gradients; one that reduces while backward runs comes before it. Processes
    are started by torchrun, never by a component.
    """

    kind: ClassVar[str] = "topology"

    @property
    def ranks(self) -> int:
        """How many ranks there are; 1 where there is no process group."""
        import torch.distributed as dist

        return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

    @hookimpl
    def ds_join(self, session: Session) -> None:
        """Make the default process group where torchrun started ranks and the script has not.

        In a single process that no launcher started, there is nothing to join. A group made here is
        destroyed at detach.

        Raises:
            RefusedError: This torch was built without torch.distributed.
        """
        import torch.distributed as dist

        if not dist.is_available():
            raise RefusedError(
                f"topology {self.name!r}: this torch was built without torch.distributed."
            )
        if dist.is_initialized() or "WORLD_SIZE" not in os.environ or "RANK" not in os.environ:
            return
        from torch._C._distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        store, rank, ranks = next(rendezvous("env://"))
        # A prefix of its own: the addresses of an earlier group are still in torchrun's store.
        store = PrefixStore(f"ds-{next(_groups)}", store)
        library = session.backend.distributed_backend()
        dist.init_process_group(library, store=store, rank=rank, world_size=ranks)
        session.changes.on_undo(dist.destroy_process_group)

    @hookimpl
    def ds_all_reduce(self, session: Session, tensor: Tensor, op: str) -> bool | None:
        """Reduce over the default process group, so that components decide alike on all ranks."""
        if self.ranks == 1:
            return None
        import torch.distributed as dist

        dist.all_reduce(tensor, getattr(dist.ReduceOp, op.upper()))
        return True
