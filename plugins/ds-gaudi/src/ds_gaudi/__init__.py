"""Intel Gaudi accelerators for ds-core."""
