"""Channels pruned while a model trains: what remains is small, right and trainable."""

import contextlib
import copy
import io
import itertools

import numpy as np
import pytest
import torch
from ds_prune.plan import Plan
from ds_prune.timing import timer
from ds_prune.training import run
from ds_prune.training.gates import Gates
from handmade import perceptron
from torch import nn
from torch.nn.functional import cross_entropy

import ds_core as ds
from ds_core.errors import ConfigError, DsError, RefusedError, SessionError
from ds_core.testing import emulated_16bit


class Net(nn.Module):
    """Convolutions with a residual connection, and squeeze-and-excitation."""

    def __init__(self, width=16):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width))
        self.inner = nn.Sequential(nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width))
        self.squeeze = nn.Conv2d(2 * width, 8, 1)
        self.excite = nn.Conv2d(8, 2 * width, 1)
        self.outer = nn.Sequential(nn.Conv2d(2 * width, width, 3, padding=1), nn.BatchNorm2d(width))
        self.head = nn.Linear(width, 4)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = torch.relu(self.inner(x))
        scale = torch.sigmoid(self.excite(torch.relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        x = torch.relu(x + self.outer(y * scale))
        return self.head(x.mean((2, 3)))


def batches(count, seed=1):
    """Noise in which one of four patterns is hidden."""
    patterns = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    for _ in range(count):
        y = torch.randint(4, (32,), generator=generator)
        yield torch.randn(32, 3, 8, 8, generator=generator) + patterns[y], y


def make(optimizer=torch.optim.SGD, **options):
    torch.manual_seed(0)
    model = Net()
    options = {"lr": 0.05, **({"momentum": 0.9} if optimizer is torch.optim.SGD else {}), **options}
    return model, optimizer(model.parameters(), **options)


def train(model, optimizer, count, seed=1):
    losses = []
    for x, y in batches(count, seed):
        loss = cross_entropy(model(x).float(), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


def attach(model, optimizer, total=40, precision="none", **options):
    pruner = {"name": "channel", "every": 2, **options}
    return ds.attach(
        model, optimizer, precision=precision, pruner=pruner, config={"total_steps": total}
    )


def size(model):
    return sum(p.numel() for p in model.parameters())


def details(session):
    return next(p for p in session.report().components if p.kind == "pruner").details


def test_the_model_ends_up_as_small_as_asked_for_and_trains_on():
    model, optimizer = make()
    parameters, before = list(model.parameters()), size(model)
    with attach(model, optimizer, flops=0.4, params=0.5) as session:
        train(model, optimizer, 29)
        assert size(model) == before, "until the end it is gated and not smaller"
        train(model, optimizer, 11)
        report = details(session)
    assert report["parameters"]["ratio"] <= 0.5
    assert report["multiply-adds"]["ratio"] <= 0.4
    assert report["error in the proof"] < 1e-5
    assert size(model) == report["parameters"]["after"]
    assert all(one is two for one, two in zip(model.parameters(), parameters, strict=True))
    assert type(model) is Net
    assert model.inner[0].out_channels == model.inner[1].num_features == model.squeeze.in_channels
    assert train(model, optimizer, 3)


def test_the_loss_goes_on_where_channels_are_removed():
    model, optimizer = make()
    with attach(model, optimizer, total=80, flops=0.5):
        losses = train(model, optimizer, 80)
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])


def test_the_small_model_computes_what_the_gated_one_did():
    model, optimizer = make()
    x = next(batches(1, 9))[0]
    with attach(model, optimizer, flops=0.5, decay=0.0):
        train(model, optimizer, 29)
        for group in optimizer.param_groups:
            group["lr"] = 0.0
        gated = copy.deepcopy(model).eval()(x)
        for one in model.modules():  # statistics move with each forward
            if isinstance(one, nn.BatchNorm2d):
                one.momentum = 0.0
        train(model, optimizer, 1)
        assert size(model) < size(Net())
        model.eval()
        assert torch.allclose(model(x), gated, atol=1e-5)


def test_detached_before_the_end_it_gets_its_dense_weights_back():
    model, optimizer = make()
    plain, plain_optimizer = make()
    with attach(model, optimizer, flops=0.5, decay=0.0):
        train(model, optimizer, 20)
        gated = [p.clone() for p in model.parameters()]
    dense = list(model.parameters())
    changed = [not torch.equal(one, two) for one, two in zip(gated, dense, strict=True)]
    assert any(changed)
    closed = [(one == 0).sum() - (two == 0).sum() for one, two in zip(gated, dense, strict=True)]
    assert sum(closed) > 0
    train(plain, plain_optimizer, 1)


@pytest.mark.parametrize("step", [7, 20, 35])
def test_resuming_continues_bit_for_bit(step):
    def continued():
        if step > 30:
            Plan.load("plan").apply(model)  # what is loaded next is small
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        session.load_state_dict(saved[2])
        return train(model, optimizer, 10, seed=5)

    model, optimizer = make()
    with attach(model, optimizer, flops=0.5, save="plan") as session:
        train(model, optimizer, step)
        file = io.BytesIO()
        torch.save([one.state_dict() for one in (model, optimizer, session)], file)
        expected = train(model, optimizer, 10, seed=5)
        values = copy.deepcopy(model.state_dict())
        report = details(session)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    model, optimizer = make()
    with attach(model, optimizer, flops=0.5, save="again") as session:
        assert continued() == expected
        after = model.state_dict()
        assert all(torch.equal(after[name], value) for name, value in values.items())
        again = details(session)
    for one in (report, again):  # it is timed and proved on whatever batch came first
        one.pop("seconds of a forward", None)
        one.pop("error in the proof", None)
    assert again == report


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW, torch.optim.RMSprop])
def test_the_optimizers_state_follows(optimizer):
    model, made = make(optimizer, lr=0.01)
    with attach(model, made, flops=0.5):
        train(model, made, 40)
    for parameter, state in made.state.items():
        for key, value in state.items():
            if key != "step" and torch.is_tensor(value):
                assert value.shape == parameter.shape, key


def test_a_channel_whose_gate_closed_comes_back_where_it_is_missed():
    model, optimizer = make()
    with attach(model, optimizer, total=160, flops=0.5, decay=0.0, round_to=1, save="plan"):
        train(model, optimizer, 120)
    history = Plan.load("plan").result.history
    grown = [
        name
        for (_, before), (_, after) in itertools.pairwise(history)
        for name in before
        if after[name] > before[name]
    ]
    assert grown


@pytest.mark.parametrize("criterion", ["taylor", "magnitude", "fpgm", "random"])
def test_every_criterion(criterion):
    model, optimizer = make()
    with attach(model, optimizer, flops=0.6, criterion=criterion) as session:
        train(model, optimizer, 40)
        assert details(session)["multiply-adds"]["ratio"] <= 0.6


def test_under_16_bit_precision():
    for precision in ("bf16", "dmp"):
        with emulated_16bit() as backend:
            model, optimizer = make()
            options = {"name": precision, **({"cost_gate": False} if precision == "dmp" else {})}
            with ds.attach(
                model,
                optimizer,
                backend=backend,
                precision=options,
                pruner={"name": "channel", "flops": 0.5, "every": 2},
                config={"total_steps": 40},
            ) as session:
                losses = train(model, optimizer, 45)
                assert details(session)["multiply-adds"]["ratio"] <= 0.5
            assert sum(losses[-10:]) < sum(losses[:10])


@pytest.mark.slow
def test_under_torch_compile():
    model, optimizer = make()
    with attach(model, optimizer, flops=0.5):
        with torch.no_grad():
            model(next(batches(1))[0])  # the compiled forward is not seen
        compiled = torch.compile(model)
        train(compiled, optimizer, 33)
        assert size(model) < size(Net())
        x = next(batches(1, 9))[0]
        assert torch.allclose(compiled.eval()(x), model.eval()(x), atol=1e-4)


def test_a_compiled_model_of_which_no_forward_was_seen_is_refused():
    torch._dynamo.reset()
    model, optimizer = make()
    with (
        attach(model, optimizer, flops=0.5),
        pytest.raises(RefusedError, match="Call the attached model once before it is compiled"),
    ):
        train(torch.compile(model, backend="eager"), optimizer, 1)


def values(model):
    return [parameter.detach().clone() for parameter in model.parameters()]


def same(one, two):
    return all(torch.equal(*both) for both in zip(one, two, strict=True))


@pytest.fixture
def no_room(monkeypatch):
    """Within it, a function fails."""

    def fails(*args, **options):
        raise MemoryError("no room")

    @contextlib.contextmanager
    def within(module, name):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails)
            yield

    return within


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_removal_that_fails_costs_nothing(goes_on, no_room):
    def trained(end):
        model, optimizer = make()
        seen = []
        with attach(model, optimizer, begin=0, freeze=20, end=end):
            train(model, optimizer, 29)
            if end == 30:
                with (
                    no_room(run, "copied"),
                    pytest.raises(DsError, match="no room"),
                ):
                    train(model, optimizer, 1, seed=2)
                optimizer.zero_grad()
            else:
                train(model, optimizer, 1, seed=2)
            seen += values(model)
            if goes_on and end == 30:
                train(model, optimizer, 2, seed=3)
                assert size(model) < size(Net())
        return seen if goes_on else [*seen, *values(model)]

    assert same(trained(end=30), trained(end=100))


def test_times_that_cannot_be_taken_are_left_out(no_room):
    model, optimizer = make()
    with attach(model, optimizer, flops=0.5) as session:
        with no_room(timer, "interleaved"):
            train(model, optimizer, 32)
        assert size(model) < size(Net())
        assert "seconds of a forward" not in details(session)
        assert details(session)["multiply-adds"]["ratio"] <= 0.5


def test_a_state_from_before_the_first_step_begins_anew():
    model, optimizer = make()
    with attach(model, optimizer, flops=0.5, begin=5) as session:
        saved = copy.deepcopy([one.state_dict() for one in (session, model, optimizer)])
        first = train(model, optimizer, 20)
        session.load_state_dict(saved[0])
        model.load_state_dict(saved[1])
        optimizer.load_state_dict(saved[2])
        assert train(model, optimizer, 20) == first


def test_gates_that_all_open_again_hold_nothing_back():
    model, structure, _ = perceptron()
    gates = Gates(dict(model.named_parameters()), structure)
    first = structure.groups[0]
    gates.move({first.name: np.arange(first.count) > 3}, 0.5)
    gates.close()
    gates.open()
    gates.move({}, 0.5)
    gates.close()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    trained = values(model)
    gates.open()
    assert same(values(model), trained)


class Rigid(nn.Module):
    """Has the width of its first layer in its code, for batches of more than four tokens."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 16), nn.Linear(16, 2)

    def forward(self, x):
        h = self.a(x)
        if x.shape[1] > 4:
            h = h.reshape(-1, 16).reshape(*x.shape[:2], 16)
        return self.c(torch.relu(self.b(torch.relu(h))))


def test_the_history_ends_with_what_was_really_removed():
    torch.manual_seed(0)
    model = Rigid()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with (
        attach(model, optimizer, ratio=0.5, freeze=4, end=6, save="plan"),
        pytest.warns(RuntimeWarning, match="left a whole"),
    ):
        for _ in range(6):
            model(torch.randn(4, 5, 6)).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
    result = Plan.load("plan").result
    kept = {one["layer"]: one["kept"] for one in result.layers}
    assert result.history[-1] == (6, kept)
    assert kept == {"a": 16, "b": 8}


# What cannot be done


class Mixing(nn.Module):
    """Has no channel that could go."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(192, 4)

    def forward(self, x):
        return self.head(x.flatten(1))


class Branching(Net):
    def forward(self, x):
        scores = super().forward(x)
        return scores * (2 if scores.sum() > 0 else 1)


@pytest.mark.parametrize(
    ("model", "options", "said"),
    [
        (Mixing, {}, "no channel that could go"),
        (Branching, {}, "Branching"),
        (Net, {"flops": 0.001}, r"cannot be reached.*are left"),
        (Net, {"keep": ["haed"]}, "head"),
        (Net, {"layers": {"head": 0.5}}, "head"),
    ],
)
def test_what_cannot_be_done_is_said_in_the_first_step_and_changes_nothing(model, options, said):
    torch.manual_seed(0)
    model = model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    before = copy.deepcopy(model.state_dict())
    with attach(model, optimizer, **options), pytest.raises(DsError, match=said):
        train(model, optimizer, 1)
    after = model.state_dict()
    same = [name for name, value in before.items() if torch.equal(after[name], value)]
    assert {name for name in before if "running" not in name and "num_b" not in name} <= set(same)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"flops": 1.5}, "flops"),
        ({"flop": 0.5}, "flops"),
        ({"criterion": "tailor"}, "taylor"),
        ({"begin": 10, "end": 5}, "before it begins"),
        ({"freeze": 50, "end": 40}, "freeze"),
        ({"ratio": 0.95}, "min_kept"),
        ({"round_to": 0}, "'round_to' cannot be 0: .*number from 1 up"),
        ({"round_to": "measure"}, "'round_to' cannot be 'measure': .*number from 1 up"),
        ({"save": __file__}, "is no plan, so it is not overwritten"),
        ({"save": f"{__file__}/plan"}, "no folder that can be written into"),
    ],
)
def test_options_that_make_no_sense(options, said):
    model, optimizer = make()
    with pytest.raises((ConfigError, DsError), match=said):
        attach(model, optimizer, **options)


def test_distributed_data_parallel_is_refused(tmp_path):
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.parallel.DistributedDataParallel(Net())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        with pytest.raises((RefusedError, SessionError), match="DistributedDataParallel"):
            attach(model, optimizer)
    finally:
        dist.destroy_process_group()


def test_a_plan_that_cannot_be_written_costs_the_plan_alone(tmp_path):
    model, optimizer = make()
    with attach(model, optimizer, flops=0.5, save=str(tmp_path / "taken")):
        (tmp_path / "taken").write_text("not a folder")
        with pytest.raises(ConfigError, match="taken"):
            train(model, optimizer, 31)
        assert size(model) < size(Net())
        assert train(model, optimizer, 5)
