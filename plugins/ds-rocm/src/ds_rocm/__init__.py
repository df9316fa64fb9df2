"""AMD cards for ds-core."""
