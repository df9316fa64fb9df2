"""What every backend of ds-core must do, on the simulated device; `pytest -v` shows each check."""

import pytest
from ds_gaudi.backend import Gaudi

from ds_core.testing import BackendConformance


@pytest.mark.usefixtures("device")
class TestGaudi(BackendConformance):
    """All checks of the kind, on the component as it is installed."""

    name = "gaudi"
    tolerance = 0.0  # the simulated device computes exactly what the CPU computes
    paths = Gaudi.conformance["paths"]
