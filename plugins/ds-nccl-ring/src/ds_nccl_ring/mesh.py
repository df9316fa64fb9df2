"""A device mesh whose two dimensions are hosts and the ranks in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds_core.errors import RefusedError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from ds_nccl_ring.plan import TopologyPlan


def device_mesh(plan: TopologyPlan, device_type: str = "cpu") -> DeviceMesh:
    """A mesh with the dimensions `host` and `local`, for FSDP2 inside hosts and DDP between them.

    Args:
        plan: Of the default process group.
        device_type: `cpu` or `cuda`.

    Raises:
        RefusedError: There is no default process group, the plan is of another one, or hosts have
            different numbers of ranks.
    """
    import torch
    import torch.distributed as dist
    from torch.distributed.device_mesh import DeviceMesh

    if not (dist.is_available() and dist.is_initialized()):
        raise RefusedError(
            "A device mesh needs the default process group.",
            mend="Call torch.distributed.init_process_group first.",
        )
    counts = {name: len(ranks) for name, ranks in plan.hosts}
    if sum(counts.values()) != dist.get_world_size():
        raise RefusedError(
            f"The plan is of {sum(counts.values())} ranks, the default process group has "
            f"{dist.get_world_size()}."
        )
    if len(set(counts.values())) > 1:
        said = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise RefusedError(
            f"A mesh of hosts needs equally many ranks on each; there are {said}.",
            mend="Start as many ranks on every host.",
        )
    ranks = torch.tensor([list(ranks) for _, ranks in plan.hosts])
    return DeviceMesh(device_type, ranks, mesh_dim_names=("host", "local"))
