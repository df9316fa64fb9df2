"""Fixtures that all tests share."""

import os
import sys

import pytest
from ds_gaudi import detect, packages
from ds_gaudi.simulated import simulate

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401


@pytest.fixture(scope="module")
def device():
    """The simulated device `hpu`, on a host with one card."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
        patch.setenv("PT_HPU_LAZY_MODE", "0")
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(detect, "probe", detect.probe)
        patch.setattr(packages, "torch_build", packages.torch_build)
        yield simulate()
        for name in [name for name in sys.modules if name.startswith("habana_frameworks")]:
            del sys.modules[name]
