"""What every backend of ds-core must do, on the simulated device; `pytest -v` shows each check."""

import pytest
from ds_rocm.backend import Rocm

from ds_core.testing import BackendConformance


@pytest.mark.usefixtures("device")
class TestRocm(BackendConformance):
    """All checks of the kind, on the component as it is installed."""

    name = "rocm"
    tolerance = 0.0  # the simulated device computes exactly what the CPU computes
    paths = Rocm.conformance["paths"]
