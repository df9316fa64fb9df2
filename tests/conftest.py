"""Fixtures that all tests share."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _own_settings(tmp_path_factory, monkeypatch):
    """No test reads or writes the settings and caches of whoever runs it, nor a ds.toml nearby."""
    for variable in ("DS_DISABLE_PLUGINS", "DS_TRACE_HOOKS", "DS_DEBUG"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def _one_measurement(tmp_path_factory):
    """Measure dtypes once for the whole run."""
    patch = pytest.MonkeyPatch()
    patch.setenv("DS_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
    yield
    patch.undo()
