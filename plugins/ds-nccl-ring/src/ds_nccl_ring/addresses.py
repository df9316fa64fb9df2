"""The IP address that others reach this process at."""

from __future__ import annotations

import ipaddress
import os
import socket
import struct

_SIOCGIFADDR = 0x8915
_DISCARD = 9


def own_address(towards: str = "") -> str:
    """The address that this host has on the way to another one.

    Args:
        towards: The other host; where it is empty, the interface that GLOO_SOCKET_IFNAME names
            counts, then the way to MASTER_ADDR, then the default route.

    Returns:
        An IP address; a loopback one where nothing else is known.
    """
    named = os.environ.get("GLOO_SOCKET_IFNAME", "").partition(",")[0]
    if named and not towards:
        found = _interface(named)
        if found:
            return found
    for target in (towards, os.environ.get("MASTER_ADDR", ""), "192.0.2.1", "2001:db8::1"):
        found = _route(target) if target else ""
        if found:
            return found
    return "127.0.0.1"


def is_loopback(address: str) -> bool:
    """Whether only this host itself reaches `address`."""
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _route(target: str) -> str:
    try:
        kinds = socket.getaddrinfo(target, _DISCARD, type=socket.SOCK_DGRAM)
    except OSError:
        return ""
    for family, kind, protocol, _, address in kinds:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(address)  # chooses a route; a datagram socket sends nothing here
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return ""


def _interface(name: str) -> str:
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            packed = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
        except OSError:
            return ""
    return socket.inet_ntoa(packed[20:24])
