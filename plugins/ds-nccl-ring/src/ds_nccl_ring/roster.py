"""Who is in the job, and how those who are left meet again after a loss."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import socket
import time
import weakref
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ds_core.causes import cause
from ds_core.errors import RefusedError
from ds_nccl_ring.addresses import own_address
from ds_nccl_ring.contacts import Contacts
from ds_nccl_ring.roll_call import ranks_said, roll_call

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

REACH = 2.0
"""Seconds in which the first member must answer, before it is looked for again."""

_BACKLOG = 1024

_rosters: weakref.WeakSet[Roster] = weakref.WeakSet()


class Roster:
    """Members of a job, each with a socket that it listens on from the start.

    A kernel answers for a listening socket however busy its process is, and refuses connections
    once the process is dead: so a member is alive, dead or out of reach, and a slow one is never
    taken for lost. The first member that lives opens a store on its socket; the others come to it.

    Members are known by their seat, the rank that they had in the beginning.

    Args:
        store: Of the job as it begins.
        rank: In it.
        size: Of it.
        timeout: Seconds that members wait for one another.

    Attributes:
        seat: This process's.
        members: The seats of all who are in, ascending; a member's rank is its place here.
    """

    def __init__(self, store: Store, rank: int, size: int, *, timeout: float) -> None:
        self.seat = rank
        self.members = list(range(size))
        self._timeout = timeout
        self._stores: list[Any] = []
        self._listener = _listen()
        self._places: dict[int, tuple[str, int]] = {}
        _rosters.add(self)
        self._publish(store)

    def meet(self) -> tuple[Store, int, int]:
        """Find the members that are left; all of them call it.

        Returns:
            A store for them, this process's rank and their number.

        Raises:
            RefusedError: Too many are out of reach to know that they have not gone on by
                themselves, or a member that lives does not come.
        """
        deadline = time.monotonic() + self._timeout
        with Contacts(self._places) as contacts:
            while True:
                leader = self._first_alive(contacts)
                try:
                    store, members = (
                        self._lead(contacts, deadline)
                        if leader == self.seat
                        else self._follow(leader, deadline)
                    )
                    before, self.members = self.members, members
                    try:
                        self._publish(store)
                    except RefusedError:
                        self.members = before
                        raise
                except RuntimeError as error:  # another was lost meanwhile, perhaps the leader
                    if time.monotonic() > deadline:
                        raise RefusedError(
                            f"The ranks that are left did not meet within {self._timeout:g} s: "
                            f"{cause(error)}."
                        ) from error
                    continue
                return store, members.index(self.seat), len(members)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()
        self._stores = []

    def _publish(self, store: Store) -> None:
        fresh = _listen() if self._places else self._listener
        place = [own_address(), fresh.getsockname()[1]]
        rank, size = self.members.index(self.seat), len(self.members)
        try:
            places = roll_call(store, "roster", rank, size, place, timeout=self._timeout)
        except BaseException:
            if fresh is not self._listener:
                fresh.close()
            raise
        if fresh is not self._listener:
            self._listener.close()
            self._listener = fresh
        self._places = {
            seat: (address, port)
            for seat, (address, port) in zip(self.members, places, strict=True)
        }

    def _first_alive(self, contacts: Contacts) -> int:
        lower = self.members[: self.members.index(self.seat)]
        while True:
            states = contacts.look(lower)
            for seat in lower:
                if states[seat] == "alive":
                    return seat
                if states[seat] == "unsure":
                    break
            else:
                return self.seat

    def _lead(self, contacts: Contacts, deadline: float) -> tuple[Store, list[int]]:
        from torch._C._distributed_c10d import TCPStore

        address, port = self._places[self.seat]
        store = TCPStore(
            address,
            port,
            is_master=True,
            wait_for_workers=False,
            timeout=timedelta(seconds=self._timeout),
            master_listen_fd=self._listener.detach(),
        )
        self._stores = [*self._stores[-1:], store]  # others may still read the last one
        self._listener = _listen()  # until the next is published
        here = {self.seat}
        dead: set[int] = set()
        silent: set[int] = set()
        while True:
            here |= {seat for seat in self.members if store.check([f"here/{seat}"])}
            silent -= here
            missing = set(self.members) - here - dead - silent
            if not missing:
                break
            if time.monotonic() > deadline:
                said = ranks_said(sorted(missing))
                raise self._refusal(store, f"{said} did not come within {self._timeout:g} s.")
            states = contacts.look(sorted(missing))
            dead |= {seat for seat, state in states.items() if state == "dead"}
            silent |= {seat for seat, state in states.items() if state == "silent"}
            time.sleep(0.02)
        if silent and (len(here), -min(here)) < (len(silent), -min(silent)):
            said = ranks_said(sorted(silent))
            raise self._refusal(
                store, f"{said} cannot be reached and may have gone on without this side."
            )
        members = sorted(here)
        store.set("members", json.dumps({"members": members}))
        return store, members

    def _refusal(self, store: Store, why: str) -> RefusedError:
        store.set("members", json.dumps({"error": why}))
        return RefusedError(why, mend="Restart from the last checkpoint.")

    def _follow(self, leader: int, deadline: float) -> tuple[Store, list[int]]:
        from torch._C._distributed_c10d import TCPStore

        address, port = self._places[leader]
        # Short: torch tries again and again to reach a leader that has died meanwhile.
        store = TCPStore(
            address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=REACH)
        )
        left = timedelta(seconds=max(REACH, deadline - time.monotonic()))
        store.set_timeout(left)
        store.set(f"here/{self.seat}", "")
        store.wait(["members"], left)
        told = json.loads(store.get("members"))
        if "error" in told:
            raise RefusedError(told["error"], mend="Restart from the last checkpoint.")
        if self.seat not in told["members"]:
            raise RefusedError(
                f"Rank {self.seat} came after the others had gone on without it.",
                mend="Restart from the last checkpoint.",
            )
        self._stores = [*self._stores[-1:], store]
        return store, told["members"]


def _listen() -> socket.socket:
    family = socket.AF_INET6 if ipaddress.ip_address(own_address()).version == 6 else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.bind(("", 0))
        listener.listen(_BACKLOG)
    except BaseException:
        with contextlib.suppress(OSError):
            listener.close()
        raise
    return listener


def _forked() -> None:
    for roster in list(_rosters):
        roster._listener.close()


# A worker that was forked off must not answer for a dead member.
os.register_at_fork(after_in_child=_forked)
