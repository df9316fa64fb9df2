"""Fixtures that all tests share."""

import os
import sys

import pytest
from ds_ascend import detect
from ds_ascend.simulated import simulate

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401


@pytest.fixture(scope="module")
def device():
    """The simulated device `npu`, on a host with one card."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PYTHONPATH", "ASCEND_HOME_PATH"):
            patch.setenv(name, os.environ.get(name, ""))
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(detect, "probe", detect.probe)
        patch.delitem(sys.modules, "torch_npu", raising=False)
        yield simulate()
        sys.modules.pop("torch_npu")
