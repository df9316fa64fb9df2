"""What every precision of ds-core must do; `pytest -v` shows each check by its name."""

from ds_core.testing import PrecisionConformance


class TestDmp(PrecisionConformance):
    """All checks of the kind, on the component as it is installed."""

    name = "dmp"
