"""Trainings on torch_npu: its autograd, autocast and copies, the CPU's operators."""

import jobs_on_stub as on_stub
import pytest
import torch
from torch import nn

import ds_core as ds
from ds_core.testing import jobs
from ds_core.testing.first_script import loss_curve
from ds_core.testing.simulated import in_fresh_process


def test_the_first_script_gives_the_cpus_losses_bit_for_bit(computing):
    on_cpu, cpu = loss_curve("cpu")
    on_npu, npu = loss_curve("ascend")
    assert on_npu == on_cpu
    assert (cpu, npu) == ("cpu", "npu:0")
    assert on_npu[-1] < on_npu[0]


def test_attention_is_composed_otherwise_and_agrees_to_rounding(computing):
    def losses(device):
        torch.manual_seed(0)
        model = jobs.Attention().to(device)
        return jobs.train(model, jobs.sgd(model), 5, device=device)

    assert losses("npu") == pytest.approx(losses("cpu"), rel=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_autocast_computes_in_sixteen_bits(computing, precision):
    torch.manual_seed(0)
    model, seen = jobs.Mlp(), []
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
    model.first.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    with ds.attach(model, optimizer, backend="ascend", precision=precision) as session:
        losses = jobs.train(model, optimizer, 40, device=session.device)
    assert set(seen) == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert sum(losses[-5:]) < sum(losses[:5])
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_a_loss_scale_comes_down_though_nothing_is_ever_inf(monkeypatch):
    monkeypatch.setenv("CANN_STUB_SOC", "Ascend910A")
    losses, scale = in_fresh_process(on_stub.saturated_training)
    assert scale < 2.0**24
    assert sum(losses[-5:]) < sum(losses[:5])


def test_dropout_draws_from_the_devices_generator(computing):
    dropout, ones = nn.Dropout(0.5), torch.ones(64, device="npu")
    torch.npu.manual_seed(3)
    first, second = dropout(ones).cpu(), dropout(ones).cpu()
    torch.npu.manual_seed(3)
    assert torch.equal(dropout(ones).cpu(), first)
    assert not torch.equal(first, second)
