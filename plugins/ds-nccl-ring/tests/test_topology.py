"""The component `hier-ring`: what every topology must do, and two levels over several hosts."""

import pytest
import torch
from forked import Job, job
from trainings import net, reference, train

import ds_core as ds
from ds_core.errors import RefusedError
from ds_core.testing import TopologyConformance


class TestHierRing(TopologyConformance):
    """All checks of the kind, on the component as it is installed."""

    name = "hier-ring"
    options = {"calibrate": False}


QUICK = {"name": "hier-ring", "calibrate": False, "timeout": 60}

pytestmark = pytest.mark.processes


def gradient_bytes():
    return sum(p.nbytes for p in net().parameters())


@pytest.mark.parametrize("hosts", [(2, 2), (1, 2), (3,), (1, 1, 1)], ids=str)
def test_gradients_are_averaged_over_any_placement(hosts):
    found = job(hosts, train, QUICK)
    expected = reference(sum(hosts), 3)
    for got, steps, details in found:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(got, found[0][0])
        assert steps == 3
        assert list(details["hosts"].values()) == list(hosts)
        assert details["rails"] == min(hosts)
    assert any("sent to" in details for *_, details in found) == (len(hosts) > 1)


@pytest.mark.parametrize("wire", ["bfloat16", "int8"])
def test_a_lossy_wire_is_close_and_alike_on_all_ranks(wire):
    found = job((2, 2), train, {**QUICK, "wire": wire}, 6)
    expected = reference(4, 6)
    start = torch.cat([p.detach().flatten() for p in net().parameters()])
    for got, *_ in found:
        assert torch.equal(got, found[0][0])
        assert not torch.equal(got, expected)
        error = (got - expected).norm() / (expected - start).norm()
        assert error < 0.02


def test_the_report_tells_what_was_timed():
    details = job((1, 1), train, {"name": "hier-ring"})[0][2]
    assert details["proved by"] == "DS_NODE"
    assert details["reductions"]["below 4 KiB"] == "flat"
    assert "flat" in details["reductions"]["from 64 KiB"]
    assert "ms" in details["reductions"]["from 64 KiB"]


def die_on_host_1(place, step, model):
    import os
    import signal

    if place == "before backward" and step == 1 and os.environ["DS_NODE"] == "host1":
        os.kill(os.getpid(), signal.SIGKILL)


def test_without_elastic_a_loss_ends_the_others_with_an_error_that_names_it():
    said = Job((2, 1), train, QUICK, 3, die_on_host_1).said(without=(2,))
    for fine, text in said.values():
        assert not fine
        assert "rank 2 on host host1 is gone" in text


def test_options_that_exclude_each_other_are_refused():
    topology = {"name": "hier-ring", "elastic": True, "find_unused_parameters": True}
    model = net()
    before = type(model)
    with pytest.raises(RefusedError, match="unused parameters while it is elastic"):
        ds.attach(model, torch.optim.SGD(model.parameters(), 0.1), topology=topology)
    assert type(model) is before


def test_one_process_has_nothing_to_reduce():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with ds.attach(model, optimizer, topology="hier-ring") as session:
        assert session.report().components[-1].details["ranks"] == 1


@pytest.mark.parametrize("wire", ["float32", "bfloat16", "int8"])
def test_what_it_would_do_is_explained(wire):
    from ds_nccl_ring.topology import HierRing

    backend = ds.attach(net(), backend="cpu").backend
    lines = HierRing(wire=wire, elastic=True).explain(backend)
    assert any("shared memory" in line for line in lines)
    assert any("ranks that are left" in line for line in lines)
    assert wire == "float32" or any(wire in line for line in lines)
