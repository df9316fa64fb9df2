"""Fixtures that all tests of the ring share."""

import os

# Before torch is imported: emulated hosts have no DNS names, which c10d would mention each time.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory, monkeypatch):
    """No test reads or writes the settings of whoever runs it, nor a ds.toml nearby."""
    for variable in [name for name in os.environ if name.startswith(("DS_", "NCCL_", "GLOO_"))]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
    monkeypatch.setenv("DS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def _seeded():
    torch.set_num_threads(1)  # on tensors so small, threads only wait for each other
    torch.manual_seed(0)
