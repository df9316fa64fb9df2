"""Ranks are killed at every place of a step; the others lose none and stay equal."""

import os
import signal

import pytest
import torch
from forked import Job, job
from torch import nn
from trainings import reference, train

pytestmark = pytest.mark.processes

ELASTIC = {"name": "hier-ring", "elastic": True, "calibrate": False, "timeout": 60}
STEPS = 5


def killer(place, step, ranks):
    """Ends these ranks at a place of a step."""

    def at(now, number, model):
        if (now, number) == (place, step) and int(os.environ["RANK"]) in ranks:
            os.kill(os.getpid(), signal.SIGKILL)

    return at


def survivors(hosts, gone, at, **options):
    running = Job(hosts, train, {**ELASTIC, **options}, STEPS, at)
    return running.results(without=gone)


def check(found, hosts, gone):
    for got, steps, details in found:
        assert torch.equal(got, found[0][0])
        assert steps == STEPS
        assert details["ranks"] == sum(hosts) - len(gone)
        losses = details["losses"]
        assert [rank for loss in losses for rank in loss["ranks of the start"]] == sorted(gone)


def test_without_a_loss_it_is_plain_averaging():
    found = job((2, 1), train, ELASTIC, STEPS)
    expected = reference(3, STEPS)
    for got, steps, details in found:
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
        assert steps == STEPS
        assert "losses" not in details


@pytest.mark.parametrize("place", ["before forward", "before backward"])
@pytest.mark.parametrize(
    ("hosts", "gone"),
    [((2, 2, 2), (2, 3)), ((2, 1), (0, 1)), ((1, 1, 1), (0,)), ((1, 2), (1,))],
    ids=str,
)
def test_whose_gradients_never_came_are_left_out_of_the_average(place, hosts, gone):
    found = survivors(hosts, gone, killer(place, 2, gone))
    check(found, hosts, gone)
    expected = reference(sum(hosts), STEPS, gone, since=2)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-5)


def test_who_dies_after_its_backward_counted_in_that_step():
    found = survivors((2, 2), (2, 3), killer("after backward", 2, (2, 3)))
    check(found, (2, 2), (2, 3))
    expected = reference(4, STEPS, (2, 3), since=3)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-5)


class DieInBackward(torch.autograd.Function):
    """The identity, whose n-th backward ends some ranks."""

    calls = 0

    @staticmethod
    def forward(context, x):
        return x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        DieInBackward.calls += 1
        if DieInBackward.calls == 3 and int(os.environ["RANK"]) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return gradient


def fatal(model):
    model[2].register_forward_pre_hook(lambda module, args: (DieInBackward.apply(args[0]),))


def test_who_dies_in_the_middle_of_its_backward():
    # Small buckets, so that some of the gradients have been averaged over all already.
    running = Job((2, 1), train, {**ELASTIC, "bucket_mb": 0.1}, STEPS, None, None, fatal)
    found = running.results(without=(2,))
    check(found, (2, 1), (2,))
    expected = reference(3, STEPS, (2,), since=2)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-5)


def test_two_losses_one_after_the_other():
    first, second = killer("before backward", 1, (4,)), killer("before forward", 3, (0, 1))

    def both(*told):
        first(*told)
        second(*told)

    found = survivors((2, 2, 1), (0, 1, 4), both)
    for got, steps, details in found:
        assert torch.equal(got, found[0][0])
        assert steps == STEPS
        assert len(details["losses"]) == 2
        assert details["ranks"] == 2


def dying_in_recovery(model):
    """Rank 2 ends after it has met the others, while they make their groups."""
    from ds_nccl_ring.roster import Roster

    meet = Roster.meet

    def met(roster):
        found = meet(roster)
        if roster.seat == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    Roster.meet = met


def test_a_loss_in_the_course_of_a_recovery():
    at, options = killer("before backward", 2, (3,)), {**ELASTIC, "timeout": 8}
    running = Job((1, 1, 1, 1), train, options, STEPS, at, None, dying_in_recovery)
    found = running.results(without=(2, 3))
    check(found, (1, 1, 1, 1), (2, 3))
    expected = reference(4, STEPS, (2, 3), since=2)
    torch.testing.assert_close(found[0][0], expected, rtol=1e-4, atol=1e-5)


def test_clipping_sees_the_average_of_those_who_are_left():
    at = killer("before backward", 2, (1,))
    running = Job((1, 1), train, ELASTIC, STEPS, at, 1e-3)
    clipped = running.results(without=(1,))
    free = survivors((1, 1), (1,), at)
    assert not torch.equal(clipped[0][0], free[0][0])
    start = reference(1, 0)
    # With momentum of 0.9 a step is at most ten times the learning rate times the clipped norm.
    assert (clipped[0][0] - start).norm() <= STEPS * 0.1 * 1e-3 * 10


def with_statistics(model):
    model.insert(1, nn.BatchNorm1d(256))
    torch.manual_seed(int(os.environ["RANK"]))


def statistics(*arguments):
    found = {}

    def look(place, step, model):
        arguments[0](place, step, model)
        if place == "before backward":
            found["count"] = int(model[1].num_batches_tracked)
            found["mean"] = model[1].running_mean.clone()

    got = train(ELASTIC, STEPS, look, None, with_statistics)
    return found["count"], got


def test_buffers_come_from_the_first_rank_that_is_left():
    found = Job((1, 1, 1), statistics, killer("before forward", 2, (0,))).results(without=(0,))
    assert {count for count, _ in found} == {STEPS}
    assert torch.equal(found[0][1][0], found[1][1][0])
