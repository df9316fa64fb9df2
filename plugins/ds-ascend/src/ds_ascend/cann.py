"""CANN, the toolkit beneath torch_npu: where it is, and which one a torch_npu needs."""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ds_core.components import host_files

VARIABLES = ("ASCEND_HOME_PATH", "ASCEND_TOOLKIT_HOME")
"""What CANN's `set_env.sh` sets."""

_PLACES = (
    "usr/local/Ascend/cann",
    "usr/local/Ascend/ascend-toolkit/latest",
    "usr/local/Ascend/nnae/latest",
)
_INFO = re.compile(r"ascend_\w+_install\.info")
_VERSION = re.compile(r"^\s*version\s*=\s*(\S+)\s*$", re.MULTILINE | re.IGNORECASE)
_NUMBER = re.compile(r"(\d{1,4})\.(\d{1,4})(?:\.(?:(RC)?(\d{1,4})))?", re.IGNORECASE)

RELEASED_WITH = {
    **{"2.12.0": "9.1.0", "2.11.0": "9.1.0", "2.10.0.post4": "9.1.0", "2.9.0.post6": "9.1.0"},
    **{"2.7.1.post8": "9.1.0", "2.9.0.post2": "9.0.0", "2.8.0.post4": "9.0.0"},
    **{"2.7.1.post4": "9.0.0", "2.9.0": "8.5.0", "2.8.0.post2": "8.5.0", "2.7.1.post2": "8.5.0"},
    **{"2.6.0.post5": "8.5.0", "2.8.0": "8.3.RC1", "2.7.1": "8.3.RC1", "2.6.0.post3": "8.3.RC1"},
    **{"2.6.0": "8.2.RC1", "2.5.1.post1": "8.2.RC1", "2.5.1": "8.1.RC1", "2.4.0.post4": "8.1.RC1"},
    **{"2.3.1.post6": "8.1.RC1", "2.4.0.post2": "8.0.0", "2.3.1.post4": "8.0.0"},
    **{"2.4.0": "8.0.RC3", "2.3.1.post2": "8.0.RC3", "2.3.1": "8.0.RC2"},
}
"""CANN by release of torch_npu, as torch_npu's COMPATIBILITY.en.md pairs them."""


class Cann(NamedTuple):
    """An installed CANN."""

    version: str
    """As `8.5.0` or `8.3.RC1`; empty where its file does not say."""
    path: str
    """Where it is, from the root."""
    announced: bool
    """Whether one of `VARIABLES` names it, as after `source set_env.sh`."""


def find(root: str = "/") -> Cann | None:
    """The CANN that programs started here would use, or the first at a usual place."""
    told = [value for name in VARIABLES if (value := os.environ.get(name))]
    for places, announced in ((told, True), (_PLACES, False)):
        for place in places:
            found = _at(root, place.strip("/"), announced)
            if found is not None:
                return found
    return None


def older(one: str, other: str) -> bool:
    """Whether CANN `one` came before `other`; False where either cannot be read."""
    first, second = _order(one), _order(other)
    return first is not None and second is not None and first < second


def _at(root: str, place: str, announced: bool) -> Cann | None:
    for folder in ("", "/aarch64-linux", "/x86_64-linux"):
        for name in host_files.names(root, place + folder):
            if _INFO.fullmatch(name):
                text = host_files.read(root, f"{place}{folder}/{name}", limit=4096)
                match = _VERSION.search(text)
                return Cann(match[1] if match else "", f"/{place}", announced)
    return None


def _order(version: str) -> tuple[int, int, int, int] | None:
    match = _NUMBER.match(version)
    if match is None:
        return None
    # 8.0.RC3 comes before 8.0.0.
    return int(match[1]), int(match[2]), 0 if match[3] else 1, int(match[4] or 0)
