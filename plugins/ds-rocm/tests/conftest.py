"""Fixtures that all tests share."""

import os
import sys

import pytest
import torch
from ds_rocm import detect
from ds_rocm.backend import Rocm
from ds_rocm.simulated import simulate

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401


@pytest.fixture(scope="module")
def device():
    """The simulated device `amd`, on a host with one MI300X."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(torch.version, "hip", None)
        patch.setattr(Rocm, "device_type", Rocm.device_type)
        patch.setattr(Rocm, "distributed_backend", Rocm.distributed_backend)
        patch.setattr(detect, "probe", detect.probe)
        patch.setattr(detect, "torch_build", detect.torch_build)
        yield simulate()
