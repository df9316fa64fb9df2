"""Fixtures that all tests of the policy share."""

import pytest

from ds_core.testing import emulated_16bit
from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401


@pytest.fixture
def emulated():
    """A backend whose 16-bit units are emulated for the length of a test."""
    with emulated_16bit() as backend:
        yield backend
