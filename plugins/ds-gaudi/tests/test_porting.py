"""What code for CUDA meets: the tables are about what the contract asks."""

import subprocess
import sys

from ds_gaudi.backend import Gaudi
from ds_gaudi.hardware import MODELS

from ds_core.components.porting import CUDA_PACKAGES, DTYPES


def test_the_tables_are_about_what_the_contract_asks():
    target = Gaudi.porting()
    assert set(target.packages) <= set(CUDA_PACKAGES)
    assert {rule.dtype for rule in target.dtypes} == set(DTYPES)
    assert (target.device_type, target.collective) == ("hpu", "hccl")
    assert target.static_shapes
    assert target.native is None
    assert target.native_absent


def test_each_generation_that_the_probe_names_has_a_verdict():
    target = Gaudi.porting()
    for arch, _ in MODELS.values():
        assert target.dtype("bf16", arch).works is True
        assert target.dtype("fp16", arch).works is (arch != "gaudi")
        assert target.dtype("fp8_e4m3fn", arch).works is (arch != "gaudi")
        assert target.dtype("fp64", arch).works is False
    assert target.dtype("fp16", "").works is None


def test_reading_them_imports_no_torch():
    code = "import sys; from ds_gaudi.backend import Gaudi; Gaudi.porting(); "
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)
