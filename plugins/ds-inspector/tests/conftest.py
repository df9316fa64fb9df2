"""Fixtures that all tests of the inspector share."""

from ds_core.testing.isolation import own_cache, own_settings, seeded  # noqa: F401
