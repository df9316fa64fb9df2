"""What plugin authors prove their components with: conformance suites and instruments.

The instruments say what they are in their names: a simulated device computes on the CPU under
another device's name, an emulated cluster is network namespaces with rate-limited wires, emulated
16-bit matrix units are float32 ones with rounded results. None stands in for the real thing in the
product.

Everything here is imported when it is first used; the suites need pytest
(`pip install "ds-core[testing]"`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds_core.testing.conformance.backend import BackendConformance
    from ds_core.testing.conformance.checks import check
    from ds_core.testing.conformance.command import CommandConformance
    from ds_core.testing.conformance.observer import ObserverConformance
    from ds_core.testing.conformance.precision import PrecisionConformance
    from ds_core.testing.conformance.pruner import PrunerConformance
    from ds_core.testing.conformance.topology import TopologyConformance
    from ds_core.testing.conformance.transform import TransformConformance
    from ds_core.testing.emulated_cluster import EmulatedCluster, EmulationUnavailable, lower_bound
    from ds_core.testing.emulated_cluster.fixtures import requires_emulated_cluster
    from ds_core.testing.emulated_units import emulated_16bit
    from ds_core.testing.simulated import Faults, simulated_device
    from ds_core.testing.simulated.device import SimulatedDevice

_HOME = {
    "BackendConformance": "ds_core.testing.conformance.backend",
    "CommandConformance": "ds_core.testing.conformance.command",
    "EmulatedCluster": "ds_core.testing.emulated_cluster",
    "EmulationUnavailable": "ds_core.testing.emulated_cluster",
    "Faults": "ds_core.testing.simulated",
    "ObserverConformance": "ds_core.testing.conformance.observer",
    "PrecisionConformance": "ds_core.testing.conformance.precision",
    "PrunerConformance": "ds_core.testing.conformance.pruner",
    "SimulatedDevice": "ds_core.testing.simulated.device",
    "TopologyConformance": "ds_core.testing.conformance.topology",
    "TransformConformance": "ds_core.testing.conformance.transform",
    "check": "ds_core.testing.conformance.checks",
    "emulated_16bit": "ds_core.testing.emulated_units",
    "lower_bound": "ds_core.testing.emulated_cluster",
    "requires_emulated_cluster": "ds_core.testing.emulated_cluster.fixtures",
    "simulated_device": "ds_core.testing.simulated",
}

__all__ = [
    "BackendConformance",
    "CommandConformance",
    "EmulatedCluster",
    "EmulationUnavailable",
    "Faults",
    "ObserverConformance",
    "PrecisionConformance",
    "PrunerConformance",
    "SimulatedDevice",
    "TopologyConformance",
    "TransformConformance",
    "check",
    "emulated_16bit",
    "lower_bound",
    "requires_emulated_cluster",
    "simulated_device",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'ds_core.testing' has no attribute {name!r}")
