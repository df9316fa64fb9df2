"""All checks of components that a session attaches."""

from __future__ import annotations

from ds_core.testing.conformance.loops import LoopChecks
from ds_core.testing.conformance.neighbours import NeighbourChecks
from ds_core.testing.conformance.states import StateChecks
from ds_core.testing.conformance.training import TrainingChecks
from ds_core.testing.conformance.undoing import UndoingChecks


class SessionChecks(UndoingChecks, TrainingChecks, LoopChecks, StateChecks, NeighbourChecks):
    """What can be checked by training with a component."""
