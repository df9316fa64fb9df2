"""Fixtures that keep tests apart from whoever runs them. Import them in a `conftest.py`:

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

_CACHE = "DS_CACHE_DIR"


@pytest.fixture(autouse=True)
def own_settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the settings of whoever runs it, nor a `ds.toml` nearby."""
    for name in os.environ:
        if name.startswith("DS_") and name != _CACHE:
            monkeypatch.delenv(name)
    monkeypatch.setenv("DS_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
    monkeypatch.chdir(tmp_path_factory.mktemp("cwd"))


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is measured, is measured once for the whole run, and not kept."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_CACHE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Each test begins with the same random state, on one thread.

    On tensors as small as tests have, threads only wait for each other.
    """
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
