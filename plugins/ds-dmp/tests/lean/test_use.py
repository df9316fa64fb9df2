"""What users do with a model while its memory is lean."""

import copy
import gc
import threading

import pytest
import torch
from ds_dmp.lean.records import Record
from nets import difference, encoder, gradients, images, lean, loss_of, residual_net, sequences
from torch import nn
from torch.utils.checkpoint import checkpoint

CLOSE = 0.02


@pytest.fixture
def net():
    return residual_net()


@pytest.fixture
def batch():
    return images()


def alive():
    return sum(isinstance(each, Record) for each in gc.get_objects())


@pytest.mark.parametrize("make", [residual_net, encoder])
def test_a_graph_that_is_let_go_leaves_nothing(make):
    model = make()
    x, y = images() if make is residual_net else sequences()
    gc.collect()
    gc.disable()  # reference cycles would keep records alive
    try:
        with lean(model):
            loss = loss_of(model, x, y)
            assert alive() > 0
            del loss
            assert alive() == 0
            loss = loss_of(model, x, y)
            loss.backward()
            assert alive() == 0
            loss = loss_of(model, x, y)
            loss.backward(retain_graph=True)
            del loss
            assert alive() == 0
    finally:
        gc.enable()


def test_packed_memory_is_given_back_as_backward_goes_on(net, batch):
    """A value that two share lives no longer than they do."""
    counts = []
    net[0].weight.register_hook(lambda gradient: counts.append(alive()))
    with lean(net):
        loss = loss_of(net, *batch)
        before = alive()
        loss.backward()
    assert counts[0] < before / 3


def test_a_forward_that_raises_leaves_no_trace(net, batch):
    x, _ = batch
    with lean(net):
        with pytest.raises(RuntimeError):
            net(x[:, :2])
        gradients(net, *batch)
    # Outside of it, torch saves as ever: the same storage comes back.
    a = torch.randn(8192, requires_grad=True)
    assert a.exp().grad_fn._saved_result.shape == a.shape


def test_no_grad_in_between(net, batch):
    exact = gradients(net, *batch)
    with lean(net):
        loss = loss_of(net, *batch)
        with torch.no_grad():
            plain = net.eval()(batch[0])
        net.train()
        net.zero_grad()
        loss.backward()
        got = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert difference(got, exact) < CLOSE
    assert not plain.requires_grad


def test_two_forwards_before_the_backwards(net, batch):
    x, y = batch
    other = torch.randn_like(x)
    exact = gradients(net, x, y) + gradients(net, other, y)
    with lean(net):
        losses = [loss_of(net, x, y), loss_of(net, other, y)]
        net.zero_grad()
        for loss in losses:
            loss.backward()
        got = torch.cat([p.grad.flatten() for p in net.parameters()])
    assert difference(got, exact) < CLOSE


def test_backward_twice_gives_the_same(net, batch):
    with lean(net):
        loss = loss_of(net, *batch)
        found = []
        for keep in (True, False):
            net.zero_grad()
            loss.backward(retain_graph=keep)
            found.append(torch.cat([p.grad.flatten() for p in net.parameters()]))
    assert torch.equal(*found)


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU, nn.ReLU6, nn.GELU, nn.LeakyReLU])
def test_gradients_of_gradients(batch, activation):
    net = residual_net(activation=activation)
    x, y = batch

    def penalty():
        net.zero_grad()
        inputs = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(loss_of(net, inputs, y), inputs, create_graph=True)
        (1000 * gradient).square().sum().backward()
        return torch.cat([p.grad.flatten() for p in net.parameters()])

    exact = penalty()
    with lean(net):
        got = penalty()
    assert difference(got, exact) < 2 * CLOSE


@pytest.mark.parametrize("reentrant", [False, True])
def test_activation_checkpointing(reentrant, batch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.start, self.body, self.end = (
                residual_net()[:3],
                residual_net()[3:5],
                residual_net()[5:],
            )

        def forward(self, x):
            x = checkpoint(self.body, self.start(x), use_reentrant=reentrant)
            return self.end(x)

    net = Net()
    exact = gradients(net, *batch)
    with lean(net) as memory:
        assert difference(gradients(net, *batch), exact) < CLOSE
        rows = {row["layer"]: row for row in memory.report()["layers"]}
        assert not any(name.startswith("body") for name in rows)
        assert rows[""]["now"] == 8 * 16 * 16 * 16 * 4  # the checkpoint's input, exact


def test_hooks_of_the_users_own(net, batch):
    """A user's hooks inside the model go before these, as torch has it."""

    class Inside(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            with torch.autograd.graph.save_on_cpu():
                return self.inner(x)

    outer = nn.Sequential(Inside(net))
    exact = gradients(outer, *batch)
    with lean(outer) as memory:
        assert torch.equal(gradients(outer, *batch), exact)
        assert memory.report()["totals"]["all"]["tensors"] == 0


def test_module_hooks_that_change_what_goes_in_and_out(net, batch):
    net[1].register_forward_pre_hook(lambda module, args: (args[0] * 2,))
    net[1].register_forward_hook(lambda module, args, output: output + 0.3)
    net[2].register_forward_hook(lambda module, args, output: output.mul_(1.5) and None)
    net[3].norm1.register_forward_hook(lambda module, args, output: output.neg())
    net[2] = nn.LeakyReLU(0.1)
    exact = gradients(net, *batch)
    with lean(net, pack=False):
        assert difference(gradients(net, *batch), exact) < 1e-6


def test_a_subclass_with_a_forward_of_its_own_is_not_recomputed(batch):
    class Odd(nn.BatchNorm2d):
        def forward(self, x):
            return super().forward(x).sin()

    net = nn.Sequential(nn.Conv2d(3, 16, 3), Odd(16), nn.Conv2d(16, 4, 3), nn.Flatten())
    with torch.no_grad():
        y = torch.randn_like(net(batch[0]))
    exact = gradients(net, batch[0], y)
    with lean(net, pack=False) as memory:
        assert torch.equal(gradients(net, batch[0], y), exact)
        assert memory.report()["totals"]["recomputed"]["tensors"] == 0


def test_an_output_changed_in_place_is_not_recomputed(batch):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16)
            self.last = nn.Conv2d(16, 4, 3)

        def forward(self, x):
            x = self.norm(self.conv(x))
            x *= 3
            return self.last(x).flatten(1)

    net = Net()
    with torch.no_grad():
        y = torch.randn_like(net(batch[0]))
    exact = gradients(net, batch[0], y)
    for options in ({"pack": False}, {}):
        with lean(net, **options):
            assert difference(gradients(net, batch[0], y), exact) < CLOSE


def test_one_module_in_two_places(batch):
    shared = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
    net = nn.Sequential(nn.Conv2d(3, 16, 3), shared, shared, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    exact = gradients(net, *batch)
    with lean(net):
        assert difference(gradients(net, *batch), exact) < CLOSE


def test_threads(batch):
    """As DataParallel does it: the same model, forwards at once in several threads."""
    net = residual_net().eval()
    x, y = batch
    exact = gradients(net, x, y)
    found = [None] * 4
    with lean(net):

        def work(index):
            gradient = torch.autograd.grad(loss_of(net, x, y), list(net.parameters()))
            found[index] = torch.cat([g.flatten() for g in gradient])

        threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for gradient in found:
        assert difference(gradient, exact) < CLOSE


def test_dropout_stays_the_users():
    net, (x, y) = encoder(dropout=0.2), sequences()
    torch.manual_seed(4)
    exact, following = gradients(net, x, y), torch.rand(1)
    with lean(net, plus=True):
        torch.manual_seed(4)
        got = gradients(net, x, y)
        assert torch.equal(torch.rand(1), following)
    assert difference(got, exact) < 0.2


def test_compiled_as_before(net, batch):
    exact = gradients(net, *batch)
    with lean(net):
        compiled = torch.compile(net, backend="eager", fullgraph=True)
        assert torch.equal(gradients(compiled, *batch), exact)


def test_functional_transforms_as_before():
    net = nn.Sequential(nn.Linear(64, 128), nn.Tanh(), nn.Linear(128, 64))
    x = torch.randn(64, 64)
    weights = dict(net.named_parameters())

    def loss(weights):
        return torch.func.functional_call(net, weights, (x,)).square().sum()

    exact = torch.func.grad(loss)(weights)
    with lean(net):
        got = torch.func.grad(loss)(weights)
    assert all(torch.equal(got[name], exact[name]) for name in exact)


def test_a_copy_is_plain(net, batch):
    with lean(net):
        other = copy.deepcopy(net)
        assert {type(module) for module in other.modules()} <= {
            nn.Sequential,
            nn.Conv2d,
            nn.BatchNorm2d,
            nn.ReLU,
            nn.AdaptiveAvgPool2d,
            nn.Flatten,
            nn.Linear,
            type(residual_net()[3]),
        }
        gradients(other, *batch)


def test_a_model_that_differentiates_itself():
    class Energy(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(16, 128), nn.Tanh(), nn.Linear(128, 1))

        def forward(self, x):
            x = x.detach().requires_grad_()
            (force,) = torch.autograd.grad(self.net(x).sum(), x, create_graph=True)
            return force

    net, x, y = Energy(), torch.randn(256, 16), torch.randn(256, 16)
    exact = gradients(net, x, y)
    with lean(net):
        assert difference(gradients(net, x, y), exact) < CLOSE


def test_training_reaches_the_same_loss(batch):
    losses = []
    for plus in (None, False, True):
        torch.manual_seed(1)
        net, (x, y) = residual_net(8), batch
        optimizer = torch.optim.SGD(net.parameters(), 0.05, momentum=0.9)

        def train(memory=None, net=net, optimizer=optimizer, x=x, y=y):
            for _ in range(15):
                optimizer.zero_grad()
                loss = loss_of(net, x, y)
                loss.backward()
                if memory:
                    memory.before_step(optimizer)
                optimizer.step()
                if memory:
                    memory.after_step(optimizer)
            losses.append(loss.item())

        if plus is None:
            train()
        else:
            with lean(net, plus=plus) as memory:
                train(memory)
    assert losses[1] == pytest.approx(losses[0], rel=0.1, abs=0.02)
    assert losses[2] == pytest.approx(losses[0], rel=0.3, abs=0.05)
