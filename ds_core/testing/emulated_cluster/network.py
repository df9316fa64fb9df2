"""The namespaces of one cluster, their bridge, rates and counters, by iproute2."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from ds_core.testing.emulated_cluster.errors import EmulationError, EmulationUnavailable
from ds_core.testing.emulated_cluster.removal import (
    NAMESPACES,
    kill_inside,
    leftovers,
    new_prefix,
)

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])
_TOOLS = {"ip": "iproute2", "tc": "iproute2", "bridge": "iproute2", "unshare": "util-linux"}
_PROBE = (
    "ip link add name ds0 type bridge && ip link add ds1 type veth peer name ds2 "
    "&& tc qdisc add dev ds1 root tbf rate 1mbit burst 20kb latency 50ms "
    "&& mount -t sysfs sysfs /sys"
)
_BURST_SECONDS = 1e-3
_QUEUE_SECONDS = 50e-3


@dataclass(frozen=True)
class Wire:
    """What crossed one host's uplink.

    Bytes are those of Ethernet frames: payload, and 14 bytes of Ethernet, 20 of IP and 20 to 32 of
    TCP header a frame, acknowledgements and address resolution too. Where the kernel hands over
    several frames of a stream as one, as it does with network cards, they are counted one by one.
    """

    sent: int
    received: int
    sent_frames: int
    received_frames: int

    def __sub__(self, earlier: Wire) -> Wire:
        return Wire(
            self.sent - earlier.sent,
            self.received - earlier.received,
            self.sent_frames - earlier.sent_frames,
            self.received_frames - earlier.received_frames,
        )


@functools.cache
def unavailable_reason() -> str | None:
    """Why no cluster can be emulated here, in one sentence; None where one can.

    Tries in a nameless namespace, which vanishes with the process that asked for it.
    """
    if sys.platform != "linux":
        return f"An emulated cluster needs Linux's network namespaces, and this is {sys.platform}."
    if os.geteuid() != 0:
        return "An emulated cluster needs root: it makes network namespaces."
    for tool, package in _TOOLS.items():
        if shutil.which(tool, path=_PATH) is None:
            return f"An emulated cluster needs {tool!r} (Debian package {package})."
    unshare = shutil.which("unshare", path=_PATH) or ""
    tried = subprocess.run(
        [unshare, "--net", "--mount", "sh", "-c", _PROBE],
        env=os.environ | {"PATH": _PATH},
        capture_output=True,
        text=True,
    )
    if tried.returncode != 0:
        said = (tried.stderr.strip().splitlines() or ["no message"])[-1]
        return f"This machine's kernel or container allows no emulated cluster: {said}"
    return None


class Network:
    """Host namespaces, each with one wire to a switch. `remove` undoes `build`, however far it got.

    Args:
        hosts: Their names, in order of their addresses.
        rate: Bits a second of each wire and direction; None for no limit.
        mtu: Of the wires, in bytes.
    """

    def __init__(self, hosts: list[str], rate: int | None, mtu: int) -> None:
        self.rate = rate
        self.mtu = mtu
        prefix = new_prefix()
        self.addresses = {host: f"10.77.0.{number}" for number, host in enumerate(hosts, start=1)}
        self.namespaces = {host: f"{prefix}-{host}" for host in hosts}
        self._switch = f"{prefix}-switch"

    def build(self) -> None:
        """Make everything.

        Raises:
            EmulationError: The kernel refused a part.
        """
        hosts = self.namespaces.items()
        _ip("", *(f"netns add {name}" for name in (self._switch, *self.namespaces.values())))
        for name in (self._switch, *self.namespaces.values()):
            # Else the hosts send router solicitations, which would be counted.
            off = "for f in /proc/sys/net/ipv6/conf/*/disable_ipv6; do echo 1 > $f; done"
            _call([_tool("ip"), "netns", "exec", name, "sh", "-c", f"{off} 2>/dev/null || true"])
        _ip("", *(f"link add eth0 netns {ns} type veth peer name {h} netns {self._switch}"
                  for h, ns in hosts))  # fmt: skip
        _ip(
            self._switch,
            "link add switch type bridge mcast_snooping 0",
            f"link set switch mtu {self.mtu} up",
            *(f"link set {host} mtu {self.mtu} master switch up" for host in self.namespaces),
        )
        self._limit(self._switch, *self.namespaces)
        for host, namespace in hosts:
            _ip(
                namespace,
                "link set lo up",
                f"link set eth0 mtu {self.mtu} up",
                f"addr add {self.addresses[host]}/24 dev eth0",
            )
            self._limit(namespace, "eth0")

    def _limit(self, namespace: str, *devices: str) -> None:
        queue = "pfifo"  # sets no limit, but counts
        if self.rate is not None:
            # The burst is a few frames, so that a short message cannot pass the wire for nothing;
            # a millisecond, so that a late timer does not cost bandwidth.
            burst = max(4 * (self.mtu + 14), round(self.rate / 8 * _BURST_SECONDS))
            most = burst + round(self.rate / 8 * _QUEUE_SECONDS)
            queue = f"tbf rate {self.rate}bit burst {burst} limit {most}"
        lines = [f"qdisc add dev {device} root {queue}" for device in devices]
        _call([_tool("tc"), "-n", namespace, "-batch", "-"], "\n".join(lines))

    def wires(self) -> Mapping[str, Wire]:
        """What each host sent and received since `build`."""
        # By the queues and not by the devices: these count several frames handed over as one.
        received = _queues(self._switch)
        sent = {host: _queues(name)["eth0"] for host, name in self.namespaces.items()}
        return {
            host: Wire(
                sent=sent[host]["bytes"],
                received=received[host]["bytes"],
                sent_frames=sent[host]["packets"],
                received_frames=received[host]["packets"],
            )
            for host in self.namespaces
        }

    def forward(self, host: str, enabled: bool) -> None:
        """Let the switch pass or drop all frames of a host, whose own link stays up either way."""
        state = 3 if enabled else 0  # forwarding and disabled, in linux/if_bridge.h
        # Not by `ip link set`, after which the bridge looks at the link and enables the port again.
        _call(
            [_tool("bridge"), "-n", self._switch, "link", "set", "dev", host, "state", str(state)]
        )

    def remove(self) -> None:
        """End every process inside and remove the namespaces; all devices go with them."""
        _remove([*self.namespaces.values(), self._switch])

    def inside(self, host: str) -> list[str]:
        """The command line's beginning that runs the rest of it in a host."""
        return [_tool("ip"), "netns", "exec", self.namespaces[host]]


def remove_leftovers() -> None:
    """Remove the namespaces of owners that died without doing so, and the processes inside."""
    _remove(leftovers())


def _remove(names: list[str]) -> None:
    kill_inside(names)
    for name in names:
        try:
            _call([_tool("ip"), "netns", "delete", name])
        except EmulationError:
            if (NAMESPACES / name).exists():  # else another process was faster, or it never was
                raise


def _queues(namespace: str) -> dict[str, dict[str, int]]:
    """The statistics of each device's root queue."""
    queues = json.loads(_call([_tool("tc"), "-n", namespace, "-s", "-j", "qdisc"]))
    return {queue["dev"]: queue for queue in queues if queue.get("root")}


def _ip(namespace: str, *lines: str) -> None:
    inside = ["-n", namespace] if namespace else []
    _call([_tool("ip"), *inside, "-batch", "-"], "\n".join(lines))


def _tool(name: str) -> str:
    path = shutil.which(name, path=_PATH)
    if path is None:
        raise EmulationUnavailable(unavailable_reason() or f"{name!r} is gone.")
    return path


def _call(argv: list[str], text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise EmulationError(f"{' '.join([os.path.basename(argv[0]), *argv[1:]])!r} failed: {said}")  # noqa: PTH119
    return done.stdout
