"""Ranks that are a collective apart when another is lost: who is behind takes what it lacks.

The old group's collectives have an outcome that is written down, for each rank another; the new
group's are real, between threads.
"""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from ds_nccl_ring.elastic import Elastic, OutOfStepError
from ds_nccl_ring.errors import PeerLostError

LOST = "lost"


def done(value):
    future = torch.futures.Future()
    future.set_result(value)
    return future


class Scripted:
    """A group in which this rank's collectives end as told: with a value, or with a loss."""

    def __init__(self, *outcomes):
        self.lost = {}
        self.group = self
        self._outcomes = list(outcomes)

    def reduce_tensor(self, tensor, op="sum", *, key=None):
        outcome = self._outcomes.pop(0) if self._outcomes else LOST
        if outcome == LOST:
            self.lost = {2: "its connection closed"}
            future = torch.futures.Future()
            future.set_exception(PeerLostError("rank 2 is gone."))
            return future
        return done(tensor.fill_(outcome))


class Meeting:
    """Where threads bring what they have, each time of the same kind."""

    def __init__(self, size):
        self.size = size
        self._barrier = threading.Barrier(size, timeout=10)
        self._brought = [None] * size

    def bring(self, rank, kind, tensor):
        self._brought[rank] = (kind, tensor.clone())
        self._barrier.wait()
        kinds, tensors = zip(*self._brought, strict=True)
        self._barrier.wait()
        assert set(kinds) == {kind}, f"ranks are in different collectives: {kinds}"
        return tensors


class Real:
    """A group between threads."""

    def __init__(self, meeting, rank):
        self.lost = {}
        self.group = self
        self._meeting, self._rank = meeting, rank

    def rank(self):
        return self._rank

    def size(self):
        return self._meeting.size

    def reduce_tensor(self, tensor, op="sum", *, key=None):
        brought = torch.stack(self._meeting.bring(self._rank, op, tensor))
        reduce = {"sum": lambda: brought.sum(0), "avg": lambda: brought.mean(0)}
        return done(tensor.copy_(reduce.get(op, lambda: brought.amin(0))()))

    def all_gather_single(self, output, input, opts=None):
        output.copy_(torch.cat(self._meeting.bring(self._rank, "gather", input)))
        return done(output)

    def broadcast(self, tensors, opts):
        brought = self._meeting.bring(self._rank, "broadcast", tensors[0])
        tensors[0].copy_(brought[opts.rootRank])
        return done(tensors)


class Left:
    """The roster of a job of which the first ranks are left."""

    def __init__(self, rank, size):
        self.members = list(range(size + 1))
        self._rank, self._size = rank, size

    def meet(self):
        self.members = list(range(self._size))
        return None, self._rank, self._size


def together(scripts, act):
    """What `act(rank, elastic, parameter)` returns in each rank, and the gradients after it."""
    meeting = Meeting(len(scripts))
    parameters = [torch.nn.Parameter(torch.zeros(2)) for _ in scripts]

    def rank(number):
        parameters[number].grad = torch.full((2,), float(number + 1))
        elastic = Elastic(
            Left(number, len(scripts)),
            Scripted(*scripts[number]),
            lambda store, rank, size: Real(meeting, rank),
            lambda: [parameters[number]],
        )
        return act(number, elastic)

    with ThreadPoolExecutor(len(scripts)) as threads:
        futures = [threads.submit(rank, number) for number in range(len(scripts))]
        found = [future.exception() or future.result() for future in futures]
    return found, [parameter.grad.tolist() for parameter in parameters]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
class TestLosses:
    """What each rank ends with; a rank's gradients are its number plus one, averaged or not."""

    @pytest.mark.parametrize("ahead", [(0,), (1,), (0, 2)])
    def test_a_commit_that_is_done_on_one_rank_is_done_on_all(self, ahead):
        size = max(2, max(ahead) + 1)
        scripts = [[1.0, LOST] if rank in ahead else [LOST] for rank in range(size)]

        def act(rank, elastic):
            elastic.commit()
            return elastic.decide(lambda: torch.tensor([rank + 1.0]), "sum").item()

        found, gradients = together(scripts, act)
        assert found == [size * (size + 1) / 2] * size
        # They held the averages over all, so nothing was averaged again.
        assert gradients == [[rank + 1.0] * 2 for rank in range(size)]

    @pytest.mark.parametrize("ahead", [0, 1])
    def test_a_decision_that_one_rank_has_is_everybodys(self, ahead):
        scripts = [[42.0, LOST] if rank == ahead else [LOST] for rank in range(2)]

        def act(rank, elastic):
            first = elastic.decide(lambda: torch.tensor([1.0]), "sum").item()
            return first, elastic.decide(lambda: torch.tensor([rank + 1.0]), "sum").item()

        assert together(scripts, act)[0] == [(42.0, 3.0)] * 2

    def test_a_decision_that_nobody_has_is_made_by_those_who_are_left(self):
        def act(rank, elastic):
            return elastic.decide(lambda: torch.tensor([rank + 1.0]), "sum").item()

        assert together([[LOST], [LOST]], act)[0] == [3.0, 3.0]

    def test_where_all_hold_the_averages_nothing_is_averaged_again(self):
        _, gradients = together([[LOST], [LOST]], lambda rank, elastic: elastic.commit())
        assert gradients == [[1.0, 1.0], [2.0, 2.0]]

    def test_where_one_does_not_all_average_their_own_over_those_who_are_left(self):
        def act(rank, elastic):
            elastic.reduce_bucket(Bucket([torch.full((2,), rank + 10.0)], elastic)).wait()
            elastic.commit()

        # The first rank's bucket arrived, the second's did not.
        _, gradients = together([[7.0, LOST], [LOST]], act)
        assert gradients == [[10.5, 10.5]] * 2

    def test_ranks_in_different_steps_are_refused(self):
        def act(rank, elastic):
            for _ in range(3):
                elastic.commit()

        found, _ = together([[1.0, 1.0, LOST], [LOST]], act)
        assert all(isinstance(error, OutOfStepError) for error in found)


class Bucket:
    """As torch's reducer gives it to a hook, of one parameter."""

    def __init__(self, gradients, elastic):
        self._gradients = gradients
        self._parameters = elastic._parameters()

    def index(self):
        return 0

    def buffer(self):
        return self._gradients[0]

    def gradients(self):
        return self._gradients

    def parameters(self):
        return self._parameters
