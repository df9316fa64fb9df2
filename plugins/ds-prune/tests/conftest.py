"""Fixtures that all tests of channel pruning share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory, monkeypatch):
    """No test reads or writes the settings of whoever runs it, nor a ds.toml nearby."""
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """What is measured once is kept for this run alone."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    torch.set_num_threads(1)  # on tensors so small, threads only wait for each other
    yield
    patch.undo()


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
