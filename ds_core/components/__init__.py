"""What a plugin author subclasses: one class for each kind of component."""

from ds_core.components.backend import (
    Backend,
    BackendInfo,
    Device,
    DtypeSupport,
    MemoryFigures,
    Probe,
    Problem,
    TuneReport,
)
from ds_core.components.component import KINDS, Component, Options
from ds_core.components.data_parallel import DataParallel
from ds_core.components.model_source import ModelSource
from ds_core.components.observer import Observer
from ds_core.components.precision import PrecisionPolicy
from ds_core.components.pruner import Pruner
from ds_core.components.topology import Topology
from ds_core.components.transform import Transform

__all__ = [
    "KINDS",
    "Backend",
    "BackendInfo",
    "Component",
    "DataParallel",
    "Device",
    "DtypeSupport",
    "MemoryFigures",
    "ModelSource",
    "Observer",
    "Options",
    "PrecisionPolicy",
    "Probe",
    "Problem",
    "Pruner",
    "Topology",
    "Transform",
    "TuneReport",
]
