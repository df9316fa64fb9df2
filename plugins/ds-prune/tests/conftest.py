"""Fixtures that all tests of channel pruning share."""

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401
