"""Collectives of a `ds_ring` group that go through gloo. Imports torch, as `process_group` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from ds_nccl_ring.work import RingWork

if TYPE_CHECKING:
    from torch import Tensor

# Its stubs know neither all methods nor their newer names.
_ProcessGroup: Any = dist.ProcessGroup


class GlooCollectives(_ProcessGroup):  # type: ignore[misc]
    """Whatever has no form in two levels, as torch's process groups have it.

    Attributes:
        group: The `Group` whose gloo is used.
    """

    group: Any

    def broadcast(self, tensors: Any, opts: Any = None, timeout: Any = None) -> RingWork:
        tensors = listed(tensors)
        return self._flat(lambda gloo: gloo.broadcast(tensors, opts), tensors)

    def reduce(self, tensors: Any, opts: Any = None, **more: Any) -> RingWork:
        tensors = listed(tensors)
        return self._flat(lambda gloo: gloo.reduce(tensors, opts), tensors)

    def gather(self, outputs: Any, inputs: Any, opts: Any = None, **more: Any) -> RingWork:
        flat = [out for outs in outputs for out in outs]
        return self._flat(lambda gloo: gloo.gather(outputs, inputs, opts), flat)

    def scatter(self, outputs: Any, inputs: Any, opts: Any = None, **more: Any) -> RingWork:
        return self._flat(lambda gloo: gloo.scatter(outputs, inputs, opts), listed(outputs))

    def alltoall(self, outputs: Any, inputs: Any, opts: Any = None) -> RingWork:
        """Each rank sends to each; gloo has it for one tensor only."""
        sizes = [out.numel() for out in outputs]
        received = outputs[0].new_empty(sum(sizes))
        sent = torch.cat([one.reshape(-1) for one in inputs])

        @torch.inference_mode()
        def spread() -> None:
            for out, part in zip(outputs, received.split(sizes), strict=True):
                out.copy_(part.view(out.shape))

        counts = [one.numel() for one in inputs]
        future = self.group.run_flat(lambda gloo: gloo.alltoall_base(received, sent, sizes, counts))
        return RingWork([future], list(outputs), finish=spread)

    def all_to_all_single(
        self,
        output: Tensor,
        input: Tensor,
        output_split_sizes: Sequence[int],
        input_split_sizes: Sequence[int],
        opts: Any = None,
    ) -> RingWork:
        splits = list(output_split_sizes), list(input_split_sizes)
        return self._flat(
            lambda gloo: gloo.alltoall_base(output, input.contiguous(), *splits), [output]
        )

    alltoall_base = all_to_all_single

    def allgather_coalesced(self, outputs: Any, inputs: Any, opts: Any = None) -> RingWork:
        # A list for each rank, where `allgather` takes one for each tensor.
        futures = [
            self.allgather([[outs[i] for outs in outputs]], [one]) for i, one in enumerate(inputs)
        ]
        flat = [out for outs in outputs for out in outs]
        return RingWork([future for work in futures for future in work._futures], flat)

    def barrier(self, opts: Any = None, timeout: Any = None) -> RingWork:
        self.group.wait()  # what goes through gloo may overtake the rest
        return self._flat(lambda gloo: gloo.barrier(opts or dist.BarrierOptions()), [])

    # Between two ranks; not in line with the collectives, which may wait for it

    def send(self, tensors: list[Tensor], dst: int, tag: int = 0) -> Any:
        return self.group.flat.send(tensors, dst, tag)

    def recv(self, tensors: list[Tensor], src: int, tag: int = 0) -> Any:
        return self.group.flat.recv(tensors, src, tag)

    def recv_anysource(self, tensors: list[Tensor], tag: int = 0) -> Any:
        return self.group.flat.recv_anysource(tensors, tag)

    def _flat(self, call: Callable[[Any], Any], outputs: list[Tensor]) -> RingWork:
        return RingWork([self.group.run_flat(call)], outputs)


def listed(tensors: Any) -> list[Tensor]:
    """A tensor, or several, as a list."""
    return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
