"""What the policy does to a training, on emulated 16-bit units."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from training import QUICK, Healthy, Offset, Overflowing, attach, details, dtypes, train

import ds_core as ds
from ds_core.errors import ConfigError, RefusedError
from ds_core.testing import jobs


def test_a_healthy_model_stays_in_16_bit(emulated):
    with attach(Healthy(), emulated) as session:
        train(session, 40)
        assert set(dtypes(session).values()) == {"bf16"}
        assert details(session)["16-bit share of multiply-adds"] == 1
        assert details(session)["flips"] == 0


def test_what_each_layer_computes_in_is_what_the_report_says(emulated):
    model = Offset()
    seen = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(lambda m, x, y, name=name: seen.update({name: y.dtype}))
    with attach(model, emulated) as session:
        train(session, 10)
        real = {"bf16": torch.bfloat16, "fp32": torch.float32}
        assert {name: real[dtype] for name, dtype in dtypes(session).items()} == seen
        assert seen["first"] == torch.float32


def test_only_the_layer_that_loses_precision_leaves_16_bit(emulated):
    with attach(Offset(), emulated) as session:
        train(session, 20)
        wide = [name for name, dtype in dtypes(session).items() if dtype == "fp32"]
        row = details(session)["layers"][0]
        assert wide == ["first"]
        assert "errors" in row["why"] or "off by" in row["why"]
        assert row["flips"] == "2:bf16>fp32"


def test_only_the_layer_that_overflows_leaves_float16_and_the_scale_lives(emulated):
    with attach(Overflowing(), emulated, dtypes=["fp16"]) as session:
        losses = train(session, 40)
        wide = [name for name, dtype in dtypes(session).items() if dtype == "fp32"]
        assert wide == ["blocks.1.0"]
        assert session.skipped["overflow"] <= 2
        assert session.loss_scale.value >= 2.0**12
    assert sum(losses[-5:]) < sum(losses[1:6])


def test_float16_gives_way_to_bfloat16_where_both_are_allowed(emulated):
    with attach(Overflowing(), emulated, dtypes=["fp16", "bf16"]) as session:
        train(session, 10)
        assert dtypes(session)["blocks.1.0"] == "bf16"
        assert dtypes(session)["blocks.0.0"] == "fp16"


def test_a_scale_that_is_much_too_small_is_mended_at_once(emulated):
    with attach(Healthy(), emulated, dtypes=["fp16"], init_scale=1.0) as session:
        for batch, labels in jobs.batches(8):
            loss = F.cross_entropy(session.model(batch), labels) * 1e-8
            loss.backward()
            session.optimizers[0].step()
            session.optimizers[0].zero_grad()
        assert session.loss_scale.value >= 2.0**12
        assert set(dtypes(session).values()) == {"fp16"}, details(session)


def test_two_heads_that_no_scale_serves_are_told_apart(emulated):
    class TwoHeads(Healthy):
        def __init__(self):
            super().__init__(64)
            self.faint, self.loud = nn.Linear(64, 4), nn.Linear(64, 4)

        def forward(self, x):
            x = torch.relu(self.first(x))
            for block in self.blocks:
                x = x + block(x)
            return self.faint(x), self.loud(x)

    model = TwoHeads()
    with attach(model, emulated, dtypes=["fp16"], every=2) as session:
        for batch, labels in jobs.batches(40):
            faint, loud = model(batch)
            loss = F.cross_entropy(faint, labels) * 2.0**-24 + F.cross_entropy(loud, labels) * 2e3
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            session.optimizers[0].step()
            session.optimizers[0].zero_grad()
        assert dtypes(session)["faint"] == "fp32" or dtypes(session)["loud"] == "fp32"
        trunk = [dtype for name, dtype in dtypes(session).items() if "blocks" in name]
        assert trunk == ["fp16"] * 3


def test_looks_come_early_and_then_every_so_often(emulated):
    with attach(Healthy(), emulated, every=8) as session:
        region = session.components[0]._plan.region
        watched = []
        for step in range(1, 34):
            if region.watching:
                watched.append(step)
            train(session, 1)
    assert watched == [1, 2, 4, 8, 16, 24, 32]


def test_resuming_continues_bit_for_bit(emulated):
    def run(model, session, steps, seed):
        losses = train(session, steps, seed)
        return losses, dtypes(session), session.loss_scale and session.loss_scale.value

    for options in ({}, {"dtypes": ["fp16"]}):
        model = Overflowing()
        with attach(model, emulated, **options) as session:
            train(session, 7, seed=1)
            saved = copy.deepcopy((model.state_dict(), session.state_dict()))
            optimizer_state = copy.deepcopy(session.optimizers[0].state_dict())
            expected = run(model, session, 15, 2)
        other = Overflowing()
        with attach(other, emulated, **options) as session:
            other.load_state_dict(saved[0])
            session.load_state_dict(saved[1])
            session.optimizers[0].load_state_dict(optimizer_state)
            assert run(other, session, 15, 2) == expected


def test_a_layer_called_twice_one_frozen_and_one_never_called(emulated):
    class Odd(Healthy):
        def __init__(self):
            super().__init__()
            self.never = nn.Linear(32, 32)
            self.frozen = nn.Linear(32, 32).requires_grad_(False)

        def forward(self, x):
            x = self.first(x)
            for _ in range(2):
                x = x + self.blocks[0](x)
            return self.last(self.frozen(x))

    with attach(Odd(), emulated) as session:
        train(session, 10)
        rows = {row["layer"]: row for row in details(session)["layers"]}
    assert rows["never"]["why"] == "never called"
    assert rows["frozen"]["error"] > 0
    assert rows["blocks.0.0"]["dtype"] == "bf16"


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_a_frozen_beginning(emulated, dtype):
    model = Healthy()
    model.first.requires_grad_(False)
    before = model.first.weight.clone()
    with attach(model, emulated, dtypes=[dtype]) as session:
        train(session, 8)
        assert session.steps == 8
        assert set(dtypes(session).values()) == {dtype}
        rows = {row["layer"]: row for row in details(session)["layers"]}
        assert (rows["first"]["impact"] > 0) == (dtype == "bf16")
    assert torch.equal(model.first.weight, before)
    assert model.first.weight.grad is None


def test_inf_in_the_data_is_said_once_and_the_scale_stays(emulated):
    model = Healthy()
    with attach(model, emulated, dtypes=["fp16"]) as session:
        train(session, 6)
        scale = session.loss_scale.value
        with pytest.warns(RuntimeWarning, match="came into Healthy by its input") as warned:
            for batch, labels in jobs.batches(6):
                batch[0, 0] = float("inf")
                F.cross_entropy(model(batch), labels).backward()
                session.optimizers[0].step()
                session.optimizers[0].zero_grad()
        assert len(warned) == 1
        assert warned[0].filename == __file__
        assert set(dtypes(session).values()) == {"fp16"}
        assert session.loss_scale.value == scale
        assert any("by its input" in note for note in details(session)["notes"])


def test_divergence_in_float32_is_said(emulated):
    model = Overflowing()
    with torch.no_grad():
        model.blocks[1][0].weight.mul_(1e33)
    with attach(model, emulated) as session, pytest.warns(RuntimeWarning, match="diverges"):
        train(session, 8)


def test_it_abstains_in_an_autocast_region_of_the_users_own(emulated):
    model = Healthy()
    with attach(model, emulated):
        warns = pytest.warns(RuntimeWarning, match="region of the training loop's own")
        with warns, torch.autocast("cpu", torch.float16):
            out = model(torch.randn(4, 8))
        assert out.dtype == torch.float16
        assert model(torch.randn(4, 8)).dtype == torch.float32


def test_attention_is_one_unit_whose_logits_decide(emulated):
    class Attend(nn.Module):
        def __init__(self):
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(16, 16) for _ in range(4))

        def forward(self, x):
            q, k, v = (
                layer(x).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v)
            )
            self.dtype = q.dtype
            mixed = F.scaled_dot_product_attention(q, k, v)
            return self.out(mixed.transpose(1, 2).flatten(2))

    class Model(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.embed = nn.Linear(4, 16)
            self.attend = Attend()
            self.head = nn.Linear(16, 4)
            with torch.no_grad():
                self.attend.q.weight.mul_(factor)
                self.attend.k.weight.mul_(factor)

        def forward(self, x):
            return self.head(self.attend(self.embed(x.reshape(-1, 2, 4))).mean(1))

    for factor, expected in ((1, "bf16"), (60, "fp32")):
        model = Model(factor)
        with attach(model, emulated) as session:
            train(session, 8)
            assert list(dtypes(session)) == ["embed", "attend", "head"]
            assert dtypes(session)["attend"] == expected
            assert model.attend.dtype == {"bf16": torch.bfloat16, "fp32": torch.float32}[expected]
            assert dtypes(session)["head"] == "bf16"


def test_multihead_attention_is_watched_too(emulated):
    model = jobs.Attention()
    with torch.no_grad():
        model.layer.self_attn.in_proj_weight.mul_(60)
    with attach(model, emulated) as session:
        train(session, 8)
        found = dtypes(session)
    assert found.pop("layer.self_attn") == "fp32"
    assert set(found.values()) == {"bf16"}


def test_blocks_change_together_where_asked_for(emulated):
    with attach(Healthy(), emulated, group="block") as session:
        assert list(dtypes(session)) == ["first", "blocks.0", "blocks.1", "blocks.2", "last"]


def test_the_progressive_schedule(emulated):
    options = {"schedule": "progressive", "warmup": 5, "ramp": 5, "tail": 5}
    with attach(Healthy(), emulated, total_steps=30, **options) as session:
        counts = []
        for step in range(30):
            counts.append(list(dtypes(session).values()).count("bf16"))
            train(session, 1, seed=step)
    assert counts[:5] == [0] * 5
    assert counts[5:25] == sorted(counts[5:25])
    assert counts[12:25] == [5] * 13
    assert counts[25:] == [0] * 5


def test_a_tail_needs_the_length_of_the_training(emulated):
    with pytest.raises(RefusedError, match="total_steps"):
        attach(Healthy(), emulated, schedule="progressive", tail=5)


def test_costs_keep_layers_in_float32_and_then_nothing_is_done_at_all(emulated, monkeypatch):
    slow = "takes 2.00x as long in 16 bit"
    monkeypatch.setattr("ds_dmp.cost.gate", lambda costs: dict.fromkeys(costs, slow))
    model = Healthy()
    with attach(model, emulated, cost_gate=True) as session:
        train(session, 4)
        assert set(dtypes(session).values()) == {"fp32"}
        assert "as long" in details(session)["layers"][0]["why"]
        before = emulated.products.total()
        train(session, 8)
        assert emulated.products.total() == before


def test_where_no_dtype_is_fast_everything_is_as_without(monkeypatch):
    from ds_core.builtin.cpu import Cpu
    from ds_core.components import BackendInfo, DtypeSupport

    class Slow(Cpu):
        def info(self):
            slow = DtypeSupport(works=True, speedup=0.1, reason="0.1x")
            dtypes = {"fp32": DtypeSupport(works=True, fast=True), "bf16": slow, "fp16": slow}
            return BackendInfo(device="cpu", name="slow", dtypes=dtypes)

    plain, made = Healthy(), Healthy()
    made.load_state_dict(plain.state_dict())
    expected = jobs.train(plain, torch.optim.SGD(plain.parameters(), 0.02, momentum=0.9), 10)
    with attach(made, Slow()) as session:
        assert train(session, 10) == expected
        assert "no 16-bit dtype is fast" in details(session)["why"]
        assert "every layer computes in fp32" in session.components[0].explain(Slow())[0]
    with pytest.raises(RefusedError, match=r"fp16, which is slow.*precision 'fp16'"):
        attach(made, Slow(), dtypes=["fp16"])
    assert type(made.first) is nn.Linear


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex64, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes_are_refused(emulated, dtype):
    with pytest.raises(RefusedError, match=r"first\.weight"):
        attach(Healthy().to(dtype), emulated)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"every": 0}, "every"),
        ({"memory_budget": "2GiB"}, "memory_budget needs memory"),
        ({"memory": "lean", "memory_budget": "much"}, "is no size"),
        ({"memory": "lean", "memory_budget": 1.5}, "memory_budget is"),
        ({"tail": 5}, "tail needs schedule"),
        ({"dtypes": []}, "at least"),
        ({"dtypes": ["fp8"]}, "dtypes"),
        ({"init_scale": 0.5}, "init_scale"),
        ({"patiense": 3}, "Did you mean 'patience'"),
    ],
)
def test_options_that_make_no_sense(options, said):
    with pytest.raises(ConfigError, match=said):
        ds.attach(Healthy(), backend="cpu", precision={"name": "dmp", **options})


def test_a_model_without_products_is_left_alone(emulated):
    model = nn.Sequential(nn.LayerNorm(8), nn.Flatten())
    with attach(model, emulated) as session:
        assert "no layer that multiplies" in details(session)["why"]


def test_new_layers_are_taken_hold_of(emulated):
    model = Offset()
    with attach(model, emulated) as session:
        train(session, 6)
        model.last = nn.Linear(32, 4)
        session.optimizers[0].add_param_group({"params": list(model.last.parameters())})
        session.model_changed()
        train(session, 12)
        assert dtypes(session)["first"] == "fp32"
        assert dtypes(session)["last"] == "bf16"
        plan = session.components[0]._plan
        assert [layer.module for layer in plan.layers][-1] is model.last
    assert type(model.last) is nn.Linear


def test_nothing_is_drawn_from_torchs_generators(emulated):
    model = nn.Sequential(nn.Linear(8, 32), nn.Dropout(0.5), nn.Linear(32, 4))
    plain = copy.deepcopy(model)
    torch.manual_seed(3)
    jobs.train(plain, jobs.sgd(plain), 10)
    expected = torch.get_rng_state()
    torch.manual_seed(3)
    with attach(model, emulated, cost_gate=True, every=2) as session:
        train(session, 10)
    assert torch.equal(torch.get_rng_state(), expected)


def test_gradients_accumulated_over_batches_are_watched_as_one_step(emulated):
    model = Offset()
    with attach(model, emulated) as session:
        for step, (batch, labels) in enumerate(jobs.batches(12)):
            F.cross_entropy(model(batch), labels).backward()
            if step % 3 == 2:
                session.optimizers[0].step()
                session.optimizers[0].zero_grad()
        assert dtypes(session)["first"] == "fp32"


def test_channels_last_and_grouped_and_transposed_convolutions(emulated):
    model = nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        nn.Conv2d(2, 8, 3, padding=1),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.ConvTranspose2d(8, 8, 2, stride=2),
        nn.Conv2d(8, 8, 3, padding="same", padding_mode="circular"),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 4),
    ).to(memory_format=torch.channels_last)
    with attach(model, emulated) as session:
        train(session, 8)
        rows = details(session)["layers"]
    assert len(rows) == 5
    assert all(0 < row["error"] < 0.05 for row in rows[:4])


def test_options_can_be_shown_and_read_back(emulated, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with attach(Healthy(), emulated, trace=tmp_path / "run.jsonl") as session:
            train(session, 3)
            assert session.report().model_dump_json()
    assert QUICK["name"] == "dmp"


def test_an_iterated_map_stands_out_by_what_its_errors_do(emulated):
    class Iterated(Healthy):
        """A chaotic map, which doubles every rounding error again and again."""

        def __init__(self):
            super().__init__()
            self.map = nn.Linear(8, 8, bias=False).requires_grad_(False)
            self.map.weight.copy_(3 * torch.eye(8))

        def forward(self, x):
            for _ in range(12):
                x = torch.sin(self.map(x))
            return super().forward(x)

    with attach(Iterated(), emulated) as session:
        train(session, 10)
        found = dtypes(session)
    assert found.pop("map") == "fp32"
    assert set(found.values()) == {"bf16"}


def test_outputs_may_be_changed_in_place(emulated):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(inplace=True), nn.Linear(32, 4))
    with attach(model, emulated, every=1) as session:
        train(session, 5)


@pytest.mark.parametrize("memory", ["lean", "lean+"])
@pytest.mark.parametrize("dtypes", [["bf16"], ["fp16"]])
def test_lean_memory_beside_dynamic_dtypes(emulated, memory, dtypes):
    model = nn.Sequential(
        nn.Unflatten(1, (2, 2, 2)),
        nn.Conv2d(2, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    before = jobs.snapshot(model)
    with attach(model, emulated, memory=memory, dtypes=dtypes, every=4) as session:
        losses = []
        for batch, labels in jobs.batches(24, size=64):
            loss = F.cross_entropy(model(batch), labels)
            loss.backward()
            session.optimizers[0].step()
            session.optimizers[0].zero_grad()
            losses.append(loss.item())
        told = details(session)["memory"]
    assert sum(losses[-5:]) < sum(losses[:5])
    total = told["totals"]["all"]
    assert total["now"] < 0.35 * total["float32"]
    assert jobs.snapshot(model) == before


def test_layers_of_other_make_are_the_same_with_lean_memory(emulated):
    class Transposed(nn.Module):
        def __init__(self, wide, out):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(wide, out) * 0.1)

        def forward(self, x):
            return x @ self.weight

    class Dropping(nn.Linear):
        def forward(self, x):
            return nn.functional.dropout(super().forward(x), 0.5, self.training)

    found = {}
    for memory in ("standard", "lean"):
        torch.manual_seed(0)
        model = nn.Sequential(Transposed(8, 16), nn.ReLU(), Dropping(16, 16), nn.Linear(16, 4))
        with attach(model, emulated, memory=memory) as session:
            train(session, 3)
            found[memory] = dtypes(session), details(session)["layers"][1]["error"]
    assert found["lean"] == found["standard"] == ({"0": "bf16", "2": "bf16", "3": "bf16"}, 0.0)
