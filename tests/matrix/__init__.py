"""Every combination of installed components, on one small real training."""
