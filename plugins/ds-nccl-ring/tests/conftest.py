"""Fixtures that all tests of the ring share."""

import os

# Before torch is imported: emulated hosts have no DNS names, which c10d would mention each time.
os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")

import pytest
from hypothesis import settings

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401

# No test fails because the machine is busy.
settings.register_profile("ring", deadline=None)
settings.load_profile("ring")


@pytest.fixture(autouse=True)
def _own_network(monkeypatch):
    """No test heeds what whoever runs it has set for collectives."""
    for name in [name for name in os.environ if name.startswith(("NCCL_", "GLOO_"))]:
        monkeypatch.delenv(name)
