"""What code for CUDA meets: the tables are about what the contract asks."""

import subprocess
import sys

from ds_ascend.backend import Ascend
from ds_ascend.socs import FAMILIES, WITH_BF16, WITHOUT_BF16

from ds_core.components.porting import CUDA_PACKAGES, DTYPES


def test_the_tables_are_about_what_the_contract_asks():
    target = Ascend.porting()
    assert set(target.packages) <= set(CUDA_PACKAGES)
    assert {rule.dtype for rule in target.dtypes} == set(DTYPES)
    assert (target.device_type, target.collective) == ("npu", "hccl")
    assert target.native is None
    assert target.native_absent


def test_each_family_that_the_probe_names_has_a_verdict_on_bf16():
    target = Ascend.porting()
    for arch, _ in FAMILIES.values():
        assert target.dtype("bf16", arch).works is (arch in WITH_BF16)
        assert (arch in WITH_BF16) != (arch in WITHOUT_BF16)
    assert target.dtype("bf16", "").works is None


def test_reading_them_imports_no_torch():
    code = "import sys; from ds_ascend.backend import Ascend; Ascend.porting(); "
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)
