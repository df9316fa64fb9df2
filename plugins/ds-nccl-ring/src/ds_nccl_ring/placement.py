"""Which ranks are on one host, proved rather than assumed."""

from __future__ import annotations

import os
import secrets
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds_core.errors import RefusedError
from ds_nccl_ring.addresses import is_loopback, own_address
from ds_nccl_ring.roll_call import ranks_said, roll_call

if TYPE_CHECKING:
    from torch._C._distributed_c10d import Store

SHARED_MEMORY = Path("/dev/shm")
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Host:
    """Ranks that share memory.

    Attributes:
        name: What the user knows it by: DS_NODE, or its hostname.
        ranks: Ascending.
        address: The IP address of its first rank that other hosts reach.
    """

    name: str
    ranks: tuple[int, ...]
    address: str


@dataclass(frozen=True)
class Placement:
    """Where every rank is.

    Attributes:
        hosts: Ordered by their lowest rank.
        proof: What proved it: `DS_NODE` or `shared memory`.
        notes: What the user should know of it, a sentence each.
    """

    hosts: tuple[Host, ...]
    proof: str
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return sum(len(host.ranks) for host in self.hosts)

    def host_of(self, rank: int) -> Host:
        """The host that a rank is on."""
        return next(host for host in self.hosts if rank in host.ranks)


def prove(
    store: Store,
    rank: int,
    size: int,
    *,
    timeout: float,
    environment: Mapping[str, str] = os.environ,
    shared_memory: Path = SHARED_MEMORY,
) -> Placement:
    """Find out which ranks share memory; every rank of the store's group calls it.

    Where DS_NODE is set, it decides. Otherwise ranks of one hostname and one boot of the kernel are
    candidates, and of these only the ones are on a host that read what its first rank wrote in
    shared memory. LOCAL_WORLD_SIZE is a launcher's word and proves nothing.

    Args:
        store: The group's own; a placement is proved in it once.
        rank: In this group.
        size: Of this group.
        timeout: Seconds that any rank waits for another.
        environment: Variables of this process.
        shared_memory: Where files are in memory.

    Raises:
        RefusedError: DS_NODE is set on some ranks only, a rank did not arrive, or ranks on several
            hosts have no address that others reach.
    """
    said = {
        "node": environment.get("DS_NODE", ""),
        "hostname": socket.gethostname(),
        "boot": _boot_id(),
        "address": own_address(),
        "local size": environment.get("LOCAL_WORLD_SIZE", ""),
    }
    facts = roll_call(store, "placement", rank, size, said, timeout=timeout)
    unnamed = [other for other in range(size) if not facts[other]["node"]]
    notes: list[str] = []
    if not unnamed:
        proof = "DS_NODE"
        groups = _grouped((fact["node"] for fact in facts), range(size))
        names = list(groups)
        members = list(groups.values())
    elif len(unnamed) < size:
        raise RefusedError(
            f"{ranks_said(unnamed)} of {size} {'has' if len(unnamed) == 1 else 'have'} no DS_NODE "
            "while the others have one.",
            mend="Set it in every process, to one name per host, or in none.",
        )
    else:
        proof = "shared memory"
        members, notes = _share_memory(store, rank, facts, timeout, shared_memory)
        names = _numbered([facts[ranks[0]]["hostname"] for ranks in members])
    addresses = _reachable(store, rank, facts, members, timeout)
    hosts = sorted(
        (
            Host(name, tuple(ranks), addresses[ranks[0]])
            for name, ranks in zip(names, members, strict=True)
        ),
        key=lambda host: host.ranks[0],
    )
    return Placement(tuple(hosts), proof, (*notes, *_notes(hosts, facts)))


def _boot_id() -> str:
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def _grouped(keys: Iterable[Any], ranks: Iterable[int]) -> dict[Any, list[int]]:
    groups: dict[Any, list[int]] = {}
    for key, rank in zip(keys, ranks, strict=True):
        groups.setdefault(key, []).append(rank)
    return groups


def _share_memory(
    store: Store, rank: int, facts: list[dict[str, str]], timeout: float, folder: Path
) -> tuple[list[list[int]], list[str]]:
    """Ranks that read each other's file in memory, group by group, and what went wrong."""
    size = len(facts)
    left = list(range(size))
    found: list[list[int]] = []
    notes: list[str] = []
    turn = 0
    # In each turn the first rank of all candidates is settled, so that it ends.
    while left:
        keys = ((facts[other]["hostname"], facts[other]["boot"]) for other in left)
        candidates = list(_grouped(keys, left).values())
        mine = next((ranks for ranks in candidates if rank in ranks), [])
        first = bool(mine) and mine[0] == rank
        written = _write(folder) if first and len(mine) > 1 else None
        try:
            said = [written[0].name, written[1]] if written else []
            files = roll_call(store, f"nonce {turn}", rank, size, said, timeout=timeout)
            sees = bool(mine) and (first or _reads(folder, files[mine[0]]))
            seen = roll_call(store, f"seen {turn}", rank, size, sees, timeout=timeout)
        finally:
            if written:
                written[0].unlink(missing_ok=True)
        for ranks in candidates:
            found.append([other for other in ranks if seen[other]])
            if len(ranks) > 1 and not files[ranks[0]]:
                where = facts[ranks[0]]["hostname"]
                notes.append(f"rank {ranks[0]} on {where} cannot write in {folder}")
        left = [other for other in left if not seen[other]]
        turn += 1
    return sorted(found), notes


def _write(folder: Path) -> tuple[Path, str] | None:
    file, nonce = folder / f"ds-ring-proof-{secrets.token_hex(8)}", secrets.token_hex(16)
    try:
        with file.open("x") as stream:
            stream.write(nonce)
    except OSError:
        return None
    return file, nonce


def _reads(folder: Path, said: list[str]) -> bool:
    try:
        return bool(said) and (folder / said[0]).read_text() == said[1]
    except OSError:
        return False


def _numbered(names: list[str]) -> list[str]:
    """Names made different from each other: `a`, `a#2`, `a#3`."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return found


def _reachable(
    store: Store,
    rank: int,
    facts: list[dict[str, str]],
    members: list[list[int]],
    timeout: float,
) -> list[str]:
    """Each rank's address, seen from other hosts."""
    addresses = [fact["address"] for fact in facts]
    machines = {(fact["hostname"], fact["boot"]) for fact in facts}
    if len(members) == 1 or len(machines) == 1 or not any(map(is_loopback, addresses)):
        return addresses
    # The host that MASTER_ADDR names may know itself by a loopback address, as Debian's do.
    others = [address for address in addresses if not is_loopback(address)]
    if others:
        mine = own_address(others[0]) if is_loopback(addresses[rank]) else addresses[rank]
        addresses = roll_call(store, "address", rank, len(facts), mine, timeout=timeout)
    hidden = [other for other, address in enumerate(addresses) if is_loopback(address)]
    if hidden:
        raise RefusedError(
            f"{ranks_said(hidden)} would be reached at a loopback address from other hosts.",
            mend="Set MASTER_ADDR to an address of the first host, or GLOO_SOCKET_IFNAME.",
        )
    return addresses


def _notes(hosts: list[Host], facts: list[dict[str, str]]) -> list[str]:
    notes = []
    for host in hosts:
        told = {facts[rank]["local size"] for rank in host.ranks} - {"", str(len(host.ranks))}
        if told:
            notes.append(
                f"LOCAL_WORLD_SIZE says {' and '.join(sorted(told))} on {host.name}, where "
                f"{len(host.ranks)} ranks are"
            )
    if any(host.ranks[-1] - host.ranks[0] >= len(host.ranks) for host in hosts):
        notes.append(
            "ranks are interleaved over hosts by the launcher; "
            "both levels follow hosts all the same"
        )
    sizes = {len(host.ranks) for host in hosts}
    if len(sizes) > 1:
        notes.append(f"hosts have {min(sizes)} to {max(sizes)} ranks; {min(sizes)} rails join them")
    return notes
