"""The simulated device, each scenario in a process of its own."""

import concurrent.futures
import copy
import ctypes
import gc
import io
import json
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

import ds_core as ds
from ds_core.builtin.autocast import Bf16, Fp16
from ds_core.components import Backend, BackendInfo, Device, Probe
from ds_core.components.dtype_speed import measure
from ds_core.errors import ConfigError, RefusedError
from ds_core.testing import Faults, jobs, simulated_device
from ds_core.testing.simulated import in_fresh_process
from tests.torchrun import ranks

GAUDI_KEYS = {"limit": "Limit", "allocated": "InUse", "peak": "MaxInUse"}


# What is trained


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, stride=2, groups=2), nn.GELU()),
            *(nn.ConvTranspose2d(16, 8, 2), nn.AdaptiveAvgPool2d(2)),
        )
        self.head = nn.Linear(32, 4)

    def forward(self, x):
        return self.head(self.body(x.reshape(-1, 3, 8, 8)).flatten(1))


class Mlp(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(192, 32), nn.LayerNorm(32), nn.Linear(32, 4)

    def hidden(self, x):
        return torch.tanh(self.norm(self.first(x)))

    def forward(self, x):
        return self.last(self.hidden(x))


class Checkpointed(Mlp):
    reentrant = False

    def forward(self, x):
        return self.last(checkpoint(self.hidden, x.requires_grad_(), use_reentrant=self.reentrant))


class Reentrant(Checkpointed):
    reentrant = True


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)
        self.last = nn.Linear(16, 4)

    def forward(self, x):
        tokens = (x[:, :24].abs() * 20).long().clamp(max=49)
        hidden = self.layer(self.embed(tokens))
        hidden = hidden + self.attention(hidden, hidden, hidden)[0]
        heads = hidden.view(len(x), 24, 2, 8).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(heads, heads, heads, is_causal=True)
        return self.last(mixed.transpose(1, 2).flatten(2).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind, packed=False):
        super().__init__()
        self.layers = kind(8, 16, num_layers=2, batch_first=True, bidirectional=True)
        self.last = nn.Linear(32, 4)
        self.packed = packed

    def forward(self, x):
        sequences = x.reshape(-1, 24, 8)
        if self.packed:
            lengths = torch.arange(len(x)) + 10
            sequences = nn.utils.rnn.pack_padded_sequence(
                sequences, lengths, batch_first=True, enforce_sorted=False
            )
        output = self.layers(sequences)[0]
        if self.packed:
            output = nn.utils.rnn.pad_packed_sequence(output, batch_first=True)[0]
        return self.last(output[:, 0])


MODELS = {
    "mlp": Mlp,
    "cnn": Cnn,
    "transformer": Transformer,
    "lstm": lambda: Recurrent(nn.LSTM),
    "gru": lambda: Recurrent(nn.GRU),
    "rnn": lambda: Recurrent(nn.RNN),
    "packed lstm": lambda: Recurrent(nn.LSTM, packed=True),
    "checkpointed": Checkpointed,
    "checkpointed, reentrant": Reentrant,
}

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2),
    "adamw, foreach": lambda p: torch.optim.AdamW(p, 1e-2, foreach=True),
    "adamw, one by one": lambda p: torch.optim.AdamW(p, 1e-2, foreach=False),
    "adamw, fused": lambda p: torch.optim.AdamW(p, 1e-2, fused=True),
}


def train(device, model, optimizer, steps=3):
    torch.manual_seed(0)
    made = MODELS[model]().to(device)
    optimizer = OPTIMIZERS[optimizer](made.parameters())
    random = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(steps):
        x = torch.randn(6, 192, generator=random).to(device)
        y = torch.randint(4, (6,), generator=random).to(device)
        loss = F.cross_entropy(made(x), y, label_smoothing=0.1)
        loss.backward()
        nn.utils.clip_grad_norm_(made.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses, {name: value.cpu() for name, value in made.state_dict().items()}


def refused(call, *words, error=RuntimeError):
    with pytest.raises(error) as caught:
        call()
    assert all(word in str(caught.value) for word in words), caught.value
    return True


# Training


def trained_alike(name):
    device = simulated_device(name)
    jobs = [(model, optimizer) for model in MODELS for optimizer in ("sgd", "adamw")]
    jobs += [("mlp", optimizer) for optimizer in OPTIMIZERS]
    different = []
    for job in jobs:
        losses, weights = train("cpu", *job)
        simulated_losses, simulated_weights = train(name, *job)
        if losses != simulated_losses or not all(
            torch.equal(value, simulated_weights[key]) for key, value in weights.items()
        ):
            different.append(job)
    assert device.memory.peak > 0
    return different


@pytest.mark.parametrize("name", ["npu", "hpu"])
def test_float32_training_is_the_cpus_bit_for_bit(name):
    assert in_fresh_process(trained_alike, name) == []


def compiled():
    simulated_device("npu")
    differences = {}
    for backend in ("eager", "aot_eager"):
        for kind in (Cnn, Transformer):
            results = []
            for device in ("cpu", "npu"):
                torch.manual_seed(0)
                model = kind().to(device)
                x = torch.randn(4, 192, generator=torch.Generator().manual_seed(1)).to(device)
                torch.compile(model, backend=backend)(x).square().mean().backward()
                results.append(torch.cat([p.grad.cpu().flatten() for p in model.parameters()]))
            differences[backend, kind.__name__] = (results[0] - results[1]).abs().max().item()
    model = torch.compile(Mlp().to("npu"), backend="inductor")
    refused(lambda: model(torch.ones(2, 192, device="npu")), error=Exception)
    return differences


@pytest.mark.slow
def test_torch_compile_works_but_for_inductor():
    differences = in_fresh_process(compiled)
    # Traced attention is composed for the device, and rounds differently from the CPU's.
    assert differences.pop(("aot_eager", "Transformer")) < 1e-5
    assert set(differences.values()) == {0.0}


# Tensors


def plain_tensors():
    simulated_device("npu")
    x = torch.randn(4, 4).to("npu")
    assert type(x) is torch.Tensor
    assert type(nn.Parameter(x)) is nn.Parameter
    assert x.is_npu
    assert x.tolist() == x.cpu().tolist()
    # Views and in-place operations reach the same memory.
    y = torch.zeros(4, 4, device="npu")
    y[1:3, ::2].add_(1)
    y.view(-1)[0] = 7
    y.t()[3].copy_(torch.ones(4))
    assert y.sum().item() == 15
    assert y.view(torch.int32).view(torch.float32).equal(y)
    images = torch.randn(2, 3, 4, 5).to("npu", memory_format=torch.channels_last)
    assert images.stride() == (60, 1, 15, 3)
    assert torch.relu(images).is_contiguous(memory_format=torch.channels_last)
    # `out` follows the result's shape, and what shares its memory stays.
    out = torch.empty(0, device="npu")
    torch.add(x, x, out=out)
    assert out.equal(x + x)
    assert torch.empty(0, device="npu").resize_(3, 4).zero_().sum().item() == 0
    # Modes, transforms and default devices.
    with torch.device("npu"):
        assert torch.ones(2).device == torch.device("npu:0") == nn.Linear(2, 2).weight.device
    with torch.autocast("cpu", torch.bfloat16):
        assert (x @ x).dtype == torch.float32
    with torch.inference_mode():
        assert (x + 1).mul_(2).device.type == "npu"
    assert torch.func.grad(lambda a: (a * a).sum())(x).equal(2 * x)
    assert torch.vmap(lambda a: a.sum())(x).allclose(x.sum(1))
    return True


def test_tensors_are_torchs_own():
    assert in_fresh_process(plain_tensors)


def copies():
    simulated_device("npu")
    model = Cnn().to("npu")
    x = torch.randn(3, 4).to("npu")
    kept = [id(parameter) for parameter in model.parameters()]
    tied = jobs.Tied().to("npu")
    assert tied.a.weight is tied.b.weight
    assert [id(parameter) for parameter in model.to("cpu").to("npu").parameters()] == kept
    assert pickle.loads(pickle.dumps(x)).equal(x)
    twin = copy.deepcopy(model)
    assert all(
        torch.equal(*pair) for pair in zip(model.parameters(), twin.parameters(), strict=True)
    )
    assert copy.deepcopy(x).data_ptr() != x.data_ptr()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "x": x, "row": x[1]}, file)
    for where, expected in ((None, "npu"), ("cpu", "cpu"), ("npu", "npu")):
        file.seek(0)
        loaded = torch.load(file, map_location=where, weights_only=True)
        assert loaded["x"].device.type == expected
        assert loaded["x"].cpu().equal(x.cpu())
        loaded["row"].zero_()
        assert loaded["x"][1].sum().item() == 0, "two views of one storage were saved"
        twin.load_state_dict(loaded["model"])
    data = torch.utils.data.TensorDataset(torch.randn(10, 4))
    for workers in (0, 2):
        for (batch,) in torch.utils.data.DataLoader(data, 5, num_workers=workers):
            assert batch.to("npu", non_blocking=True).cpu().equal(batch)
    return True


def test_copies_saves_and_loads():
    assert in_fresh_process(copies)


def strangers():
    simulated_device("npu")
    x, host, zero = torch.ones(4, 4, device="npu"), torch.ones(4, 4), torch.tensor(1.0)
    labels = torch.zeros(4, dtype=torch.long)
    return (
        all(
            refused(call, "same device", "npu:0", "cpu")
            for call in (
                lambda: x + host,
                lambda: host + x,
                lambda: host @ x,
                lambda: host.add_(x),
                lambda: zero.add_(x.sum()),
                lambda: torch.add(x, x, out=torch.empty(4, 4)),
                lambda: torch.cat([x, host]),
                lambda: torch.where(x > 0, x, host),
                lambda: F.cross_entropy(x, labels),
                lambda: nn.Embedding(4, 4).to("npu")(labels),
                lambda: nn.Linear(4, 4)(x),
                lambda: nn.LSTM(4, 4)(x),
                lambda: F.scaled_dot_product_attention(x[None], x[None], host[None]),
                lambda: host[labels.to("npu")],
            )
        )
        and (x + zero).equal(2 * x)
        and x[labels].equal(x)
    )


def test_tensors_of_the_cpu_do_not_mix_with_the_devices():
    assert in_fresh_process(strangers)


def absences():
    simulated_device("npu")
    x = torch.ones(4, 4, device="npu")
    torch.library.define("strange::op", "(Tensor x) -> Tensor")
    torch.library.impl("strange::op", "CPU", lambda x: x.clone())
    assert torch.ops.strange.op(torch.ones(2)).sum() == 2
    absent = NotImplementedError
    return all(
        [
            refused(lambda: torch.empty(3, device="npu:1"), "ordinal 1", "simulated npu"),
            refused(lambda: torch.ones(3).to("npu:1"), "ordinal 1"),
            refused(lambda: torch.npu.set_device(1), "ordinal 1"),
            refused(lambda: x.numpy(), "npu:0", error=TypeError),
            refused(lambda: torch.ops.strange.op(x), "strange::op", "npu", error=absent),
            refused(lambda: x.to_sparse(), "npu", error=absent),
            refused(lambda: torch.quantize_per_tensor(x, 1, 0, torch.qint8), error=absent),
            refused(lambda: torch.Generator("npu"), error=absent),
            refused(lambda: torch.rand(3, device="npu", generator=torch.Generator()), "cpu"),
            refused(lambda: torch.empty(3, device="npu", pin_memory=True), "pinned"),
        ]
    )


def test_what_the_device_lacks_is_refused():
    assert in_fresh_process(absences)


def read_on_the_host():
    simulated_device("npu")
    return ctypes.string_at(torch.ones(4, device="npu").data_ptr(), 16)


def test_code_that_reads_device_memory_on_the_host_crashes():
    with pytest.raises(concurrent.futures.process.BrokenProcessPool):
        in_fresh_process(read_on_the_host)


def changed_before_backward():
    simulated_device("npu")
    layer = nn.LSTM(4, 4).to("npu")
    loss = layer(torch.ones(2, 3, 4, device="npu"))[0].sum()
    with torch.no_grad():
        layer.weight_ih_l0.add_(1)
    return refused(loss.backward, "modified by an inplace operation")


def test_weights_changed_before_backward_are_noticed():
    assert in_fresh_process(changed_before_backward)


# Random numbers


def random_numbers():
    torch.manual_seed(3)
    simulated_device("npu")

    def draw():
        return torch.cat([torch.rand(3, device="npu"), F.dropout(torch.ones(3, device="npu"))])

    torch.manual_seed(3)
    host = torch.get_rng_state()
    first, state = draw(), torch.npu.get_rng_state()
    second = draw()
    assert not first.equal(second)
    torch.npu.set_rng_state(state)
    assert draw().equal(second)
    torch.manual_seed(3)
    assert draw().equal(first)
    assert torch.get_rng_state().equal(host), "the CPU's numbers are its own"
    with torch.random.fork_rng(devices=[0], device_type="npu"):
        draw()
    assert draw().equal(second)

    def gradient(run):
        x = torch.ones(64, device="npu", requires_grad=True)
        torch.manual_seed(1)
        run(lambda x: F.dropout(x * x), x).sum().backward()
        return x.grad

    plain = gradient(lambda f, x: f(x))
    return plain.equal(gradient(lambda f, x: checkpoint(f, x, use_reentrant=False)))


def test_random_numbers_are_the_devices_own():
    assert in_fresh_process(random_numbers)


# Memory


def memory_figures():
    device = simulated_device("hpu", memory=2**20, memory_keys=GAUDI_KEYS)
    assert torch.hpu.memory_stats() == {"Limit": 2**20, "InUse": 0, "MaxInUse": 0}
    big = torch.empty(2**16, device="hpu")
    view = big[:4]
    assert torch.hpu.memory_stats()["InUse"] == 2**18
    del big
    assert torch.hpu.memory_allocated() == 2**18, "the view keeps it"
    x = torch.nn.Parameter(view)
    del view
    assert torch.hpu.memory_allocated() == 2**18
    del x
    assert torch.hpu.memory_stats() == {"Limit": 2**20, "InUse": 0, "MaxInUse": 2**18}
    assert torch.hpu.mem_get_info() == (2**20, 2**20)
    assert torch.hpu.memory_reserved() == 2**20
    torch.hpu.empty_cache()
    assert torch.hpu.memory_reserved() == 0
    torch.hpu.reset_peak_memory_stats()
    assert torch.hpu.max_memory_allocated() == 0
    refused(
        lambda: torch.empty(2**18 + 1, device="hpu"),
        "out of memory",
        "simulated hpu",
        error=torch.OutOfMemoryError,
    )

    def three_halves():
        half = torch.empty(2**17, device="hpu")
        return half + half + half

    refused(three_halves, error=torch.OutOfMemoryError)
    gc.collect()
    assert device.memory.allocated == 0
    assert device.memory.failures == 2
    return True


def test_memory_is_counted_under_the_vendors_names_and_limited():
    assert in_fresh_process(memory_figures)


def accelerator():
    simulated_device("npu", memory=2**30)
    x = torch.ones(2**10, device="npu")
    torch.accelerator.synchronize()
    assert torch.accelerator.current_accelerator() == torch.device("npu")
    assert torch.accelerator.is_available()
    assert torch.accelerator.device_count() == 1
    assert torch.accelerator.current_device_index() == 0
    assert torch.accelerator.memory_allocated() == x.nbytes
    assert torch.accelerator.get_memory_info() == (2**30 - x.nbytes, 2**30)
    torch.accelerator.empty_cache()
    torch.accelerator.reset_peak_memory_stats()
    assert torch.accelerator.max_memory_allocated() == x.nbytes
    assert torch.float16 in torch.accelerator.get_device_capability()["supported_dtypes"]
    assert torch.get_device_module("npu") is torch.npu
    return torch.npu.get_device_name(), torch.npu.get_device_properties(0).name


def test_torch_accelerator_and_the_name_that_says_simulated():
    name, same = in_fresh_process(accelerator)
    assert name == same
    assert name.startswith("Simulated npu on ")


# Faults


def out_of_memory_at():
    device = simulated_device("npu")
    torch.ones(3, device="npu")
    with device.inject(Faults(out_of_memory_at=2)):
        kept = torch.empty(3, device="npu")
        refused(lambda: torch.empty(3, device="npu"), "injected", error=torch.OutOfMemoryError)
        torch.empty(3, device="npu")
    torch.empty(3, device="npu")
    return kept.shape == (3,)


def test_out_of_memory_at_an_allocation():
    assert in_fresh_process(out_of_memory_at)


def saturating():
    device = simulated_device("npu")
    big = torch.full((2,), 6e4, device="npu", dtype=torch.float16)
    assert (big + big).tolist() == [float("inf")] * 2
    with device.inject(Faults(saturating_fp16=True)):
        assert not torch.npu.overflow_flag()
        torch.empty(100, device="npu", dtype=torch.float16)
        assert not torch.npu.overflow_flag(), "memory that nothing was computed in"
        assert (big + big).tolist() == [65504.0] * 2
        assert (-big - big).tolist() == [-65504.0] * 2
        assert torch.npu.overflow_flag()
        torch.npu.clear_overflow_flag()
        assert ((big - big) / (big - big)).tolist() == [0.0] * 2
        assert torch.full((1,), 1e9, device="npu").half().item() == 65504.0
        assert torch.tensor([1e30], device="npu").mul(1e30).item() == float("inf"), "fp16 alone"
        torch.npu.clear_overflow_flag()
        assert big.mul_(2).tolist() == [65504.0] * 2
        assert torch.npu.overflow_flag()
    return True


def test_saturating_float16():
    assert in_fresh_process(saturating)


def missing_dtype():
    faults = Faults(missing_dtypes=frozenset({"bfloat16"}))
    device = simulated_device("npu", faults=faults)
    x = torch.ones(4, 4, device="npu")
    assert torch.npu.get_amp_supported_dtype() == [torch.float16]
    assert not torch.npu.is_bf16_supported()
    refused(lambda: x.bfloat16(), "bfloat16", "simulated npu")
    refused(lambda: torch.ones(2, dtype=torch.bfloat16).to("npu"), "bfloat16")
    with device.inject(Faults()):
        assert x.bfloat16().dtype == torch.bfloat16
    return refused(lambda: x.bfloat16(), "bfloat16")


def test_missing_dtype():
    assert in_fresh_process(missing_dtype)


# Mixed precision


def autocast():
    simulated_device("npu", autocast_dtypes=["bfloat16", "float16"])
    x = torch.randn(4, 4, device="npu")
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("npu", dtype):
            low = x @ x
            assert low.dtype == F.linear(x, x).dtype == dtype
            assert low.equal(x.to(dtype) @ x.to(dtype))
            assert F.scaled_dot_product_attention(x[None], x[None], x[None]).dtype == dtype
            assert nn.LSTM(4, 4).to("npu")(x)[0].dtype == dtype
            assert torch.softmax(low, -1).dtype == torch.float32
            assert torch.cat([low, x]).dtype == torch.float32
            assert torch.relu(low).dtype == dtype
            assert (x.double() @ x.double()).dtype == torch.float64
            with torch.autocast("npu", enabled=False):
                assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.float32
    return True


def test_autocast():
    assert in_fresh_process(autocast)


def grad_scaler():
    simulated_device("npu")
    model = nn.Linear(4, 4).to("npu")
    before = model.weight.detach().clone()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    scaler = torch.amp.GradScaler("npu", init_scale=2.0**17, growth_interval=2)
    scales = []
    for _ in range(5):
        with torch.autocast("npu", torch.float16):
            loss = model(torch.ones(2, 4, device="npu")).sum()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        scales.append(scaler.get_scale())
    return scales, bool((model.weight != before).all())


def test_torchs_grad_scaler_backs_off_and_grows():
    scales, moved = in_fresh_process(grad_scaler)
    # The batch's 2 times 2**15 still overflows float16; 2**14 does not, and grows after two steps.
    assert scales == [2.0**16, 2.0**15, 2.0**14, 2.0**14, 2.0**15]
    assert moved


# Sessions


class Npu(Backend):
    """A backend such as a plugin's: nothing but what the device cannot answer by itself."""

    name = "npu"
    device_type = "npu"

    @classmethod
    def probe(cls, root="/"):
        return Probe(present=True, devices=(Device(index=0, name="simulated"),))

    def activate(self):
        pass

    def info(self):
        name = torch.npu.get_device_name()
        key = {"name": name, "bf16": str(torch.npu.is_bf16_supported())}
        return BackendInfo(device=str(self.device()), name=name, dtypes=measure("npu", 0, key))

    def overflowed(self):
        flag = torch.npu.overflow_flag()
        torch.npu.clear_overflow_flag()
        return flag


def sessions():
    simulated_device("npu", collective="hccl")
    assert Npu().distributed_backend() == "hccl"
    found = {}
    for model in jobs.MODELS:
        torch.manual_seed(0)
        expected = model()
        losses = jobs.train(expected, jobs.sgd(expected))
        for precision in ("fp32", Bf16(), Fp16()):
            torch.manual_seed(0)
            made = model()
            optimizer = jobs.sgd(made)
            before = jobs.snapshot(made, optimizer)
            with ds.attach(made, optimizer, backend=Npu(), precision=precision) as session:
                assert {p.device.type for p in made.parameters()} == {"npu"}
                got = jobs.train(made, optimizer, device="npu")
                memory = session.backend.memory()
                assert 0 < memory.allocated < memory.peak
            assert jobs.snapshot(made, optimizer)[:2] == before[:2]
            name = getattr(precision, "name", precision)
            if name == "fp32":
                same = all(
                    torch.equal(value, made.state_dict()[key])
                    for key, value in expected.state_dict().items()
                )
                found[model.__name__, name] = 0.0 if same and got == losses else 1.0
            else:
                found[model.__name__, name] = max(
                    abs(a - b) for a, b in zip(got, losses, strict=True)
                )
    return found


def test_sessions_train_on_the_device_and_leave_no_trace():
    for (_, precision), difference in in_fresh_process(sessions).items():
        assert difference == 0 if precision == "fp32" else 0 < difference < 0.02


def saturating_session():
    simulated_device("npu", faults=Faults(saturating_fp16=True))
    made = jobs.Mlp()
    optimizer = jobs.sgd(made)
    fp16 = Fp16(init_scale=2.0**22, growth_interval=1000)
    with ds.attach(made, optimizer, backend=Npu(), precision=fp16) as session:
        losses = jobs.train(made, optimizer, steps=20, device="npu")
        report = session.report()
    return losses, report.skipped, report.loss_scale


def test_a_session_backs_off_where_only_the_flag_tells_of_overflow():
    losses, skipped, scale = in_fresh_process(saturating_session)
    assert 0 < skipped["overflow"] < 10
    assert scale == 2.0 ** (22 - skipped["overflow"])
    assert losses[-1] < losses[0]


class Padded(nn.Module):
    """Takes lengths, which torch wants on the host, beside sequences."""

    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(8, 16, batch_first=True)

    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.layer(packed)[1][0].sum()


def inputs_on_the_host():
    simulated_device("npu")
    made = Padded()
    x, lengths = torch.randn(2, 5, 8), torch.tensor([5, 3])
    expected = made(x, lengths).item()
    with ds.attach(made, jobs.sgd(made), backend=Npu()) as session:
        refused(lambda: made(x, lengths), "input is on cpu", "to_device", error=RefusedError)
        batch = OrderedDict(x=x)
        moved = session.to_device(batch)
        assert type(moved) is OrderedDict
        assert batch["x"] is x
        return made(moved["x"], lengths).item() == expected


def test_a_batch_left_behind_is_refused_and_lengths_on_the_host_are_not():
    assert in_fresh_process(inputs_on_the_host)


def without_bf16():
    simulated_device("npu", faults=Faults(missing_dtypes=frozenset({"bfloat16"})))
    assert not Npu().info().dtypes["bf16"].works
    made = jobs.Mlp()
    refused(
        lambda: ds.attach(made, jobs.sgd(made), backend=Npu(), precision="bf16"),
        "bf16",
        error=RefusedError,
    )
    return next(made.parameters()).device.type == "cpu"


def test_a_session_refuses_a_dtype_that_the_device_lacks():
    assert in_fresh_process(without_bf16)


# Several processes

RANKS = """
import json, os, sys, torch, torch.distributed as dist
from torch import nn
from torch.nn import functional as F
device, backend = sys.argv[1:]
dist.init_process_group(backend)
rank = dist.get_rank()
losses = []
for as_view in (False, True):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 4)).to(device)
    parallel = nn.parallel.DistributedDataParallel(
        model, gradient_as_bucket_view=as_view, bucket_cap_mb=0.001
    )
    optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
    random = torch.Generator().manual_seed(rank)
    for _ in range(4):
        x = torch.randn(6, 8, generator=random).to(device)
        y = torch.randint(4, (6,), generator=random).to(device)
        loss = F.cross_entropy(parallel(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
# The same in place, through a session.
import ds_core as ds
from ds_core.testing import jobs
from test_simulated_device import Npu
torch.manual_seed(rank)
model = jobs.Conv()
optimizer = jobs.sgd(model)
with ds.attach(model, optimizer, backend="cpu" if device == "cpu" else Npu(), topology="flat"):
    losses += jobs.train(model, optimizer, seed=rank, device=device)
losses.append(sum(p.double().sum().item() for p in model.parameters()))
t = torch.arange(4.0, device=device) + rank
def call(function, *args, **kwargs):
    function(*args, **kwargs)
    return args[0].tolist()
results = {op: call(dist.all_reduce, t.clone(), getattr(dist.ReduceOp, op.upper()))
           for op in ("sum", "avg", "min", "max", "product")}
results["broadcast"] = call(dist.broadcast, t.clone(), 1)
parts = [torch.empty_like(t) for _ in range(2)]
dist.all_gather(parts, t)
results["all_gather"] = [part.tolist() for part in parts]
results["all_to_all"] = call(dist.all_to_all_single, torch.empty_like(t), t)
results["reduce_scatter"] = call(dist.reduce_scatter, torch.empty(2, device=device),
                                 list(t.clone().chunk(2)))
objects = [None, None]
dist.all_gather_object(objects, {"rank": rank})
results["objects"] = objects
if rank == 0:
    dist.send(t, 1)
else:
    dist.recv(t, 0)
results["received"] = t.tolist()
refusals = []
if device != "cpu":
    from ds_core.testing import Faults, simulated_device
    simulated = simulated_device(device)
    for call, faults in (
        (lambda: dist.all_reduce(torch.ones(2)), Faults()),
        (lambda: dist.all_reduce(t, dist.ReduceOp.AVG),
         Faults(missing_reduce_ops=frozenset({"avg"}))),
    ):
        with simulated.inject(faults):
            try:
                call()
            except RuntimeError as error:
                refusals.append(str(error))
dist.barrier()
print(json.dumps([rank, losses, results, dist.get_backend(), refusals]), flush=True)
os._exit(0)  # gloo aborts now and then while the interpreter takes it down
"""


def two_ranks(folder, *command):
    folder.mkdir()
    here = str(Path(__file__).parent)
    said = ranks(folder, *command, OMP_NUM_THREADS="1", PYTHONPATH=here)
    return [json.loads(one) for one in said]


@pytest.mark.processes
def test_data_parallelism_over_the_devices_collective_library_equals_gloos(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(RANKS)
    expected = two_ranks(tmp_path / "cpu", script, "cpu", "gloo")
    runner = ("-m", "ds_core.testing.simulated", "--name", "npu", "--collective", "hccl")
    found = two_ranks(tmp_path / "npu", *runner, script, "npu", "hccl")
    for (rank, losses, results, _, _), (its, simulated, its_results, backend, refusals) in zip(
        expected, found, strict=True
    ):
        assert rank == its
        assert losses == simulated
        assert results == its_results
        assert backend == "hccl"
        assert refusals == [
            "No backend type associated with device type cpu",
            "Cannot use ReduceOp.AVG with HCCL",
        ]


# Making one


def twice():
    device = simulated_device("npu", memory=2**20)
    assert simulated_device("npu") is device
    assert simulated_device("npu", memory=2**20) is device
    refused(lambda: simulated_device("hpu"), "simulated npu", error=RefusedError)
    refused(lambda: simulated_device("npu", memory=2**21), "memory", error=RefusedError)
    assert "imulated" in repr(device)
    return True


def test_a_process_has_one():
    assert in_fresh_process(twice)


@pytest.mark.parametrize(
    ("name", "settings", "culprit"),
    [
        ("cuda", {}, "'cuda'"),
        ("two words", {}, "'two words'"),
        ("NPU", {}, "'NPU'"),
        ("npu", {"memory": 0}, "0 bytes"),
        ("npu", {"autocast_dtypes": ["bfloat17"]}, "'bfloat16'"),
        ("npu", {"reduce_ops": ["summ"]}, "'sum'"),
        ("npu", {"memory_keys": {"alocated": "InUse"}}, "'allocated'"),
        ("npu", {"faults": Faults(missing_dtypes=frozenset({"float61"}))}, "'float16'"),
        ("npu", {"faults": Faults(missing_reduce_ops=frozenset({"average"}))}, "'average'"),
        ("npu", {"faults": Faults(out_of_memory_at=0)}, "allocation 0"),
    ],
)
def test_settings_that_no_device_can_have(name, settings, culprit):
    with pytest.raises(ConfigError, match=culprit):
        simulated_device(name, **settings)
    assert torch._C._get_privateuse1_backend_name() == "privateuseone", "nothing half-registered"


def failing(message):
    raise ValueError(message)


def test_a_fresh_process_hands_exceptions_back():
    with pytest.raises(ValueError, match="like this"):
        in_fresh_process(failing, "like this")
    assert in_fresh_process(os.getpid) != os.getpid()


# The command


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "ds_core.testing.simulated", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_unmodified_script_runs_with_the_device(tmp_path):
    (tmp_path / "helper.py").write_text("where = 'npu'")
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, torch\nfrom helper import where\n"
        "if __name__ == '__main__':\n"
        "    print(sys.argv[1:], torch.ones(2, device=where).sum(), torch.npu.mem_get_info()[1])\n"
    )
    done = run("--name", "npu", "--memory", "512MiB", str(script), "--name", "x", "-m")
    assert done.stdout == f"['--name', 'x', '-m'] tensor(2., device='npu:0') {512 * 2**20}\n"
    assert done.returncode == 0


def test_a_module_runs_with_the_device_and_its_faults():
    done = run("--name", "npu", "--missing-dtype", "float16", "-m", "torch.utils.collect_env")
    assert done.returncode == 0, done.stderr
    assert "PyTorch version" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py"], "There is no script 'nowhere.py'."),
        (["--memory", "much", "x.py"], "'much' is no size"),
        (["--name", "cuda", "x.py"], "cannot be called 'cuda'"),
        (["--missing-dtype", "bf16", "x.py"], "no dtype 'bf16'"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, words):
    done = run(*arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
