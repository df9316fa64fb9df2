"""Backend `ds_ring` under torch's own collectives, wrappers and meshes, in real processes."""

import os
import re
import signal

import pytest
import torch
import torch.distributed as dist
from ds_nccl_ring.mesh import device_mesh
from ds_nccl_ring.plan import MIB
from forked import Job, job
from torch import nn
from torch.distributed import _functional_collectives as functional
from torch.distributed.algorithms.join import Join
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from trainings import net, train_wrapped

pytestmark = pytest.mark.processes

SIZES = (5, 1 << 16)  # through gloo, and in two levels


def gradient_bytes():
    return sum(p.nbytes for p in net().parameters())


# Collectives


def all_collectives():
    dist.init_process_group("ds_ring")
    rank, n = dist.get_rank(), dist.get_world_size()
    ranks = torch.arange(n).float()

    def mine(size):
        return torch.full((size,), float(rank))

    for size in SIZES:
        for op, expected in (
            (dist.ReduceOp.SUM, n * (n - 1) / 2),
            (dist.ReduceOp.AVG, (n - 1) / 2),
            (dist.ReduceOp.MAX, n - 1),
            (dist.ReduceOp.MIN, 0),
        ):
            x = mine(size)
            dist.all_reduce(x, op)
            assert (x == expected).all()
        out = torch.empty(n, size)
        dist.all_gather_into_tensor(out, mine(size))
        assert (out == ranks[:, None]).all()
        outs = [torch.empty(size) for _ in range(n)]
        dist.all_gather(outs, mine(size))
        assert all((out == i).all() for i, out in enumerate(outs))
        for op, expected in ((dist.ReduceOp.SUM, rank * n), (dist.ReduceOp.AVG, rank)):
            out = torch.empty(size)
            dist.reduce_scatter_tensor(out, ranks.repeat_interleave(size), op)
            assert (out == expected).all()
        out = torch.empty(size)
        dist.reduce_scatter(out, [torch.full((size,), float(i)) for i in range(n)])
        assert (out == rank * n).all()
        x = mine(size)
        dist.broadcast(x, 1)
        assert (x == 1).all()
        x = mine(size)
        dist.reduce(x, 0)
        assert rank or (x == n * (n - 1) / 2).all()
        out = torch.empty(n * size)
        dist.all_to_all_single(out, ranks.repeat_interleave(size))
        assert (out == rank).all()
        outs = [torch.empty(size) for _ in range(n)]
        dist.all_to_all(outs, [torch.full((size,), rank * 10.0 + i) for i in range(n)])
        assert all((out == i * 10 + rank).all() for i, out in enumerate(outs))
        outs = [torch.empty(size) for _ in range(n)] if rank == 0 else None
        dist.gather(mine(size), outs)
        assert rank or all((out == i).all() for i, out in enumerate(outs))
        out = torch.empty(size)
        dist.scatter(out, [torch.full((size,), float(i)) for i in range(n)] if rank == 0 else None)
        assert (out == rank).all()
        gathered = functional.all_gather_tensor(mine(size), 0, dist.group.WORLD) + 0
        assert (gathered.view(n, size) == ranks[:, None]).all()
        scattered = functional.reduce_scatter_tensor(
            torch.ones(n * size), "sum", 0, dist.group.WORLD
        )
        assert (scattered + 0 == n).all()
        assert (functional.all_reduce(torch.ones(size), "sum", dist.group.WORLD) + 0 == n).all()
    flags = torch.tensor([rank == 0, True])
    dist.all_reduce(flags, dist.ReduceOp.BAND)
    assert flags.tolist() == [n == 1, True]
    things = [None] * n
    dist.all_gather_object(things, {"rank": rank})
    assert [thing["rank"] for thing in things] == list(range(n))
    for size in SIZES:
        if rank == 0:
            dist.send(torch.full((size,), 7.0), 1)
        if rank == 1:
            x = torch.empty(size)
            dist.recv(x, 0)
            assert (x == 7).all()
    with dist._coalescing_manager(async_ops=True) as together:
        xs = [torch.ones(size) for size in SIZES]
        for x in xs:
            dist.all_reduce(x)
    together.wait()
    assert all((x == n).all() for x in xs)
    return dist.get_backend(), dist.group.WORLD.bytes_sent


@pytest.mark.parametrize("hosts", [(2, 2), (1, 2), (3,)], ids=str)
def test_every_collective(hosts):
    found = job(hosts, all_collectives)
    assert {backend for backend, _ in found} == {"ds_ring"}
    assert all(sum(sent.values()) > 0 for _, sent in found[:1]) == (len(hosts) > 1)


def pending():
    dist.init_process_group("ds_ring")
    rank, n = dist.get_rank(), dist.get_world_size()
    xs = [torch.full((1 << 20,), float(i)) for i in range(8)]
    works = [dist.all_reduce(x, async_op=True) for x in xs]
    dist.all_reduce(torch.ones(5))  # which overtakes them
    dist.barrier()
    done = all(work.is_completed() for work in works)
    values = [work.get_future().wait()[0] for work in works]
    assert all(value is x or torch.equal(value, x) for value, x in zip(values, xs, strict=True))
    assert all((x == i * n).all() for i, x in enumerate(xs))
    assert all(work.is_success() and work.exception() is None for work in works)
    empty = torch.empty(0)
    dist.all_reduce(empty)
    pair = dist.new_group([0, 1])
    if rank < 2:
        x = torch.ones(1 << 16)
        dist.all_reduce(x, group=pair)
        assert (x == 2).all()
    return done, dist.get_backend(pair) if rank < 2 else "ds_ring"


def test_work_may_wait_and_barriers_come_after_it():
    assert job((2, 1), pending) == [(True, "ds_ring")] * 3


def in_inference_mode():
    dist.init_process_group("ds_ring")
    rank, n = dist.get_rank(), dist.get_world_size()
    with torch.inference_mode():
        mine = torch.full((1 << 16,), float(rank))
        gathered = [torch.empty(1 << 16) for _ in range(n)]
        received = [torch.empty(5) for _ in range(n)]
        sent = [torch.full((5,), float(i)) for i in range(n)]
    dist.all_gather(gathered, mine)
    dist.all_to_all(received, sent)
    dist.all_reduce(mine, dist.ReduceOp.AVG)
    return [one[0].item() for one in (*gathered, *received, mine)]


def test_tensors_made_in_inference_mode():
    assert job((1, 1), in_inference_mode) == [[0, 1, rank, rank, 0.5] for rank in range(2)]


# Wrappers, with nothing changed but the backend's name


def ddp(model):
    return nn.parallel.DistributedDataParallel(model)


def fsdp1(model):
    return FullyShardedDataParallel(model, device_id=torch.device("cpu"))


def fsdp2(model):
    for layer in model:
        fully_shard(layer)
    return fully_shard(model)


def hsdp(model):
    if dist.get_backend() == "ds_ring":
        mesh = device_mesh(dist.group.WORLD.plan)
        assert mesh.mesh.tolist() == [[0, 1], [2, 3]]
    else:
        mesh = dist.init_device_mesh("cpu", (2, 2), mesh_dim_names=("host", "local"))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh)


@pytest.mark.parametrize("wrap", [ddp, fsdp1, fsdp2, hsdp])
def test_wrappers_train_as_over_gloo(wrap):
    expected = job((2, 2), train_wrapped, wrap, "gloo")
    found = job((2, 2), train_wrapped, wrap, "ds_ring")
    for (losses, sent), (others, _) in zip(found, expected, strict=True):
        assert losses == pytest.approx(others, rel=1e-5)
        assert wrap is hsdp or sum(sent.values()) > 0


def test_gradients_cross_each_wire_once():
    found = job((2, 2), train_wrapped, ddp, "ds_ring", 3)
    sent = [sum(counts.values()) for _, counts in found]
    # 2 (N - 1) / N of the gradients for N = 2 hosts, shared by the ranks of a host.
    assert sent[0] + sent[1] == sent[2] + sent[3] == pytest.approx(3 * gradient_bytes(), rel=0.01)


@pytest.mark.parametrize(("wire", "share"), [("bfloat16", 0.5), ("int8", 0.254)])
def test_a_lossy_wire_carries_less(wire, share):
    found = job((2, 2), train_wrapped, ddp, "ds_ring", environment={"DS_RING_WIRE": wire})
    exact = job((2, 2), train_wrapped, ddp, "gloo")
    sent = sum(sum(counts.values()) for _, counts in found[:2])
    assert sent == pytest.approx(share * 3 * gradient_bytes(), rel=0.02)
    assert found[0][0] == pytest.approx(exact[0][0], rel=1e-2)


def uneven_inputs():
    dist.init_process_group("ds_ring")
    rank = dist.get_rank()
    model = ddp(net())
    steps = 0
    with Join([model]):
        for _ in range(2 + rank):
            model(torch.ones(2, 32)).sum().backward()
            steps += 1
    return steps


def test_join_where_ranks_have_different_numbers_of_batches():
    assert job((1, 1), uneven_inputs) == [2, 3]


# Calibration


def calibrated():
    dist.init_process_group("ds_ring")
    before = dist.group.WORLD.calibration
    dist.all_reduce(torch.ones(1 << 16))
    world = dist.group.WORLD
    again = dist.new_group(list(range(dist.get_world_size())))
    start = world.group.bytes_sent
    dist.all_reduce(torch.ones(1 << 16), group=again)
    return before, world.plan.algorithms, again.plan.algorithms, again.calibration, start


def test_the_first_large_all_reduce_times_and_all_ranks_choose_alike():
    found = job((1, 1), calibrated, environment={"DS_RING_CALIBRATE": "1"})
    assert all(before is None for before, *_ in found)
    assert len({algorithms for _, algorithms, *_ in found}) == 1
    # A group of the same shape takes what is known.
    assert all(first == second for _, first, second, *_ in found)
    assert all(set(known.seconds) >= {1 << 16} for *_, known, _ in found)


# What goes wrong


def start():
    dist.init_process_group("ds_ring")


def start_differently():
    os.environ["DS_RING_WIRE"] = "int8" if os.environ["RANK"] == "1" else "float32"
    start()


def test_ranks_that_want_different_things_are_named():
    said = Job((1, 2), start_differently).said()
    assert not any(fine for fine, _ in said.values())
    assert all("Rank 1 planned another wire" in text for _, text in said.values())


def test_a_wrong_variable_is_one_sentence():
    said = Job((1,), start, environment={"DS_RING_WIRE": "int4"}).said()
    assert said[0][1].startswith("ConfigError: DS_RING_WIRE: backend 'ds_ring'")


def killed_in_the_middle():
    dist.init_process_group("ds_ring")
    dist.barrier()
    if dist.get_rank() == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    work = dist.all_reduce(torch.ones(MIB), async_op=True)
    work.wait()


def test_a_lost_rank_is_an_error_that_names_it_and_its_host():
    for fine, text in Job((2, 2), killed_in_the_middle).said(without=(2,)).values():
        assert not fine
        assert re.search(r"PeerLostError: ranks? 2.* on host host1 (is|are) gone", text)
