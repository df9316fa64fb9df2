import copy
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ds_core.errors import ConfigError
from ds_core.mixed_precision import GradScaler

WIDE = {"min_scale": 2.0**-126, "max_scale": 2.0**127}
overflows = st.lists(st.booleans(), max_size=40)
factors = st.fixed_dictionaries(
    {
        "init_scale": st.sampled_from([1.0, 3.0, 1024.0, 65536.0]),
        "growth_factor": st.sampled_from([1.25, 2.0, 4.0]),
        "backoff_factor": st.sampled_from([0.25, 0.5, 0.7]),
        "growth_interval": st.integers(1, 5),
    }
)


class Loop:
    """A user's loop: one parameter, SGD with momentum and weight decay."""

    def __init__(self, scaler):
        self.scaler = scaler
        self.weight = nn.Parameter(torch.tensor([1.0, -2.0, 3.0]))
        self.optimizer = torch.optim.SGD([self.weight], 0.1, momentum=0.9, weight_decay=0.01)

    def step(self, overflow):
        x = torch.tensor([0.5, float("inf") if overflow else 1.5, -1.0])
        self.scaler.scale((self.weight * x).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()

    def run(self, overflows):
        for overflow in overflows:
            self.step(overflow)

    def state(self):
        momentum = self.optimizer.state[self.weight].get("momentum_buffer")
        return self.weight.tolist(), None if momentum is None else momentum.tolist()


@given(overflows, factors)
@settings(deadline=None)
def test_within_its_bounds_it_is_torchs_bit_for_bit(sequence, options):
    ours = Loop(GradScaler("cpu", **options, **WIDE))
    torchs = Loop(torch.amp.GradScaler("cpu", **options))
    for overflow in sequence:
        ours.step(overflow)
        torchs.step(overflow)
        assert ours.state() == torchs.state()
        mine = ours.scaler.state_dict()
        assert {key: mine[key] for key in torchs.scaler.state_dict()} == torchs.scaler.state_dict()


@given(overflows, st.integers(-2, 2), st.integers(-2, 2), st.integers(1, 3))
@settings(deadline=None)
def test_the_scale_stops_at_both_bounds(sequence, below, above, interval):
    least, greatest = 2.0 ** (min(below, above)), 2.0 ** (max(below, above))
    start = 1.0 if least <= 1.0 <= greatest else least
    loop = Loop(GradScaler(start, growth_interval=interval, min_scale=least, max_scale=greatest))
    expected, good = start, 0
    for overflow in sequence:
        loop.step(overflow)
        good = 0 if overflow else good + 1
        if overflow:
            expected = max(expected * 0.5, least)
        elif good == interval:
            expected, good = min(expected * 2.0, greatest), 0
        assert loop.scaler.get_scale() == expected


@given(overflows, overflows, factors)
@settings(deadline=None)
def test_state_passes_to_torchs_scaler_and_back(before, after, options):
    first = Loop(GradScaler("cpu", **options, **WIDE))
    for overflow in before:
        first.step(overflow)
    state = pickle.loads(pickle.dumps(first.scaler.state_dict()))
    torchs = torch.amp.GradScaler("cpu")
    torchs.load_state_dict(state)
    ours = GradScaler()
    ours.load_state_dict(state)
    assert (ours.min_scale, ours.max_scale) == (WIDE["min_scale"], WIDE["max_scale"])
    from_torch = GradScaler(**WIDE)
    from_torch.load_state_dict(torchs.state_dict())
    followers = [Loop(scaler) for scaler in (torchs, ours, from_torch)]
    for overflow in after:
        first.step(overflow)
        for follower in followers:
            follower.step(overflow)
            assert follower.scaler.get_scale() == first.scaler.get_scale()
    assert ours.state_dict() == first.scaler.state_dict() == from_torch.state_dict()


def test_a_loaded_scale_is_brought_within_the_bounds():
    torchs = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    fresh, used = GradScaler(max_scale=2.0**20), Loop(GradScaler(max_scale=2.0**20))
    used.step(False)
    for scaler in (fresh, used.scaler):
        scaler.load_state_dict(torchs.state_dict())
        assert scaler.get_scale() == 2.0**20


def test_a_skipped_step_leaves_parameters_and_momentum_alone():
    loop = Loop(GradScaler(8.0))
    loop.step(False)
    before = loop.state()
    loop.step(True)
    assert loop.state() == before
    loop.step(False)
    assert loop.state() != before


@pytest.mark.filterwarnings("ignore:More than 100 steps")
def test_a_long_run_of_nan_ruins_torchs_parameters_and_not_these():
    ours = Loop(GradScaler(growth_interval=1))
    torchs = Loop(torch.amp.GradScaler("cpu", growth_interval=1))
    for loop in (ours, torchs):
        loop.run([True] * 200 + [False])
    assert torchs.scaler.get_scale() == 0.0
    assert torchs.weight.isnan().all()
    assert ours.scaler.get_scale() == 2 * ours.scaler.min_scale
    once = Loop(GradScaler())
    once.step(False)
    assert ours.state() == once.state()


def test_clipping_sees_true_gradients():
    loop = Loop(GradScaler(2.0**10))
    x = torch.tensor([3.0, 0.0, 4.0])
    loop.scaler.scale((loop.weight * x).sum()).backward()
    assert loop.weight.grad.tolist() == [3072.0, 0.0, 4096.0]
    loop.scaler.unscale_(loop.optimizer)
    assert loop.weight.grad.tolist() == x.tolist()
    assert float(nn.utils.clip_grad_norm_([loop.weight], 1.0)) == 5.0
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()
    plain = Loop(None)
    plain.weight.grad = loop.weight.grad
    plain.optimizer.step()
    assert loop.state() == plain.state()


def test_gradients_accumulate_under_one_scale():
    loop, plain = Loop(GradScaler(2.0**10)), Loop(None)
    for x in (torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.5, -1.0, 0.25])):
        loop.scaler.scale((loop.weight * x).sum() / 2).backward()
        ((plain.weight * x).sum() / 2).backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()
    plain.optimizer.step()
    assert loop.state() == plain.state()


def test_of_two_optimizers_only_the_overflowing_one_is_skipped():
    scaler = GradScaler(64.0)
    healthy, broken = Loop(scaler), Loop(scaler)
    losses = [
        (healthy.weight * torch.ones(3)).sum(),
        (broken.weight * torch.tensor([1.0, float("nan"), 1.0])).sum(),
    ]
    for loss in scaler.scale(losses):
        loss.backward()
    before = healthy.state(), broken.state()
    scaler.step(healthy.optimizer)
    scaler.step(broken.optimizer)
    scaler.update()
    assert healthy.state() != before[0]
    assert broken.state() == before[1]
    assert scaler.get_scale() == 32.0


def test_trains_under_float16_autocast_as_torchs_does():
    def losses(scaler):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
        optimizer = torch.optim.Adam(model.parameters(), 0.01)
        x, y = torch.randn(16, 6), torch.randn(16, 1)
        found = []
        for _ in range(12):
            with torch.autocast("cpu", torch.float16):
                loss = nn.functional.mse_loss(model(x), y)
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            found.append(loss.item())
        return found

    # From 2**20 the first steps overflow float16, the rest do not.
    scaler = GradScaler(2.0**20)
    assert losses(scaler) == losses(torch.amp.GradScaler("cpu", init_scale=2.0**20))
    assert scaler.get_scale() < 2.0**20


def test_warns_once_that_the_loss_is_not_finite():
    loop = Loop(GradScaler(1.0, min_scale=1.0))
    with pytest.warns(RuntimeWarning, match="the loss itself is not finite") as caught:
        loop.run([True] * 500)
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_warns_that_only_the_gradients_are_not_finite():
    class Roots(Loop):
        def step(self, overflow):
            with torch.no_grad():
                self.weight.zero_()  # where a root is 0 and its slope infinite
            self.scaler.scale(self.weight.sqrt().sum()).backward()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.optimizer.zero_grad()

    loop = Roots(GradScaler(1.0, min_scale=1.0))
    with pytest.warns(RuntimeWarning, match="the loss is finite but its gradients are not"):
        loop.run([True] * 201)


@pytest.mark.parametrize(
    ("start", "overflows"),
    [
        (1.0, ([True] * 60 + [False]) * 5),  # it comes up for air
        (1.0, [True] * 100 + [False] * 5),  # it was stuck, and mends at the last moment
        (2.0**100, [True] * 199),  # it has been at the bound for too short
    ],
)
def test_does_not_warn_of_what_may_pass(start, overflows):
    loop = Loop(GradScaler(start, min_scale=1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run(overflows)


@pytest.mark.parametrize(
    ("new", "expected"),
    [(4.0, 4.0), (0.5, 1.0), (100, 8.0), (torch.tensor(2.0), 2.0), (torch.tensor(1e9), 8.0)],
)
def test_a_scale_that_is_set_is_brought_within_the_bounds(new, expected):
    loop = Loop(GradScaler(1.0, min_scale=1.0, max_scale=8.0))
    loop.step(False)
    loop.scaler.update(new)
    assert loop.scaler.get_scale() == expected


def test_not_enabled_it_passes_everything_through():
    loop, plain = Loop(GradScaler(enabled=False)), Loop(None)
    loss = (loop.weight * 2).sum()
    assert loop.scaler.scale(loss) is loss
    loss.backward()
    (plain.weight * 2).sum().backward()
    loop.scaler.step(loop.optimizer)
    loop.scaler.update()
    plain.optimizer.step()
    assert loop.state() == plain.state()
    assert loop.scaler.state_dict() == {}
    loop.scaler.load_state_dict({})
    assert not loop.scaler.is_enabled()
    assert loop.scaler.get_scale() == 1.0


def test_an_empty_state_is_refused_as_by_torch():
    with pytest.raises(RuntimeError, match="empty"):
        GradScaler().load_state_dict({})


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda scaler: pickle.loads(pickle.dumps(scaler))]
)
def test_a_copy_continues_where_the_original_was(copied):
    loop = Loop(GradScaler(1024.0, growth_interval=3))
    for overflow in (False, True, False, False):
        loop.step(overflow)
    twin = Loop(copied(loop.scaler))
    for overflow in (False, True, False):
        loop.step(overflow)
        twin.step(overflow)
        assert twin.scaler.state_dict() == loop.scaler.state_dict()


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((1024.0, 4.0, 0.25, 10, True), {}),
        (("cpu", 1024.0, 4.0, 0.25, 10, True), {}),
        ((torch.device("cpu"), 1024, 4.0), {"backoff_factor": 0.25, "growth_interval": 10}),
        ((1024.0, 4, 0.25), {"growth_interval": 10, "device": "cpu"}),
    ],
)
def test_understands_torchs_orders_of_arguments(args, options):
    made = GradScaler(*args, **options)
    assert isinstance(made, torch.amp.GradScaler)
    assert made.is_enabled()
    torchs = torch.amp.GradScaler("cpu", 1024.0, 4.0, 0.25, 10).state_dict()
    assert {key: made.state_dict()[key] for key in torchs} == torchs


def test_a_scaler_for_cuda_behaves_as_torchs():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says so where there is no CUDA
        enabled = torch.amp.GradScaler("cuda").is_enabled()
        assert GradScaler("cuda").is_enabled() == enabled
        assert GradScaler("cuda:0", init_scale=4.0).is_enabled() == enabled


def test_default_bounds_give_way_to_the_first_scale():
    assert GradScaler(2.0**32).max_scale == 2.0**32
    assert GradScaler(2.0**-20).min_scale == 2.0**-20
    assert (GradScaler().min_scale, GradScaler().max_scale) == (2.0**-14, 2.0**24)


@pytest.mark.parametrize(
    ("args", "options", "says"),
    [
        ((), {"init_scal": 2.0}, "no argument 'init_scal'. Did you mean 'init_scale'"),
        ((0.0,), {}, "init_scale cannot be 0.0"),
        ((float("nan"),), {}, "init_scale cannot be nan"),
        (("cpu", "big"), {}, "init_scale cannot be 'big'. It must be a number"),
        ((), {"growth_factor": 1.0}, "growth_factor cannot be 1.0. It must be above 1"),
        ((), {"backoff_factor": 1.0}, "backoff_factor cannot be 1.0"),
        ((), {"growth_interval": 0}, "growth_interval cannot be 0"),
        ((), {"growth_interval": 1.5}, "growth_interval cannot be 1.5"),
        ((), {"min_scale": -1.0}, "min_scale cannot be -1.0"),
        ((), {"max_scale": float("inf")}, "max_scale cannot be inf"),
        ((), {"min_scale": 4.0, "max_scale": 2.0}, "min_scale 4 is above max_scale 2"),
        ((1.0,), {"min_scale": 2.0}, "init_scale 1 is outside"),
        (("abacus",), {}, "no device 'abacus'"),
        (("cpu",), {"device": "cpu"}, "'device' twice"),
        ((1.0, 2.0, 0.5, 3, True, 1.0), {}, "at most 5 arguments by position, not 6"),
    ],
)
def test_arguments_that_cannot_be_are_refused_in_a_sentence(args, options, says):
    with pytest.raises(ConfigError) as caught:
        GradScaler(*args, **options)
    assert says in str(caught.value)


@pytest.mark.parametrize("new", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_that_cannot_be_is_not_set(new):
    loop = Loop(GradScaler(4.0))
    loop.step(False)
    with pytest.raises(ConfigError, match="new_scale cannot be"):
        loop.scaler.update(new)
    assert loop.scaler.get_scale() == 4.0
