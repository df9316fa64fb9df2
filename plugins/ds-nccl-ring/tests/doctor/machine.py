"""Made-up machines: the files that the doctor reads, in a folder."""

from pathlib import Path


class Machine:
    """A root folder; what is not put in it is absent."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def interface(self, name, *, state="up", mtu=1500, speed=None):
        folder = f"sys/class/net/{name}"
        self.write(f"{folder}/operstate", state)
        self.write(f"{folder}/mtu", mtu)
        if speed is not None:
            self.write(f"{folder}/speed", speed)
        return self

    def port(self, device, gids, *, number=1, layer="Ethernet", state="4: ACTIVE", forced=None):
        """An RDMA port; `gids` are pairs of an address and a type, or None for an empty entry."""
        folder = f"sys/class/infiniband/{device}/ports/{number}"
        self.write(f"{folder}/link_layer", layer)
        self.write(f"{folder}/state", state)
        for index, gid in enumerate(gids):
            address, kind = gid or ("0000:0000:0000:0000:0000:0000:0000:0000", None)
            self.write(f"{folder}/gids/{index}", address)
            if kind is not None:  # the kernel refuses to read the type of an empty entry
                self.write(f"{folder}/gid_attrs/types/{index}", kind)
        if forced is not None:
            self.write(
                f"sys/class/infiniband/{device}/tc/1/traffic_class", f"Global tclass={forced}"
            )
        return self


V1, V2 = "IB/RoCE v1", "RoCE v2"
LINK = "fe80:0000:0000:0000:0ac0:ebff:fe12:3456"


def mapped(address):
    """An IPv4 address as sysfs shows it in a GID."""
    a, b, c, d = map(int, address.split("."))
    return f"0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}"


def usual(address):
    """The table of a port with one IPv4 address, as mlx5 fills it."""
    return [(LINK, V1), (LINK, V2), (mapped(address), V1), (mapped(address), V2)]


def problems(findings):
    """What is wrong, as text; all of it has a mend."""
    found = [finding for finding in findings if finding.level == "problem"]
    assert all(finding.mend for finding in found)
    return [finding.what for finding in found]
