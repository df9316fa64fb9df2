"""What can go wrong with an emulated cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds_core.errors import DsError

if TYPE_CHECKING:
    from ds_core.testing.emulated_cluster.job import RunResult


class EmulationError(DsError):
    """The emulated cluster could not do what it was asked."""


class EmulationUnavailable(EmulationError):
    """This machine or this user cannot make an emulated cluster; `what` is the reason."""


class JobFailed(EmulationError):
    """A rank ended with another exit code than 0. `result` holds what every rank left."""

    result: RunResult


class JobTimeout(EmulationError):
    """Ranks were still running when the time was up. `result` holds what there was by then."""

    result: RunResult
