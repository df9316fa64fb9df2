"""The topology `hier-ring`: gradients in two levels, inside hosts and between them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pydantic

from ds_core.components import DataParallel
from ds_core.components.component import Options
from ds_core.errors import RefusedError
from ds_core.hookspecs import GradientHook, hookimpl
from ds_nccl_ring.options import RingOptions
from ds_nccl_ring.plan import MIB, Wire
from ds_nccl_ring.words import WIRES, carrier_report

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import ProcessGroup
    from torch.nn import Module, Parameter

    from ds_core.components import Backend
    from ds_core.components.data_parallel import CommunicationHook
    from ds_core.session import Session
    from ds_nccl_ring.elastic import Elastic
    from ds_nccl_ring.process_group import RingProcessGroup
    from ds_nccl_ring.process_groups import ProcessGroupLegs
    from ds_nccl_ring.roster import Roster


class HierRing(DataParallel):
    """Averages gradients in two levels: inside hosts through memory, between them directly.

    Which ranks share a host is proved, and the faster of this and one flat ring is taken for each
    size, as timed in the job itself. On GPUs both levels go through torch's process groups.
    """

    name = "hier-ring"
    rank = 10

    class Config(DataParallel.Config):
        """What travels how."""

        wire: Wire = "float32"
        """Numbers between hosts: `bfloat16` and `int8` are lossy; what int8 loses is fed back."""
        chunk_mb: float = pydantic.Field(default=4.0, ge=0.0625)
        """MiB that go through memory and wire at a time."""
        calibrate: bool = True
        """Time the algorithms at the first large reduction, a second or two."""
        elastic: bool = False
        """Go on with the ranks that are left when others are lost; costs a copy of gradients."""
        timeout: float = pydantic.Field(default=1800.0, gt=0)
        """Seconds that a rank waits for another that lives."""

    def __init__(self, config: Options | None = None, **options: Any) -> None:
        super().__init__(config, **options)
        self._carrier: RingProcessGroup | ProcessGroupLegs | None = None
        self._elastic: Elastic | None = None
        self._roster: Roster | None = None
        self._library = ""  # behind the default process group
        self._session: Session | None = None
        self._committing = False  # a backward of which the end is awaited
        self._synchronising = True

    @hookimpl
    def ds_session_start(self, session: Session) -> None:
        """Refuse what elastic training cannot do.

        Raises:
            RefusedError: Options that do not go together.
        """
        if self.config.elastic and self.config.find_unused_parameters:
            raise RefusedError(
                "topology 'hier-ring' cannot look for unused parameters while it is elastic.",
                mend="Leave one of the options out.",
            )

    # Over whom, and how

    def process_group(self, session: Session) -> ProcessGroup | None:
        """A group of backend `ds_ring` on CPUs; the default one elsewhere, with others beside it.

        Raises:
            RefusedError: Elastic, or int8, on a device that is no CPU.
        """
        self._session = session
        if session.device.type != "cpu":
            if self.config.elastic:
                raise RefusedError(
                    f"topology 'hier-ring' is elastic on CPUs only, not on {session.device.type}.",
                    mend="Leave elastic=True out.",
                )
            self._carrier = self._legs(session)
            return None
        group = self._ring()
        self._carrier = group
        session.changes.on_undo(self._destroy)
        if self.config.elastic:
            self._make_elastic(session, group)
        return group

    def communication_hook(self, session: Session) -> CommunicationHook | None:
        """A bucket is averaged in two levels; what int8 took from it returns in the next step."""
        carrier, elastic = self._carrier, self._elastic
        assert carrier is not None
        if elastic is not None:
            return elastic.reduce_bucket

        def average(bucket: Any) -> Any:
            buffer = bucket.buffer()
            return carrier.reduce_tensor(buffer, "avg", key=(bucket.index(), buffer.numel()))

        return average

    @hookimpl
    def ds_all_reduce(self, session: Session, tensor: Tensor, op: str) -> bool | None:
        """Reduce over all ranks; over those who are left, where it is elastic."""
        if self._elastic is None:
            reduced: bool | None = super().ds_all_reduce(session, tensor, op)
            return reduced
        tensor.copy_(self._elastic.decide(tensor.clone, op))
        return True

    def _ring(self) -> RingProcessGroup:
        import torch.distributed as dist

        from ds_nccl_ring import BACKEND, register

        register()
        made: Any = dist.new_group(
            backend=BACKEND,
            pg_options=RingOptions(
                wire=self.config.wire,
                chunk_bytes=int(self.config.chunk_mb * MIB),
                calibrate=self.config.calibrate,
            ),
            timeout=timedelta(seconds=self.config.timeout),
        )
        group: RingProcessGroup = made
        return group

    def _legs(self, session: Session) -> ProcessGroupLegs:
        import torch.distributed as dist

        from ds_nccl_ring.placement import prove
        from ds_nccl_ring.process_groups import ProcessGroupLegs

        legs = ProcessGroupLegs(
            prove(_store(), dist.get_rank(), self.ranks, timeout=self.config.timeout),
            wire=self.config.wire,
            chunk_bytes=int(self.config.chunk_mb * MIB),
            device=session.device,
            calibrate=self.config.calibrate,
        )
        session.changes.on_undo(legs.close)
        return legs

    def _destroy(self) -> None:
        import torch.distributed as dist

        if self._roster is not None:
            self._roster.close()
        group: Any = self._carrier
        self._carrier = None
        self._elastic = self._roster = None
        if group is not None and dist.is_initialized():
            dist.destroy_process_group(group)

    # Elastic

    def make_reducer(self, session: Session, *, sync_buffers: bool | None = None) -> None:
        """As any topology's; where it is elastic, buffers are not left to torch."""
        super().make_reducer(session, sync_buffers=False if self._elastic else sync_buffers)

    def begin_forward(
        self, session: Session, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Before a forward with gradients; where it is elastic, whoever is lost meanwhile."""
        elastic = self._elastic
        if elastic is None:
            return super().begin_forward(session, args, kwargs)
        self._committing, self._synchronising = False, session.synchronising
        if self.config.sync_buffers:
            self._take_buffers(session.model, elastic)
        try:
            if self.reducer is None and not elastic.alone:
                self.make_reducer(session)
            if self.reducer is not None:
                return super().begin_forward(session, args, kwargs)
        except Exception as error:
            if not elastic.lost:
                raise
            elastic.recover(error)
        return args, kwargs

    def end_forward(self, session: Session, output: Any) -> Any:
        """After a forward with gradients."""
        return output if self.reducer is None else super().end_forward(session, output)

    @hookimpl
    def ds_parameter_gradient(
        self, session: Session, name: str, parameter: Parameter
    ) -> GradientHook | None:
        """Where it is elastic, have the end of backward wait for all ranks' agreement."""
        elastic = self._elastic
        if elastic is None:
            return None
        from torch.autograd import Variable

        engine = Variable._execution_engine

        def commit() -> None:
            self._committing = False
            elastic.commit()

        def see(gradient: Tensor) -> None:
            if self._synchronising and not self._committing:
                self._committing = True
                # Twice, to come after what the reducer has to do at the end of backward.
                engine.queue_callback(lambda: engine.queue_callback(commit))

        return see

    def _make_elastic(self, session: Session, group: RingProcessGroup) -> None:
        import torch.distributed as dist

        from ds_nccl_ring.elastic import Elastic
        from ds_nccl_ring.roster import Roster

        self._library = dist.get_backend()
        self._roster = Roster(_store(), dist.get_rank(), self.ranks, timeout=self.config.timeout)
        self._elastic = Elastic(
            self._roster,
            group,
            self._remake,
            lambda: [p for p in session.model.parameters() if p.requires_grad],
        )

    def _remake(self, store: Any, rank: int, size: int) -> RingProcessGroup:
        import torch.distributed as dist

        self.drop_reducer()
        if dist.is_initialized():  # not after an attempt in the course of which another was lost
            dist.destroy_process_group()
        dist.init_process_group(
            self._library,
            store=store,
            rank=rank,
            world_size=size,
            timeout=timedelta(seconds=self.config.timeout),
        )
        group = self._ring()
        self._carrier = self.group = group
        return group

    def _take_buffers(self, model: Module, elastic: Elastic) -> None:
        """The first rank's buffers, as a sum to which the others add nothing."""
        import torch

        buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        if not buffers:
            return
        sizes = [buffer.nbytes for buffer in buffers]

        def contribution() -> Tensor:
            if elastic.group.rank() != 0:
                return torch.zeros(sum(sizes), dtype=torch.uint8)
            return torch.cat([b.contiguous().view(-1).view(torch.uint8) for b in buffers])

        with torch.no_grad():
            split: Any = torch.split(elastic.decide(contribution, "sum"), sizes)
            for buffer, part in zip(buffers, split, strict=True):
                # A copy of its own: a part may begin where its dtype must not.
                buffer.copy_(part.clone().view(buffer.dtype).view(buffer.shape))

    # For readers

    def explain(self, backend: Backend) -> list[str]:
        cpu = backend.device_type == "cpu"
        inside = "through shared memory" if cpu else f"through {backend.distributed_backend()}"
        between = "by a direct exchange of shares" if cpu else "by all-reduces of shares"
        lines = [
            f"averages gradients in buckets of {self.config.bucket_mb:g} MiB: inside a host "
            f"{inside}, between hosts {between}, {WIRES[self.config.wire]}",
            "proves at attach which ranks share a host",
        ]
        if self.config.calibrate:
            lines.append(
                "takes one flat ring over all ranks wherever that is faster, timed at the first "
                "reduction of 64 KiB or more"
            )
        if self.config.elastic:
            lines.append("goes on with the ranks that are left when others are lost")
        return lines

    def report(self) -> dict[str, Any]:
        if self._carrier is None:
            return {"ranks": 1, "note": "a single process: nothing to reduce"}
        losses = self._elastic.losses if self._elastic is not None else []
        return carrier_report(self._carrier) | ({"losses": losses} if losses else {})


_stores = 0


def _store() -> Any:
    """A part of the default group's store that nobody used before."""
    from torch._C._distributed_c10d import PrefixStore
    from torch.distributed.distributed_c10d import _get_default_store

    global _stores
    _stores += 1
    return PrefixStore(f"ds-ring-{_stores}", _get_default_store())
