"""What every backend of ds-core must do, with the vendor's torch_npu beneath it."""

import pytest
from ds_ascend.backend import Ascend

from ds_core.testing import BackendConformance


@pytest.mark.usefixtures("computing")
class TestAscend(BackendConformance):
    """All checks of the kind: autograd, autocast, memory and random state are torch_npu's own."""

    name = "ascend"
    tolerance = 0.0  # operators are the CPU's
    paths = Ascend.conformance["paths"]
