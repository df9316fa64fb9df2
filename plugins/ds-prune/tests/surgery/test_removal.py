"""Removal in place: what it computes, what stays, and the way back."""

import copy
import gc
import weakref

import numpy as np
import pytest
import torch
from cut_nets import NETS, Net, depthwise, half, heads, masks, net, residual, stack
from ds_prune.structure import Structure
from ds_prune.surgery import apply_record, remove
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ds_core.errors import RefusedError

MADE = {name: make() for name, make in NETS.items()}


def snapshot(model, optimizer=None):
    """All that a removal touches."""
    attributes = {
        (name, key): copy.deepcopy(value)
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if type(value) in (int, bool, tuple, list)
    }
    tensors = {
        name: (tensor.detach().clone(), tensor.stride(), tensor.requires_grad)
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]
    }
    grads = {
        name: None if tensor.grad is None else tensor.grad.clone()
        for name, tensor in model.named_parameters()
    }
    state = [] if optimizer is None else copy.deepcopy(optimizer.state_dict())
    classes = {name: type(module) for name, module in model.named_modules()}
    return attributes, tensors, grads, state, classes


def assert_same(one, two):
    """Bit for bit."""
    assert type(one) is type(two)
    if isinstance(one, torch.Tensor):
        assert one.dtype == two.dtype
        assert torch.equal(one, two)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(two)
        for left, right in zip(one, two, strict=True):
            assert_same(left, right)
    else:
        assert one == two


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_the_small_model_computes_what_it_should_and_everything_comes_back(name, data):
    one = MADE[name]
    kept = data.draw(masks(one.structure))
    before, objects = snapshot(one.model), list(one.model.parameters())
    expected = one.reference(kept)
    removal = remove(one.model, one.structure, kept)
    try:
        torch.testing.assert_close(one.output(), expected, rtol=1e-4, atol=1e-5)
        assert all(new is old for new, old in zip(one.model.parameters(), objects, strict=True))
        for key, (old, new) in removal.record.shapes.items():
            assert tuple(before[1][key][0].shape) == old
            assert tuple({**dict(one.model.named_parameters()),
                          **dict(one.model.named_buffers())}[key].shape) == new  # fmt: skip
    finally:
        removal.undo()
    assert_same(snapshot(one.model), before)


@pytest.mark.parametrize("name", NETS)
def test_attributes_are_those_of_a_module_of_that_size(name):
    one = MADE[name]
    removal = remove(one.model, one.structure, half(one.structure))
    try:
        for module in one.model.modules():
            if isinstance(module, nn.Conv2d | nn.Conv1d | nn.ConvTranspose1d):
                made = type(module)(
                    module.in_channels, module.out_channels, module.kernel_size,
                    groups=module.groups,
                )  # fmt: skip
                assert made.weight.shape == module.weight.shape
            elif isinstance(module, nn.Linear):
                assert tuple(module.weight.shape) == (module.out_features, module.in_features)
            elif isinstance(module, nn.BatchNorm2d):
                assert module.num_features == len(module.running_mean)
            elif isinstance(module, nn.GroupNorm):
                assert (module.num_groups, module.num_channels) == (2, 6)
    finally:
        removal.undo()


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, foreach=False),
    "foreach": lambda p: torch.optim.AdamW(p, foreach=True),
    "fused": lambda p: torch.optim.AdamW(p, fused=True),
    "fused sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "capturable": lambda p: torch.optim.Adam(p, capturable=False, maximize=True, foreach=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, momentum=0.5, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p),
    "adagrad": lambda p: torch.optim.Adagrad(p),
}


def step(model, optimizer, args):
    optimizer.zero_grad()
    out = model(*args)
    loss = out.square().mean()
    loss.backward()
    optimizer.step()
    return loss


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("make", [residual, depthwise, heads])
def test_training_goes_on_as_with_an_optimizer_made_for_the_small_model(make, name):
    one = make()
    optimizer = OPTIMIZERS[name](one.model.parameters())
    held = [step(one.model, optimizer, one.args) for _ in range(2)]  # their graphs live on
    before = {
        key: {name: value.clone() for name, value in optimizer.state[tensor].items()
              if isinstance(value, torch.Tensor) and value.shape == tensor.shape}
        for key, tensor in one.model.named_parameters()
    }  # fmt: skip
    removal = remove(one.model, one.structure, half(one.structure), optimizer)
    for key, tensor in one.model.named_parameters():
        for entry, value in before[key].items():
            for dim, index in removal.record.kept.get(key, {}).items():
                value = value.index_select(dim, torch.from_numpy(index))
            assert torch.equal(optimizer.state[tensor][entry], value)
    other = copy.deepcopy(one.model)
    fresh = OPTIMIZERS[name](other.parameters())
    fresh.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for _ in range(3):
        step(one.model, optimizer, one.args)
        step(other, fresh, one.args)
    assert_same(dict(one.model.named_parameters()), dict(other.named_parameters()))
    assert len(held) == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_undoing_gives_gradients_and_optimizer_state_back(name):
    one = residual()
    optimizer = OPTIMIZERS[name](one.model.parameters())
    held = step(one.model, optimizer, one.args)
    before = snapshot(one.model, optimizer)
    remove(one.model, one.structure, half(one.structure), [optimizer]).undo()
    assert_same(snapshot(one.model, optimizer), before)
    removal = remove(one.model, one.structure, half(one.structure), [optimizer])
    step(one.model, optimizer, one.args)
    removal.undo()
    for key in removal.record.kept:  # what was not cut keeps what training made of it
        assert key.startswith("norm") or torch.equal(
            one.model.get_parameter(key), before[1][key][0]
        )
    step(one.model, optimizer, one.args)
    assert held.requires_grad


def test_gradients_are_cut_and_hooks_stay():
    one = residual()
    weight, calls = one.model.one.weight, []
    weight.register_hook(lambda grad: calls.append(tuple(grad.shape)))
    weight.register_post_accumulate_grad_hook(lambda p: calls.append(tuple(p.grad.shape)))
    held = one.model(*one.args).sum()
    held.backward()
    grad = weight.grad.clone()
    kept = half(one.structure)
    remove(one.model, one.structure, kept)
    assert torch.equal(weight.grad, grad[kept["one"]][:, kept["stem"]])
    one.model(*one.args).sum().backward()
    assert calls == [(12, 8, 1, 1)] * 2 + [(6, 4, 1, 1)] * 2
    assert held.requires_grad


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_dtypes_requires_grad_and_strides_stay(dtype):
    one = stack()
    one.model.to(dtype).to(memory_format=torch.channels_last)
    one.model[0].weight.requires_grad_(False)
    remove(one.model, one.structure, half(one.structure))
    convolution = one.model[3].weight
    assert convolution.dtype == dtype
    assert (
        convolution.stride()
        == torch.empty(convolution.shape, memory_format=torch.channels_last).stride()
    )
    assert not one.model[0].weight.requires_grad
    assert one.model[3].weight.requires_grad
    assert one.model[1].num_batches_tracked.dtype == torch.int64


def test_a_kernel_of_one_pixel_keeps_its_memory_format():
    one = depthwise()
    contiguous = one.model[3].weight.stride()
    remove(one.model, one.structure, half(one.structure))
    assert contiguous == (8, 1, 1, 1)
    assert one.model[3].weight.stride() == (4, 1, 1, 1)
    one = depthwise()
    one.model.to(memory_format=torch.channels_last)
    remove(one.model, one.structure, half(one.structure))
    assert one.model[3].weight.stride() == (4, 1, 4, 4)


def test_after_committing_the_old_tensors_are_free():
    one = stack()
    storage = weakref.ref(one.model[0].weight.data.untyped_storage())
    data = one.model[0].weight.data
    gone = weakref.ref(data)
    removal = remove(one.model, one.structure, half(one.structure))
    del data
    removal.commit()
    gc.collect()
    assert gone() is None
    assert storage() is None
    small = one.model[0].weight.shape
    removal.undo()
    assert one.model[0].weight.shape == small


def test_tensors_that_share_memory_are_not_parted():
    one = stack()
    one.model[3].weight.data = one.model[3].weight.data.clone()
    one.model.register_buffer("view", one.model[3].weight.data[:, :2])
    before = snapshot(one.model)
    with pytest.raises(RefusedError, match=r"'3.weight' and 'view' share memory"):
        remove(one.model, one.structure, half(one.structure))
    assert_same(snapshot(one.model), before)


def test_neighbours_in_one_buffer_may_be_cut():
    one = stack()
    flat = torch.cat([p.data.flatten() for p in one.model.parameters()])
    start = 0
    for parameter in one.model.parameters():
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    kept = half(one.structure)
    expected = one.reference(kept)
    remove(one.model, one.structure, kept)
    torch.testing.assert_close(one.output(), expected)


def test_an_optimizer_whose_state_cannot_be_cut_is_refused_and_nothing_changes():
    one = residual()
    optimizer = torch.optim.SGD(one.model.parameters(), lr=0.1, momentum=0.9)
    step(one.model, optimizer, one.args)
    optimizer.state[one.model.two.weight]["absmax"] = torch.ones(7)
    before = snapshot(one.model, optimizer)
    with pytest.raises(RefusedError, match=r"SGD holds 'absmax' of shape \(7,\) for 'two.weight'"):
        remove(one.model, one.structure, half(one.structure), optimizer)
    assert_same(snapshot(one.model, optimizer), before)


def test_lbfgs_is_refused_after_its_first_step():
    one = heads()
    optimizer = torch.optim.LBFGS(one.model.parameters())
    optimizer.step(lambda: step(one.model, torch.optim.SGD(one.model.parameters(), 0), one.args))
    with pytest.raises(RefusedError, match="LBFGS"):
        remove(one.model, one.structure, half(one.structure), optimizer)


def test_what_is_kept_must_fit_the_structure():
    one = stack()
    for kept, said in (
        ({"stern": np.ones(8, bool)}, "no group 'stern'"),
        ({"0": np.ones(7, bool)}, "8 booleans"),
        ({"0": np.ones(8)}, "8 booleans"),
        ({"0": np.zeros(8, bool)}, "lose all"),
    ):
        with pytest.raises(RefusedError, match=said):
            remove(one.model, one.structure, kept)
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    with pytest.raises(RefusedError, match="Analyse it anew"):
        remove(other, one.structure, {"0": np.arange(8) < 2})


def test_removing_nothing_changes_nothing():
    one = stack()
    before = snapshot(one.model)
    removal = remove(one.model, one.structure, {"0": np.ones(8, bool)})
    assert not removal.record.kept
    assert_same(snapshot(one.model), before)


def test_shared_parameters_stay_shared():
    one = NETS["tied"]()
    found = net(one.model, one.args, {"embed": [("embed.weight", 1, "consume")]})
    remove(one.model, found.structure, {"embed": np.arange(8) < 5})
    assert one.model.head.weight is one.model.embed.weight
    assert (one.model.head.in_features, one.model.embed.embedding_dim) == (5, 5)


def test_a_compiled_model_compiles_anew():
    one = stack()
    compiled = torch.compile(one.model, backend="eager")
    compiled(*one.args)
    remove(one.model, one.structure, half(one.structure))
    torch.testing.assert_close(compiled(*one.args), one.model(*one.args))
    torch._dynamo.reset()


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_two_removals_in_turn_are_one(data):
    one = residual()
    whole, twin = copy.deepcopy(one.model), copy.deepcopy(one.model)
    first = data.draw(masks(one.structure))
    record = remove(one.model, one.structure, first).record
    smaller = []
    for group in one.structure.groups:
        members = [(member.tensor, member.dim, member.role) for member in group.members]
        smaller.append((group.name, members))
    again = net(one.model, one.args, dict(smaller))
    second = data.draw(masks(again.structure))
    later = remove(one.model, again.structure, second).record
    both = record.then(later)
    both.check("here")
    apply_record(twin, both)
    kept = {}
    for name, mask in first.items():
        kept[name] = mask.copy()
        kept[name][mask] = second[name]
    expected = Net(whole, one.structure, one.args).reference(kept)
    torch.testing.assert_close(Net(twin, Structure((), (), {}, ()), one.args).output(), expected)
