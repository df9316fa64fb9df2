"""What the backend does with torch, on the simulated device: each scenario in its own process."""

import jobs_on_hpu as jobs
import pytest
import torch
from ds_gaudi.backend import Gaudi
from torch import nn

from ds_core.errors import BackendError
from ds_core.testing import Faults
from ds_core.testing.first_script import loss_curve
from ds_core.testing.simulated import in_fresh_process


def test_the_same_script_gives_the_cpus_losses_bit_for_bit():
    on_cpu, cpu = in_fresh_process(loss_curve, "cpu")
    on_hpu, hpu = in_fresh_process(jobs.curve)
    assert on_hpu == on_cpu
    assert (cpu, hpu) == ("cpu", "hpu:0")
    assert on_hpu[-1] < on_hpu[0]


@pytest.mark.parametrize(("mode", "marks"), [("0", 0), ("1", 5)])
def test_steps_are_marked_in_lazy_mode_alone(mode, marks):
    assert in_fresh_process(jobs.steps_marked, mode) == marks


def test_the_first_gaudi_has_no_float16():
    info = in_fresh_process(jobs.dtypes_of, "GAUDI")
    assert info.arch == "gaudi"
    assert info.dtypes["bf16"].works
    assert not info.dtypes["fp16"].works
    assert "no float16" in info.dtypes["fp16"].reason
    assert not info.dtypes["fp8_e4m3fn"].works
    assert "dtype:fp16" in in_fresh_process(jobs.error_of, "fp16", "GAUDI")


def test_float16_without_inf_is_not_offered():
    info = in_fresh_process(jobs.dtypes_of, "GAUDI2", saturating=True)
    assert not info.dtypes["fp16"].works
    assert "no inf" in info.dtypes["fp16"].reason
    assert info.overflow == "inf"


def test_gaudi_2_has_its_own_float8():
    info = in_fresh_process(jobs.dtypes_of, "GAUDI2")
    assert info.dtypes["fp16"].works
    assert "240" in info.dtypes["fp8_e4m3fn"].reason
    assert "240" not in in_fresh_process(jobs.dtypes_of, "GAUDI3").dtypes["fp8_e4m3fn"].reason


# On one device


@pytest.fixture
def backend(device):
    made = Gaudi()
    made.activate()
    return made


def test_memory_is_told_under_the_bridges_own_names(backend):
    backend.reset_peak_memory()
    before = backend.memory()
    held = torch.ones(2**20, device="hpu")
    after = backend.memory()
    assert after.allocated - before.allocated == 2**22
    assert after.total - after.free == after.allocated
    del held
    assert backend.memory().peak >= after.allocated
    assert backend.memory().reserved is None


def test_out_of_memory_is_torchs_own_error_and_passes(backend, device):
    with device.inject(Faults(out_of_memory_at=1)), pytest.raises(torch.OutOfMemoryError):
        torch.zeros(8, device="hpu")
    assert torch.zeros(8, device="hpu").sum() == 0


def test_hccl_has_no_average_and_none_is_promised(backend, tmp_path):
    import torch.distributed as dist

    dist.init_process_group(
        backend.distributed_backend(), init_method=f"file://{tmp_path}/s", rank=0, world_size=1
    )
    try:
        value = torch.ones(2, device="hpu")
        for op in ("sum", "product", "min", "max", "avg"):
            if op in backend.reduce_ops():
                dist.all_reduce(value, getattr(dist.ReduceOp, op.upper()))
            else:
                with pytest.raises(RuntimeError, match=op.upper()):
                    dist.all_reduce(value, getattr(dist.ReduceOp, op.upper()))
    finally:
        dist.destroy_process_group()


def test_every_process_calls_its_card_by_the_same_name(backend, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "5")
    assert str(backend.device()) == "hpu:0"


def test_activating_where_the_bridge_cannot_be_loaded(device, monkeypatch):
    def missing(name):
        raise AssertionError("Error: Compile-time major/minor PyTorch version 2.7 differs.")

    monkeypatch.setattr("ds_gaudi.backend.import_module", missing)
    with pytest.raises(BackendError) as caught:
        Gaudi().activate()
    assert "Compile-time" in caught.value.what
    assert "compiled for" in caught.value.mend


def test_odd_sides_are_named_and_left(backend):
    model = nn.Sequential(nn.Linear(128, 256), nn.ReLU(), nn.Linear(256, 1000)).to("hpu")
    (sentence,) = backend.tune(model, (torch.randn(2, 128).to("hpu"),)).changes
    assert "1 of 2" in sentence
    assert "2 (256 to 1000)" in sentence
    assert model[2].weight.shape == (1000, 256)
    full = nn.Sequential(nn.Linear(128, 256)).to("hpu")
    assert backend.tune(full, (torch.randn(2, 128).to("hpu"),)).changes == ()


def test_compiling_with_the_vendors_backend(backend):
    assert backend.compile_backend() == "hpu_backend"
    layer = nn.Linear(4, 4).to("hpu")
    x = torch.randn(2, 4).to("hpu")
    compiled = torch.compile(layer, backend=backend.compile_backend())
    assert torch.allclose(compiled(x).cpu(), layer(x).cpu())
