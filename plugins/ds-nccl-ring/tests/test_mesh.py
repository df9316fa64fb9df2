"""Meshes of hosts and ranks."""

import pytest
import torch.distributed as dist
from ds_nccl_ring.mesh import device_mesh
from ds_nccl_ring.placement import Host, Placement
from ds_nccl_ring.plan import TopologyPlan
from forked import job

from ds_core.errors import RefusedError


def plan(*hosts):
    named = (Host(name, ranks, "10.0.0.1") for name, ranks in zip("abc", hosts, strict=False))
    return TopologyPlan.of(Placement(tuple(named), "DS_NODE"))


def test_without_a_process_group_it_is_refused():
    with pytest.raises(RefusedError, match="needs the default process group"):
        device_mesh(plan((0, 1), (2, 3)))


def meshes():
    dist.init_process_group("gloo")
    mesh = device_mesh(plan((0, 2), (1, 3)))
    found = [mesh.mesh.tolist(), mesh.mesh_dim_names, mesh.get_local_rank("local")]
    for wrong in (plan((0,), (1, 2, 3)), plan((0, 1))):
        try:
            device_mesh(wrong)
        except RefusedError as error:
            found.append(error.what)
    return found


@pytest.mark.processes
def test_interleaved_hosts_are_rows_and_what_is_no_rectangle_is_refused():
    found = job((4,), meshes)
    assert [one[2] for one in found] == [0, 0, 1, 1]
    for mesh, names, _, uneven, other in found:
        assert mesh == [[0, 2], [1, 3]]
        assert names == ("host", "local")
        assert "a 1, b 3" in uneven
        assert "plan is of 2 ranks" in other
