"""NCCL's settings: the environment, and the files that fill it up."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ds_nccl_ring.doctor.finding import Finding, note, ok, problem
from ds_nccl_ring.doctor.system import read

_LEFTOVERS = {
    "NCCL_ALGO": "keeps NCCL from choosing the fastest algorithm for each size",
    "NCCL_PROTO": "keeps NCCL from choosing the fastest protocol for each size",
    "NCCL_P2P_DISABLE": "sends what NVLink could carry through host memory",
    "NCCL_SHM_DISABLE": "sends what shared memory could carry over the network",
    "NCCL_IB_DISABLE": "uses TCP where there are RDMA ports",
    "NCCL_LAUNCH_MODE": "was made for debugging",
    "NCCL_CHECKS_DISABLE": "lets errors pass in silence",
}
"""Settings that were made for a trial, and what each does when it stays."""

_TALK = ("INFO", "TRACE")
_TIMEOUT, _RETRIES = 18, 7
_LONGEST = 22


def nccl_settings(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """NCCL's variables as NCCL sees them: the environment's, then those of its files."""
    home = environment.get("HOME", "/root")
    own = environment.get("NCCL_CONF_FILE") or f"{home}/.nccl.conf"
    found: dict[str, str] = {}
    for file in ("/etc/nccl.conf", own):
        for line in (read(root / file.lstrip("/")) or "").splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.lstrip().startswith("#"):
                found[name.strip()] = value.strip()
    return {
        name: value
        for name, value in (found | dict(environment)).items()
        if name.startswith("NCCL_") and value
    }


def check_leftovers(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """Settings of trials and of debugging that are still there."""
    said = nccl_settings(root, environment)
    found = [
        problem(name, f"{name}={said[name]} {why}.", "Unset it once the trial is over.")
        for name, why in _LEFTOVERS.items()
        if said.get(name, "0") != "0"
    ]
    if said.get("NCCL_DEBUG", "").upper() in _TALK:
        what = f"NCCL_DEBUG={said['NCCL_DEBUG']} writes for every communicator."
        found.append(note("NCCL_DEBUG", what, "Set it to WARN when you are done."))
    return found or [ok("leftovers", "No setting of a trial or of debugging is left.")]


def check_retransmission(root: Path, environment: Mapping[str, str]) -> list[Finding]:
    """How long an RDMA port waits for a lost packet, and how often."""
    said = nccl_settings(root, environment)
    found = []
    timeout = _whole(said.get("NCCL_IB_TIMEOUT", "20"))
    if timeout is None or not 1 <= timeout <= 31:
        found.append(
            problem(
                "NCCL_IB_TIMEOUT",
                f"NCCL_IB_TIMEOUT={said['NCCL_IB_TIMEOUT']} is none of 1 to 31.",
                "Unset it; NCCL takes 20, which is 4.3 s.",
            )
        )
    elif not _TIMEOUT <= timeout <= _LONGEST:
        seconds = 4.096e-6 * 2**timeout
        short = timeout < _TIMEOUT
        found.append(
            problem(
                "NCCL_IB_TIMEOUT",
                f"NCCL_IB_TIMEOUT={timeout} waits {seconds:.2g} s for a lost packet, "
                + ("shorter than a port is away." if short else "and a job hangs as long."),
                "Unset it; NCCL takes 20, which is 4.3 s.",
            )
        )
    retries = _whole(said.get("NCCL_IB_RETRY_CNT", "7"))
    if retries is None or not 0 <= retries <= _RETRIES:
        found.append(
            problem(
                "NCCL_IB_RETRY_CNT",
                f"NCCL_IB_RETRY_CNT={said['NCCL_IB_RETRY_CNT']} is none of 0 to 7.",
                "Unset it; NCCL takes 7.",
            )
        )
    elif retries < _RETRIES:
        found.append(
            problem(
                "NCCL_IB_RETRY_CNT",
                f"NCCL_IB_RETRY_CNT={retries} gives a packet up sooner than NCCL's 7.",
                "Unset it.",
            )
        )
    return found


def _whole(text: str) -> int | None:
    try:
        return int(text)
    except ValueError:
        return None
