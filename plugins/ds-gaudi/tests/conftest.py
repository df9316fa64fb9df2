"""Fixtures that all tests share."""

import os
import sys

import pytest
import torch
from ds_gaudi import detect, packages
from ds_gaudi.simulated import simulate


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory, monkeypatch):
    """No test reads or writes the settings of whoever runs it, nor a ds.toml nearby."""
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session", autouse=True)
def _one_measurement(tmp_path_factory):
    """Measure dtypes once for the whole run."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)  # on tensors so small, threads only wait for each other
    yield
    patch.undo()


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
