"""Which backend a session runs on, and why not on the others."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

from ds_core.components.backend import Backend, Probe
from ds_core.components.component import Options
from ds_core.errors import BackendError, DsError, RefusedError
from ds_core.loading import load_component
from ds_core.registry import Record, Registry

AUTO = "auto"


@dataclass
class Candidate:
    """One installed backend, as far as it was looked at."""

    record: Record
    backend: type[Backend] | None = None
    probe: Probe | None = None
    reason: str = ""
    """Why it was not chosen, or was; a sentence."""
    chosen: bool = False

    @property
    def usable(self) -> bool:
        """Nothing known stands in the way."""
        return self.probe is not None and self.probe.usable

    @property
    def memory(self) -> int:
        """Bytes on all its devices, as far as they are known."""
        devices = self.probe.devices if self.probe else ()
        return sum(device.memory or 0 for device in devices)


def candidates(registry: Registry, root: str = "/") -> list[Candidate]:
    """Every installed backend with its probe; importing torch for none of them."""
    found = []
    for record in registry.records("backend"):
        candidate = Candidate(record)
        found.append(candidate)
        if record.status != "ok":
            candidate.reason = record.reason
            continue
        try:
            backend = _backend(registry, record.full_name)[1]
            candidate.backend = backend
            candidate.probe = backend.probe(root)
        except DsError as error:
            candidate.reason = str(error)
        except Exception as error:  # one broken plugin never takes the others down
            candidate.reason = (
                f"{record.distribution} {record.version} failed while probing: "
                f"{type(error).__name__}: {error}"
            )
        else:
            candidate.reason = _standing(candidate.probe)
    return sorted(found, key=_order)


def choose(
    registry: Registry,
    name: str = AUTO,
    *,
    requires: Collection[str] = (),
    device_type: str | None = None,
    config: Options | None = None,
    found: list[Candidate] | None = None,
) -> tuple[Backend, list[Candidate]]:
    """Activate the backend asked for, or the best one.

    Order of `auto`: present and without problems, the highest rank (accelerators before the CPU),
    the most memory; the first that can be activated and supports all of `requires` wins.

    Args:
        registry: What is installed.
        name: A backend's name, or `auto`.
        requires: Capabilities that the session's passes ask for, as `dtype:bf16`.
        device_type: Where the model already is, if that is not the CPU: only its backend will do.
        config: Options for the backend.
        found: What `candidates` returned; given, it tells the reasons also after a refusal.

    Raises:
        BackendError: The backend asked for, or every backend, is unusable; says why.
        RefusedError: No usable backend supports what the passes require.
    """
    found = candidates(registry) if found is None else found
    if name != AUTO:
        record, backend = _backend(registry, name)
        wanted = next(one for one in found if one.record.full_name == record.full_name)
        return _activate(wanted, backend, config), _mark(found, wanted, "asked for by name")
    refusal: DsError | None = None
    for candidate in found:
        if not candidate.usable or candidate.backend is None:
            continue
        if device_type not in (None, candidate.backend.device_type):
            candidate.reason = f"the model is on {device_type}"
            continue
        try:
            chosen = _activate(candidate, candidate.backend, config)
            _require(chosen, requires)
        except DsError as error:
            candidate.reason = error.what
            refusal = refusal or error
            continue
        why = (
            "the model is on it" if device_type else "the first in rank that has all that is asked"
        )
        return chosen, _mark(found, candidate, why)
    if refusal is not None:
        raise refusal
    if device_type:
        raise BackendError(
            f"The model is on {device_type!r}, for which no installed backend is usable.",
            mend="See `ds backends`, or move the model to the CPU first.",
        )
    raise BackendError("No backend is usable here.", mend="See `ds backends`.")


def _backend(registry: Registry, name: str) -> tuple[Record, type[Backend]]:
    record, made = load_component(registry, "backend", name)
    return record, cast("type[Backend]", made)


def _activate(candidate: Candidate, backend: type[Backend], config: Options | None) -> Backend:
    probe = candidate.probe
    if probe is None or not probe.usable:
        problem = probe.problems[0] if probe and probe.problems else None
        raise BackendError(
            f"Backend {candidate.record.name!r} cannot be used: "
            f"{problem.what if problem else candidate.reason.rstrip('.') + '.'}",
            mend=problem.mend if problem else "See `ds backends` for what is usable here.",
        )
    chosen = backend(config)
    chosen.record = candidate.record
    try:
        chosen.activate()
    except DsError:
        raise
    except Exception as error:
        raise BackendError(
            f"Backend {candidate.record.name!r} could not be activated: "
            f"{type(error).__name__}: {error}."
        ) from error
    return chosen


def _require(backend: Backend, requires: Collection[str]) -> None:
    # A capability that is no dtype may come from another component: the session checks those.
    missing = sorted(
        need for need in requires if need.startswith("dtype:") and need not in backend.provides
    )
    if missing:
        dtype = missing[0].removeprefix("dtype:")
        dtypes = backend.info().dtypes
        works = ", ".join(name for name, support in dtypes.items() if support.works)
        known = dtypes.get(dtype)
        why = f" ({known.reason.rstrip('.')})" if known and known.reason else ""
        raise RefusedError(
            f"Backend {backend.name!r} does not support {dtype}{why}.",
            mend=f"It supports {works}; for {dtype} choose other hardware (see `ds backends`).",
        )


def _standing(probe: Probe) -> str:
    if probe.problems:
        return f"{probe.problems[0].what} {probe.problems[0].mend}"
    return "usable" if probe.present else "no such device here"


def _order(candidate: Candidate) -> tuple[bool, int, int, str]:
    rank = candidate.backend.rank if candidate.backend else 0
    return (not candidate.usable, -rank, -candidate.memory, candidate.record.full_name)


def _mark(found: list[Candidate], chosen: Candidate, why: str) -> list[Candidate]:
    chosen.chosen, chosen.reason = True, why
    for candidate in found:
        if not candidate.chosen and candidate.usable and candidate.reason == "usable":
            candidate.reason = f"usable, but {chosen.record.name!r} comes first"
    return found
