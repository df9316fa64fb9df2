"""A lost host costs no step: gradients are kept until all ranks have the reduced ones.

Collectives in which all ranks depend on all have this property: where one rank has the result,
all ranks had begun. So those who are left after a loss are at most one collective apart, and the
ones that are behind get the missing result from one that is ahead. Everything that ranks do
together under `elastic=True` is made of such collectives:

* a **decision**, an all-reduce of something small, or of buffers;
* a **commit**, at the end of backward: an agreement that all ranks hold the step's reduced
  gradients. Whoever is lost before it is done on any rank, the others reduce their own gradients
  anew and average over themselves. Once it is done on one rank, all ranks commit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from ds_core.errors import RefusedError
from ds_core.notices import warn

if TYPE_CHECKING:
    from torch import Tensor
    from torch.futures import Future
    from torch.nn import Parameter

    from ds_nccl_ring.process_group import RingProcessGroup
    from ds_nccl_ring.roster import Roster

Remake = Callable[[Any, int, int], "RingProcessGroup"]
"""Process groups of those who are left, from a store, a rank and their number."""


_ATTEMPTS = 5
"""Losses in the course of one recovery."""


class OutOfStepError(RefusedError):
    """Ranks cannot go on together."""


class Progress(NamedTuple):
    """What a rank says after a loss."""

    done: int
    """Decisions and commits that it has the result of."""
    inside: int
    """It was in the next one."""
    holds: int
    """That is a commit, and it has the reduced gradients."""


class Elastic:
    """One rank's part in steps that survive the loss of others.

    Args:
        roster: Who is in.
        group: That gradients travel over.
        remake: Makes it anew.
        parameters: All that train, in the order of all ranks.

    Attributes:
        group: The present one.
        alone: No reducer may be at work: the next gradients are reduced in `commit`, whole.
        losses: What was lost so far, for a report.
    """

    def __init__(
        self,
        roster: Roster,
        group: RingProcessGroup,
        remake: Remake,
        parameters: Callable[[], list[Parameter]],
    ) -> None:
        self.group = group
        self.alone = False
        self.losses: list[dict[str, Any]] = []
        self._roster = roster
        self._remake = remake
        self._parameters = parameters
        self._done = 0  # decisions and commits that this rank has the result of
        self._result: Tensor | None = None
        self._kept: list[tuple[Parameter, Tensor]] = []
        self._broken = False

    # Gradients

    def reduce_bucket(self, bucket: Any) -> Future[Tensor]:
        """Average a bucket of the reducer's, and keep what it held; never fails.

        After a loss its gradients stay this rank's own, until `commit`.
        """
        import torch

        parameters, gradients = bucket.parameters(), bucket.gradients()
        self._kept += [
            (parameter, gradient.clone())
            for parameter, gradient in zip(parameters, gradients, strict=True)
        ]
        buffer = bucket.buffer()
        made: Future[Tensor] = torch.futures.Future()

        def told(done: Future[Tensor]) -> None:
            try:
                done.value()
            except Exception:  # whatever it was, `commit` hears of it again
                self._broken = True
            made.set_result(buffer)

        if self._broken:
            made.set_result(buffer)
        else:
            key = (bucket.index(), buffer.numel())
            self.group.reduce_tensor(buffer, "avg", key=key).add_done_callback(told)
        return made

    def commit(self) -> None:
        """At the end of backward: return once all ranks hold the same averaged gradients.

        Raises:
            RefusedError: Those who are left cannot go on.
            DsError: The collective failed, though nobody was lost.
        """
        averaged: list[Tensor] | None = None
        anew = self.alone
        while True:
            holds = False
            try:
                if anew:
                    averaged = self._average()
                holds = anew or not self._broken
                self._agree()
                self.alone = False
                break
            except Exception as error:
                if not self.lost:
                    raise
                if self._recover(error, inside=True, holds=holds) is not None:
                    break
                self._restore()
                anew, averaged = True, None
        if averaged is not None:
            for gradient, mean in zip(self._gradients(), averaged, strict=True):
                gradient.copy_(mean)
        self._kept, self._broken = [], False

    # Decisions

    def decide(self, contribution: Callable[[], Tensor], op: str) -> Tensor:
        """All-reduce a new tensor; whoever is lost meanwhile, all get the same result.

        Args:
            contribution: Makes this rank's; called again for each group that it is tried in.
            op: As in `Group.all_reduce`.
        """
        while True:
            result = contribution()
            try:
                self.group.reduce_tensor(result, op).wait()
            except Exception as error:
                if not self.lost:
                    raise
                told = self._recover(error, inside=True, like=result)
                if told is not None:
                    return told
            else:
                self._done, self._result = self._done + 1, result
                return result

    @property
    def lost(self) -> dict[int, str]:
        """Ranks of the present group that are gone, and why."""
        return self.group.group.lost

    def recover(self, error: Exception) -> None:
        """After a failure outside of `commit` and `decide`, as when a reducer is made."""
        self._recover(error, inside=False)

    # Recovery

    def _recover(
        self, error: Exception, *, inside: bool, holds: bool = False, like: Tensor | None = None
    ) -> Tensor | None:
        """Meet the others who are left, and find out who is ahead.

        Returns:
            The result of the collective that this rank was in, where it is decided; None where it
            is to be done anew.
        """
        import torch

        start = time.monotonic()
        reasons, before = dict(self.lost), list(self._roster.members)
        for again in range(_ATTEMPTS):
            self.alone = True
            store, rank, size = self._roster.meet()
            try:
                self.group = self._remake(store, rank, size)
                every = self._progress(inside, holds)
                told = self._told(every, like)
                break
            except OutOfStepError:
                raise
            except Exception:  # another was lost meanwhile
                if again == _ATTEMPTS - 1:
                    raise
        gone = sorted(set(before) - set(self._roster.members))
        why = "; ".join(sorted(set(reasons.values()))) or str(error)
        self.losses.append(
            {
                "after": self._done,
                "ranks of the start": gone,
                "why": why,
                "seconds": round(time.monotonic() - start, 3),
                "ranks left": size,
            }
        )
        if rank == 0:
            warn(f"ranks {', '.join(map(str, gone))} are gone ({why}); {size} go on.")
        if told is not None:
            self._done, self._result = self._done + 1, told
        elif all(one.holds for one in every):
            told = torch.ones(1)  # nobody needs the reduced gradients of anybody else
            self._done, self._result = self._done + 1, told
        return told

    def _progress(self, inside: bool, holds: bool) -> list[Progress]:
        import torch

        mine = torch.tensor([self._done, inside, holds])
        every = torch.empty(self.group.size() * 3, dtype=mine.dtype)
        self.group.all_gather_single(every, mine).wait()
        return [Progress(*map(int, one)) for one in every.view(-1, 3)]

    def _told(self, every: list[Progress], like: Tensor | None) -> Tensor | None:
        """The result that this rank lacks and another has."""
        import torch
        import torch.distributed as dist

        ahead = max(one.done for one in every)
        behind = [one for one in every if one.done < ahead]
        if any(one.done != ahead - 1 or not one.inside for one in behind):
            raise OutOfStepError(
                "The ranks that are left are not in the same step.",
                mend="See whether all ranks run the same number of backward passes.",
            )
        if not behind:
            return None
        source = next(rank for rank, one in enumerate(every) if one.done == ahead)
        mine = self._done == ahead
        if mine:
            assert self._result is not None
            result = self._result.clone()
        else:
            result = torch.empty_like(like) if like is not None else torch.ones(1)
        options = dist.BroadcastOptions()
        options.rootRank = source
        self.group.broadcast([result], options).wait()
        return None if mine else result

    # Gradients once more

    def _agree(self) -> None:
        import torch

        flag = torch.tensor([0.0 if self._broken and not self.alone else 1.0])
        self.group.reduce_tensor(flag, "min").wait()
        self._done, self._result = self._done + 1, flag
        if not flag:
            raise OutOfStepError(
                "Gradients could not be averaged on a rank, though no rank was lost.",
                mend="Detach and attach again.",
            )

    def _restore(self) -> None:
        for parameter, gradient in self._kept:
            if parameter.grad is not None:
                parameter.grad.copy_(gradient)
        self._kept = []

    def _gradients(self) -> list[Tensor]:
        import torch

        found = []
        for parameter in self._parameters():
            if parameter.grad is None:  # another rank may have one
                parameter.grad = torch.zeros_like(parameter)
            found.append(parameter.grad)
        return found

    def _average(self) -> list[Tensor]:
        """Averages of all gradients, which themselves stay as they are."""
        gradients = self._gradients()
        averaged: list[Tensor] = [gradient.clone() for gradient in gradients]
        pending = [self.group.reduce_tensor(one, "avg") for one in averaged]
        for future in pending:
            future.wait()
        return averaged
