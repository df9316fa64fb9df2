"""Collectives over several hosts, each of whose ranks is a process here."""

import math

import pytest
import torch
from several import KIB, contiguous, placement, run

from ds_core.errors import RefusedError

pytestmark = pytest.mark.processes

PLACEMENTS = {
    "two by two": contiguous(2, 2),
    "three by two": contiguous(3, 2),
    "interleaved": placement([0, 2, 4], [1, 3, 5]),
    "uneven": placement([0, 1, 2], [3], [4, 5]),
    "one host": contiguous(1, 3),
    "a rank each": contiguous(4, 1),
    "alone": contiguous(1, 1),
}

EXACT = ["flat", "hierarchical"]
DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.uint8,
    torch.int64,
    torch.complex64,
]
SIZES = [0, 7, 150_001]


def drawn(count, dtype, rank):
    values = torch.arange(count).mul_(31).add_(17 * rank).remainder_(7).add_(1)
    if dtype.is_floating_point or dtype.is_complex:
        return (values + 0.3).to(dtype)
    return values.to(dtype)


def expected(count, dtype, ranks, op="sum"):
    wide = torch.complex128 if dtype.is_complex else torch.float64
    stacked = torch.stack([drawn(count, dtype, rank).to(wide) for rank in range(ranks)])
    reduced = {
        "sum": lambda: stacked.sum(0),
        "avg": lambda: stacked.mean(0),
        "min": lambda: stacked.amin(0),
        "max": lambda: stacked.amax(0),
        "product": lambda: stacked.prod(0),
    }
    return reduced[op]()


def near(actual, wanted, ranks):
    """Each leg may round once."""
    unit = torch.finfo(actual.dtype).eps if actual.dtype.is_floating_point else 1e-6
    torch.testing.assert_close(
        actual.to(wanted.dtype), wanted, rtol=4 * unit * math.log2(2 * ranks), atol=1e-6
    )


@pytest.mark.parametrize("name", PLACEMENTS)
def test_every_dtype_and_operation_and_size(name):
    where = PLACEMENTS[name]

    def job(group):
        for dtype in DTYPES:
            for count in SIZES:
                tensor = drawn(count, dtype, group.rank)
                result = group.all_reduce(tensor, algorithm="hierarchical").wait()
                assert result.data_ptr() == tensor.data_ptr()
                near(tensor, expected(count, dtype, group.size), group.size)
        for op in ("avg", "min", "max", "product"):
            for dtype in (torch.float32, torch.bfloat16):
                for algorithm in EXACT if dtype == torch.float32 else ["hierarchical"]:
                    tensor = drawn(70_000, dtype, group.rank)
                    group.all_reduce(tensor, op, algorithm=algorithm).wait()
                    near(tensor, expected(70_000, dtype, group.size, op), group.size)

    run(where, job)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_all_ranks_end_with_the_same_bits(name):
    def job(group):
        found = []
        for algorithm in ("hierarchical", "hierarchical-bfloat16", "hierarchical-int8"):
            for dtype in (torch.float32, torch.float16, torch.bfloat16):
                tensor = drawn(90_001, dtype, group.rank)
                group.all_reduce(tensor, algorithm=algorithm).wait()
                wanted = expected(90_001, dtype, group.size)
                assert (tensor.double() - wanted).norm() < 0.02 * wanted.norm()
                found.append(tensor.view(torch.uint8).numpy().tobytes())
        return found

    results = run(PLACEMENTS[name], job)
    assert all(result == results[0] for result in results)


@pytest.mark.parametrize("name", PLACEMENTS)
def test_gathering_and_scattering(name):
    def job(group):
        size = group.size
        for count in (0, 1, 40_001):
            for dtype in (torch.float32, torch.bool, torch.float16):
                mine = drawn(count, dtype, group.rank)
                output = torch.empty(size * count, dtype=dtype)
                group.all_gather(output, mine).wait()
                assert torch.equal(output, torch.cat([drawn(count, dtype, r) for r in range(size)]))
            for op in ("sum", "avg", "max"):
                whole = drawn(size * count, torch.float32, group.rank)
                output = torch.empty(count)
                group.reduce_scatter(output, whole, op).wait()
                wanted = expected(size * count, torch.float32, size, op)
                near(output, wanted[group.rank * count :][:count], size)

    run(PLACEMENTS[name], job)


def test_what_is_not_a_plain_tensor_in_a_row():
    def job(group):
        strided = drawn(600, torch.float32, group.rank).view(20, 30).t()
        leaf = drawn(600, torch.float32, group.rank).requires_grad_()
        for tensor in (strided, leaf):
            for algorithm in EXACT:
                copy = tensor.detach().clone(memory_format=torch.preserve_format)
                group.all_reduce(copy, algorithm=algorithm).wait()
                wanted = expected(600, torch.float32, group.size)
                wanted = wanted.view(20, 30).t() if copy.dim() == 2 else wanted
                near(copy, wanted, group.size)
        group.all_reduce(leaf, algorithm="hierarchical").wait()
        assert leaf.is_leaf
        sparse = torch.eye(4).to_sparse()
        group.all_reduce(sparse, algorithm="hierarchical").wait()
        assert torch.equal(sparse.to_dense(), torch.eye(4) * group.size)
        flags = torch.tensor([True, group.rank == 1])
        output = torch.empty(2 * group.size, dtype=torch.bool)
        group.all_gather(output, flags).wait()
        assert output.view(-1, 2)[:, 1].tolist() == [r == 1 for r in range(group.size)]

    run(contiguous(2, 2), job)


@pytest.mark.parametrize("algorithm", ["flat", "hierarchical", "hierarchical-int8"])
def test_tensors_made_in_inference_mode(algorithm):
    def job(group):
        with torch.inference_mode():
            tensors = [torch.ones(40_000), torch.ones(200, 200).t(), torch.ones(40_000)]
            whole, mine = torch.empty(80_000), torch.ones(40_000)
        for tensor in tensors:
            group.all_reduce(tensor, "avg", algorithm=algorithm).wait()
            torch.testing.assert_close(tensor, torch.ones(tensor.shape))
        group.all_gather(whole, mine).wait()
        group.reduce_scatter(mine, whole).wait()
        assert torch.all(mine == 2)
        # What callers make of a result is no such tensor, and has gradients if they want them.
        made = group.all_reduce(torch.ones(40_000), algorithm=algorithm).then(
            lambda done: done.value().clone()
        )
        made.wait().requires_grad_().square().sum().backward()

    run(contiguous(2, 1), job)


@pytest.mark.parametrize("algorithm", EXACT)
def test_an_average_of_half_precision_does_not_overflow(algorithm):
    def job(group):
        for tensor in (torch.full((40_000,), 4e4), torch.full((200, 200), 4e4).t()):
            half = tensor.half()
            group.all_reduce(half, "avg", algorithm=algorithm).wait()
            assert torch.equal(half, tensor.half())
        share = torch.empty(10_000, dtype=torch.float16)
        whole = torch.full((40_000,), 4e4).half()
        group.reduce_scatter(share, whole, "avg").wait()
        assert torch.equal(share, whole[:10_000])
        assert torch.equal(whole, torch.full((40_000,), 4e4).half())

    # Of uneven hosts, all that is scattered goes through gloo.
    run(contiguous(2, 2) if algorithm == "hierarchical" else placement([0, 1, 2], [3]), job)


@pytest.mark.parametrize("algorithm", ["hierarchical-bfloat16", "hierarchical-int8"])
def test_the_default_dtype_does_not_matter(algorithm):
    def job(group):
        torch.set_default_dtype(torch.float64)
        for dtype in (torch.float32, torch.float16):
            tensor = drawn(40_000, dtype, group.rank)
            group.all_reduce(tensor, algorithm=algorithm, key="a tensor").wait()
            wanted = expected(40_000, dtype, group.size)
            assert (tensor.double() - wanted).norm() < 0.02 * wanted.norm()

    run(contiguous(2, 1), job)


def test_many_at_a_time_complete_in_order_though_chunks_are_many():
    def job(group):
        order = []
        tensors = [
            torch.full((count,), float(group.rank + number))
            for number, count in enumerate([300_000, 10, 0, 100_000, 1, 200_000] * 3)
        ]
        futures = []
        for number, tensor in enumerate(tensors):
            future = group.all_reduce(tensor, algorithm="hierarchical")
            future.add_done_callback(lambda _, number=number: order.append(number))
            futures.append(future)
        barrier = group.run_flat(lambda flat: flat.barrier())
        torch.futures.wait_all(futures)
        barrier.wait()
        ranks = sum(range(group.size))
        for number, tensor in enumerate(tensors):
            assert torch.all(tensor == ranks + group.size * number)
        assert order == list(range(len(tensors)))

    run(contiguous(2, 3), job, chunk=64 * KIB)


def test_bytes_between_hosts_are_the_least_there_can_be():
    count = 120_000

    def job(group, algorithm):
        before = sum(group.bytes_sent.values())
        group.all_reduce(torch.ones(count), algorithm=algorithm).wait()
        return sum(group.bytes_sent.values()) - before

    for hosts, ranks in ((2, 2), (3, 2)):
        whole = 2 * (hosts - 1) * count * 4
        sent = run(contiguous(hosts, ranks), job, "hierarchical")
        assert sum(sent) == whole
        for host in range(hosts):
            on_host = sum(sent[host * ranks : (host + 1) * ranks])
            assert on_host == pytest.approx(whole / hosts, rel=1e-3)
    assert sum(run(contiguous(2, 2), job, "hierarchical-bfloat16")) == 2 * count * 4 / 2
    assert sum(run(contiguous(2, 2), job, "hierarchical-int8")) < 2 * count * 4 * 0.26
    assert sum(run(contiguous(2, 2), job, "flat")) == 0
    assert sum(run(contiguous(1, 2), job, "hierarchical")) == 0


def test_the_plan_chooses_where_the_caller_does_not():
    def job(group):
        for count in (10, 100_000):
            group.all_reduce(torch.ones(count)).wait()
        sent = sum(group.bytes_sent.values())
        group.plan = group.plan.model_copy(update={"algorithms": ((0, "flat"),)})
        group.all_reduce(torch.ones(100_000)).wait()
        assert sum(group.bytes_sent.values()) == sent
        return sent

    assert sum(run(contiguous(2, 1), job)) == 2 * 100_000 * 4
    assert sum(run(contiguous(2, 1), job, wire="bfloat16")) == 2 * 100_000 * 2


def test_feedback_of_a_key_makes_up_over_repeated_sums():
    def job(group):
        source = drawn(5000, torch.float32, group.rank) * torch.logspace(-3, 0, 5000)
        errors = {}
        for key in (None, "a tensor"):
            total = torch.zeros(5000)
            for _ in range(15):
                tensor = source.clone()
                group.all_reduce(tensor, "avg", algorithm="hierarchical-int8", key=key).wait()
                total += tensor
            exact = source.clone()
            group.all_reduce(exact, "avg", algorithm="hierarchical").wait()
            errors[key] = float((total / 15 - exact).norm())
        # Another size under the same key begins anew.
        other = torch.ones(10)
        group.all_reduce(other, algorithm="hierarchical-int8", key="a tensor").wait()
        torch.testing.assert_close(other, torch.full((10,), float(group.size)))
        return errors

    for errors in run(contiguous(2, 2), job):
        assert errors["a tensor"] < errors[None] / 3


def test_what_cannot_be_is_refused_at_once_and_the_group_goes_on():
    def job(group):
        tensor = torch.ones(4, dtype=torch.int32)
        with pytest.raises(RefusedError, match="no operation 'mean'"):
            group.all_reduce(tensor, "mean")
        with pytest.raises(RefusedError, match=r"average of torch.int32"):
            group.all_reduce(tensor, "avg", algorithm="hierarchical")
        with pytest.raises(RefusedError, match="no algorithm 'tree'"):
            group.all_reduce(tensor, algorithm="tree")
        with pytest.raises(RefusedError, match="cannot be gathered"):
            group.all_gather(torch.ones(5), torch.ones(3))
        with pytest.raises(RefusedError, match="cannot be scattered"):
            group.reduce_scatter(torch.ones(5), torch.ones(3))
        for algorithm in EXACT:
            with pytest.raises(RefusedError, match="elements share memory"):
                group.all_reduce(torch.ones(1).expand(5), algorithm=algorithm)
        with pytest.raises(RefusedError, match="only those on CPUs"):
            group.all_reduce(torch.ones(5, device="meta"))
        gaps = torch.ones(4, 2)[:, 0]
        with pytest.raises(RefusedError, match="not contiguous"):
            group.all_gather(gaps, torch.ones(2))
        with pytest.raises(RefusedError, match="not contiguous"):
            group.reduce_scatter(gaps, torch.ones(8))
        group.all_reduce(tensor, algorithm="hierarchical").wait()
        assert tensor.tolist() == [2] * 4

    run(contiguous(2, 1), job)
