"""What the backend does with torch, on the simulated device: each scenario in its own process."""

import jobs_on_npu as jobs
import pytest
import torch
from ds_ascend.backend import Ascend
from ds_ascend.socs import has_bf16, has_inf, number
from torch import nn

from ds_core.errors import BackendError
from ds_core.testing import Faults
from ds_core.testing.first_script import loss_curve
from ds_core.testing.simulated import in_fresh_process


def test_the_same_script_gives_the_cpus_losses_bit_for_bit():
    on_cpu, cpu = in_fresh_process(loss_curve, "cpu")
    on_npu, npu = in_fresh_process(jobs.curve)
    assert on_npu == on_cpu
    assert (cpu, npu) == ("cpu", "npu:0")
    assert on_npu[-1] < on_npu[0]


def test_a_chip_of_the_first_generation():
    info, quiet, after_overflow, afterwards = in_fresh_process(jobs.of_the_first_generation)
    assert info.overflow == "saturate"
    assert not info.dtypes["bf16"].works
    assert "Ascend910B has no bfloat16" in info.dtypes["bf16"].reason
    assert "flag" in info.dtypes["fp16"].reason
    assert info.best in ("fp16", "fp32")
    assert (quiet, after_overflow, afterwards) == (False, True, False)


def test_a_loss_scale_comes_down_though_nothing_is_ever_inf():
    losses, scale = in_fresh_process(jobs.saturated_training)
    assert scale < 2.0**24
    assert sum(losses[-5:]) < sum(losses[:5])


def test_bf16_is_refused_where_the_chip_lacks_it():
    message = in_fresh_process(jobs.refuses_bf16)
    assert "dtype:bf16" in message
    assert "fp16" in message


@pytest.mark.parametrize(
    ("name", "bf16", "inf"),
    [
        ("Ascend910B", False, False),
        ("Ascend910B1", True, True),
        ("Ascend910A", False, False),
        ("Ascend310P3", False, False),
        ("Ascend310B1", True, False),
        ("Ascend910_9392", True, True),
        ("Ascend950PR_9599", True, True),
        ("Ascend1234", None, None),
    ],
)
def test_what_a_chips_name_means(name, bf16, inf):
    assert has_bf16(name) is bf16
    assert has_inf(name) is inf
    assert (number(name) is None) == (bf16 is None)


# On one device


@pytest.fixture
def backend(device):
    made = Ascend()
    made.activate()
    return made


def test_out_of_memory_is_torchs_own_error_and_passes(backend, device):
    with device.inject(Faults(out_of_memory_at=1)), pytest.raises(torch.OutOfMemoryError):
        torch.zeros(8, device="npu")
    assert torch.zeros(8, device="npu").sum() == 0


def test_a_reduction_that_the_library_lacks(backend, device, tmp_path):
    import torch.distributed as dist

    dist.init_process_group(
        backend.distributed_backend(), init_method=f"file://{tmp_path}/s", rank=0, world_size=1
    )
    try:
        value = torch.ones(2, device="npu")
        with (
            device.inject(Faults(missing_reduce_ops=frozenset({"avg"}))),
            pytest.raises(RuntimeError, match="AVG with HCCL"),
        ):
            dist.all_reduce(value, dist.ReduceOp.AVG)
        dist.all_reduce(value, dist.ReduceOp.AVG)
        assert value.tolist() == [1.0, 1.0]
    finally:
        dist.destroy_process_group()


def test_activating_where_torch_npu_cannot_be_loaded(device, monkeypatch):
    def missing(name):
        raise ImportError("libhccl.so: cannot open shared object file")

    monkeypatch.setattr("ds_ascend.backend.import_module", missing)
    with pytest.raises(BackendError) as caught:
        Ascend().activate()
    assert "libhccl.so" in caught.value.what
    assert "set_env.sh" in caught.value.mend


def test_activating_without_a_card_says_so(device, monkeypatch):
    from ds_ascend import detect

    from ds_core.components import Probe

    monkeypatch.setattr(detect, "probe", lambda root="/": Probe(present=False))
    monkeypatch.setattr("ds_ascend.backend.import_module", lambda name: 1 / 0)
    with pytest.raises(ZeroDivisionError):  # a mistake of ours is not dressed up as the user's
        Ascend().activate()
    monkeypatch.setattr(torch.npu, "device_count", lambda: 0)
    monkeypatch.setattr("ds_ascend.backend.import_module", lambda name: torch)
    with pytest.raises(BackendError, match="No Ascend card"):
        Ascend().activate()


class Timed(nn.Module):
    """A forward whose duration depends on whether its weight is in tiles."""

    def __init__(self, clock, vendor, dtype=torch.float16, width=32):
        super().__init__()
        self.layer = nn.Linear(width, 16, dtype=dtype)
        self.clock, self.vendor = clock, vendor

    def forward(self, x):
        tiled = self.vendor.get_npu_format(self.layer.weight.data) == 29
        self.clock.now += self.clock.tiled if tiled else 1.0
        return self.layer(x)


class Clock:
    def __init__(self, tiled):
        self.now, self.tiled = 0.0, tiled


@pytest.mark.parametrize(("tiled", "taken"), [(0.5, True), (0.97, False), (2.0, False)])
def test_tiles_are_taken_where_they_are_faster(backend, monkeypatch, tiled, taken):
    import torch_npu

    clock = Clock(tiled)
    monkeypatch.setattr("time.perf_counter", lambda: clock.now)
    model = Timed(clock, torch_npu).to("npu").train()
    parameter, before = model.layer.weight, model.layer.weight.detach().cpu()
    (sentence,) = backend.tune(model, (torch.randn(4, 32, dtype=torch.float16).to("npu"),)).changes
    assert ("stored in tiles" in sentence) == taken
    assert (torch_npu.get_npu_format(model.layer.weight.data) == 29) == taken
    assert model.layer.weight is parameter
    assert torch.equal(model.layer.weight.detach().cpu(), before)
    assert model.training


@pytest.mark.parametrize(("dtype", "width"), [(torch.float32, 32), (torch.float16, 40)])
def test_other_weights_stay_plain(backend, dtype, width):
    import torch_npu

    model = Timed(Clock(0.1), torch_npu, dtype, width).to("npu")
    inputs = torch.randn(4, width).to("npu", dtype)
    (sentence,) = backend.tune(model, (inputs,)).changes
    assert "multiples of 16" in sentence
    assert torch_npu.get_npu_format(model.layer.weight.data) == 2


def test_a_torch_npu_that_makes_no_tiles(backend, monkeypatch):
    import torch_npu

    monkeypatch.setattr(torch_npu, "npu_format_cast", lambda tensor, number: tensor)
    model = Timed(Clock(0.1), torch_npu).to("npu")
    inputs = torch.randn(4, 32, dtype=torch.float16).to("npu")
    (sentence,) = backend.tune(model, (inputs,)).changes
    assert "allow_internal_format" in sentence


def test_a_model_that_fails_on_the_inputs_is_left_as_it_was(backend):
    import torch_npu

    model = Timed(Clock(0.1), torch_npu).to("npu")
    with pytest.raises(RuntimeError):
        backend.tune(model, (torch.randn(4, 5, dtype=torch.float16).to("npu"),))
    assert torch_npu.get_npu_format(model.layer.weight.data) == 2


def test_compiler_and_collective(backend, monkeypatch):
    assert backend.distributed_backend() == "hccl"
    assert backend.compile_backend() == "aot_eager"
    from ds_ascend import packages

    monkeypatch.setattr(packages, "installed", lambda: packages.Packages(None, "1", "3.2.0"))
    assert backend.compile_backend() == "inductor"
