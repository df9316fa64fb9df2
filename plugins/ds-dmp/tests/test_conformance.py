"""What every precision of ds-core must do; `pytest -v` shows each check by its name.

On this machine's CPU as it is, and on emulated 16-bit units, where the policy is at work whatever
the CPU can do: in bfloat16, in float16, and with memory saved.
"""

import pytest

from ds_core.testing import PrecisionConformance, emulated_16bit

QUICK = {"cost_gate": False, "every": 3}


class TestDmp(PrecisionConformance):
    """All checks of the kind, on the component as it is installed."""

    name = "dmp"


class Emulated(PrecisionConformance):
    name = "dmp"

    @pytest.fixture(autouse=True)
    def _units(self, monkeypatch):
        with emulated_16bit() as backend:
            monkeypatch.setattr(type(self), "backend", backend)
            yield

    def _in_process(self, method):
        pytest.skip("the emulation is in effect in this process alone")


class TestBfloat16(Emulated):
    options = QUICK


class TestFloat16(Emulated):
    options = {**QUICK, "dtypes": ["fp16"]}


class TestLean(Emulated):
    options = {**QUICK, "memory": "lean"}


class TestLeanPlus(Emulated):
    options = {**QUICK, "memory": "lean+"}
    tolerance = 0.2
