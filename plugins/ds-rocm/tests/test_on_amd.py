"""What the backend does with torch, on the simulated device: each scenario in its own process."""

from types import SimpleNamespace

import jobs_on_amd as jobs
import pytest
import torch
from ds_rocm.backend import Rocm
from ds_rocm.dtypes import settle
from ds_rocm.tuning import tune_products
from torch import nn

from ds_core.errors import BackendError
from ds_core.testing import Faults
from ds_core.testing.first_script import loss_curve
from ds_core.testing.simulated import in_fresh_process


def test_the_same_script_gives_the_cpus_losses_bit_for_bit():
    on_cpu, cpu = in_fresh_process(loss_curve, "cpu")
    on_amd, amd = in_fresh_process(jobs.curve)
    assert on_amd == on_cpu
    assert (cpu, amd) == ("cpu", "amd:0")
    assert on_amd[-1] < on_amd[0]


@pytest.mark.parametrize(
    ("arch", "bare", "ocp", "fnuz"),
    [
        ("gfx942:sramecc+:xnack-", "gfx942", False, True),
        ("gfx950:sramecc+:xnack-", "gfx950", True, False),
        ("gfx1201", "gfx1201", True, False),
        ("gfx90a:sramecc+:xnack-", "gfx90a", False, False),
    ],
)
def test_each_architecture_has_its_own_float8(arch, bare, ocp, fnuz):
    info = in_fresh_process(jobs.dtypes_of, arch)
    assert info.arch == bare
    for form in ("e4m3fn", "e5m2"):
        assert info.dtypes[f"fp8_{form}"].works is ocp
    for form in ("e4m3fnuz", "e5m2fnuz"):
        assert info.dtypes[f"fp8_{form}"].works is fnuz
    assert info.dtypes["bf16"].works
    assert info.overflow == "inf"


def test_the_table_for_programs_and_the_one_for_people_agree():
    target = Rocm.porting()
    for arch in ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"):
        known = settle({}, arch)
        for name in ("fp8_e4m3fn", "fp8_e5m2"):
            assert target.dtype(name, arch).works is known[name].works


def test_tf32_says_which_switch_it_needs():
    assert "HIPBLASLT_ALLOW_TF32=1" in settle({}, "gfx942")["tf32"].reason
    assert "No matrix unit" in settle({}, "gfx1100")["tf32"].reason


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_training_in_16_bit(precision):
    losses = in_fresh_process(jobs.trained, precision)
    assert sum(losses[-5:]) < sum(losses[:5])


# On one device


@pytest.fixture
def backend(device):
    made = Rocm()
    made.activate()
    return made


def test_out_of_memory_is_torchs_own_error_and_passes(backend, device):
    with device.inject(Faults(out_of_memory_at=1)), pytest.raises(torch.OutOfMemoryError):
        torch.zeros(8, device="amd")
    assert torch.zeros(8, device="amd").sum() == 0


def test_activating_with_another_build_of_torch(device, monkeypatch):
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(BackendError) as caught:
        Rocm().activate()
    assert "not built for ROCm" in caught.value.what
    assert caught.value.mend


def test_activating_where_hip_finds_no_card(device, monkeypatch):
    def missing():
        raise RuntimeError("No HIP GPUs are available")

    monkeypatch.setattr(torch.amd, "init", missing)
    with pytest.raises(BackendError) as caught:
        Rocm().activate()
    assert "No HIP GPUs" in caught.value.what
    assert "render" in caught.value.mend


def tunable(results=2, enabled=False):
    """torch.cuda.tunable, as far as it is used: each enabled forward finds `results` kernels."""
    made = SimpleNamespace(on=enabled, tuning=True, found=[])

    def results_now():
        return made.found

    def enable(value):
        made.on = value

    def tuning_enable(value):
        made.tuning = value

    made.enable, made.is_enabled = enable, lambda: made.on
    made.tuning_enable, made.tuning_is_enabled = tuning_enable, lambda: made.tuning
    made.get_results, made.get_filename = results_now, lambda: "tunableop_results0.csv"
    made.found_each = results
    return made


class Multiplying(nn.Linear):
    def __init__(self, kernels):
        super().__init__(4, 4)
        self.kernels = kernels

    def forward(self, x):
        if self.kernels.on and self.kernels.tuning:
            self.kernels.found = [("GemmTunableOp", str(i)) for i in range(self.kernels.found_each)]
        return super().forward(x)


def test_kernels_are_chosen_and_stay_chosen(backend):
    kernels = tunable()
    model = Multiplying(kernels).to("amd").train()
    before = model.weight.detach().cpu()
    (sentence,) = tune_products(backend, model, (torch.randn(2, 4).to("amd"),), kernels)
    assert "2 matrix multiply shapes" in sentence
    assert (kernels.on, kernels.tuning) == (True, False)
    assert torch.equal(model.weight.detach().cpu(), before)
    assert model.training


def test_where_nothing_is_found_or_the_model_fails_all_is_as_it_was(backend):
    kernels = tunable(results=0)
    model = Multiplying(kernels).to("amd")
    assert tune_products(backend, model, (torch.randn(2, 4).to("amd"),), kernels) == ()
    assert not kernels.on
    with pytest.raises(RuntimeError):
        tune_products(backend, model, (torch.randn(2, 5).to("amd"),), kernels)
    assert not kernels.on


def test_the_users_own_switch_is_heeded(backend, monkeypatch):
    monkeypatch.setenv("PYTORCH_TUNABLEOP_ENABLED", "0")
    kernels = tunable()
    (sentence,) = tune_products(backend, Multiplying(kernels), (torch.randn(2, 4),), kernels)
    assert "PYTORCH_TUNABLEOP_ENABLED=0" in sentence
    assert not kernels.on


def test_kernels_are_tried_only_where_it_is_asked_for(backend, monkeypatch):
    monkeypatch.setattr("ds_rocm.tuning.tune_products", lambda *given: ("tuned",))
    model, inputs = nn.Linear(4, 4).to("amd"), (torch.randn(2, 4).to("amd"),)
    assert backend.tune(model, inputs).changes == ()
    assert Rocm(tunable_op=True).tune(model, inputs).changes == ("tuned",)
