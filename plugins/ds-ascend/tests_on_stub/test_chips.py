"""What the chip says of itself, as torch_npu understands it: each chip in a process of its own."""

import re

import jobs_on_stub as on_stub
import pytest
from cann_stub.building import vendor
from ds_ascend.socs import has_bf16, has_inf, number

from ds_core.testing.simulated import in_fresh_process


@pytest.mark.parametrize(
    ("soc", "bf16", "inf"),
    [
        ("Ascend910B1", True, True),
        ("Ascend910_9391", True, True),
        ("Ascend950PR_9599", True, True),
        ("Ascend910B", False, False),
        ("Ascend910A", False, False),
        ("Ascend310P3", False, False),
        ("Ascend310B1", True, False),
    ],
)
def test_a_chip(soc, bf16, inf, monkeypatch):
    monkeypatch.setenv("CANN_STUB_SOC", soc)
    found = in_fresh_process(on_stub.chip, saturating=not inf)
    info = found["info"]
    assert (info.name, info.device) == (soc, "npu:0")
    # The tables of ds_ascend.socs say what torch_npu says.
    assert found["number"] == number(soc)
    assert (info.dtypes["bf16"].works, info.overflow) == (bf16, "inf" if inf else "saturate")
    assert (has_bf16(soc), has_inf(soc)) == (bf16, inf)
    assert info.dtypes["fp32"].works
    assert info.dtypes["fp16"].works
    assert info.dtypes["fp8_e4m3fn"].works == soc.startswith("Ascend950")
    assert found["flags"] == ([None] * 3 if inf else [False, True, False])
    assert found["largest"] == (float("inf") if inf else 65504.0)


def test_every_chip_that_torch_npu_names_is_known():
    library = (vendor() / "lib/libtorch_npu.so").read_bytes()
    names = set(re.findall(rb"\0(Ascend(?:310|910)\w[\w-]*)\0", library))
    assert len(names) > 20
    assert not [name for name in names if number(name.decode()) is None]


@pytest.mark.parametrize(
    ("variable", "value", "what", "mend"),
    [
        ("CANN_STUB_SOC", "Ascend1234", "Unsupported soc version: Ascend1234", "newer"),
        ("CANN_STUB_DEVICES", "0", "sees no NPU", "npu-smi"),
        ("CANN_STUB_MEMORY", "1000", "out of memory", "Free memory on the NPU"),
    ],
)
def test_what_is_said_of_a_device_that_cannot_be_used(variable, value, what, mend, monkeypatch):
    monkeypatch.setenv(variable, value)
    said, advice = in_fresh_process(on_stub.refusal)
    assert what in said
    assert mend in advice
    assert "\n" not in said
