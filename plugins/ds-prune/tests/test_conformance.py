"""What every pruner of ds-core must do; `pytest -v` shows each check by its name."""

from ds_core.testing import PrunerConformance


class TestChannel(PrunerConformance):
    """All checks of the kind, on the component as it is installed."""

    name = "channel"
