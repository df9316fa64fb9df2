"""What criteria give is what their definitions say."""

import io

import numpy as np
import pytest
import torch
from ds_prune.importance.chance import Chance
from ds_prune.importance.geometric_median import GeometricMedian
from ds_prune.importance.installed import make_criterion
from ds_prune.importance.magnitude import Magnitude
from ds_prune.importance.taylor import Taylor
from handmade import convolutional, perceptron, residual
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ds_core.errors import ConfigError


def tensors(model):
    return dict(model.named_parameters())


def backward(model, x, seed=0):
    torch.manual_seed(seed)
    model.zero_grad()
    loss = model(x + 0.1 * torch.randn_like(x)).square().mean()
    loss.backward()
    return loss


@pytest.mark.parametrize("made", [perceptron, convolutional, residual])
@pytest.mark.parametrize("name", ["taylor", "magnitude", "fpgm", "random"])
def test_all_give_a_finite_score_to_each_atom(made, name):
    model, structure, x = made()
    criterion = make_criterion(name)
    backward(model, x)
    criterion.observe(tensors(model), structure)
    scores = criterion.scores(tensors(model), structure)
    assert {group.name: (group.count,) for group in structure.groups} == {
        group: values.shape for group, values in scores.items()
    }
    for values in scores.values():
        assert values.dtype == np.float64
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert values.std() > 0


@pytest.mark.parametrize("made", [perceptron, convolutional, residual])
def test_taylor_is_the_derivative_of_a_gate(made):
    """A gate on an atom scales all weights that use it; its derivative is taken by differences."""
    model, structure, x = made()
    model.double().eval()
    x = x.double()
    criterion = Taylor()
    model.zero_grad()
    model(x).square().mean().backward()
    criterion.observe(tensors(model), structure)
    scores = criterion.scores(tensors(model), structure)

    def loss(group, atom, factor):
        with torch.no_grad():
            before = {name: value.clone() for name, value in tensors(model).items()}
            for member in group.members:
                if member.role == "consume":
                    where = torch.from_numpy(member.index[atom])
                    weight = tensors(model)[member.tensor]
                    weight.index_copy_(
                        member.dim, where, weight.index_select(member.dim, where) * factor
                    )
            found = model(x).square().mean().item()
            for name, value in tensors(model).items():
                value.copy_(before[name])
        return found

    for group in structure.groups:
        for atom in (0, group.count - 1):
            slope = (loss(group, atom, 1 + 1e-5) - loss(group, atom, 1 - 1e-5)) / 2e-5
            assert scores[group.name][atom] == pytest.approx(abs(slope), rel=1e-3, abs=1e-9)


@given(st.floats(0, 0.99), st.integers(1, 5))
@settings(deadline=None, max_examples=20)
def test_taylor_averages_steps_with_weights_that_add_up_to_one(decay, steps):
    model, structure, x = perceptron()
    criterion = Taylor(decay=decay)
    single = []
    for step in range(steps):
        backward(model, x, seed=step)
        criterion.observe(tensors(model), structure)
        alone = Taylor()
        alone.observe(tensors(model), structure)
        single.append(alone.scores(tensors(model), structure)["0"])
    weights = decay ** np.arange(steps - 1, -1, -1.0)
    expected = np.sqrt((weights / weights.sum()) @ np.stack(single) ** 2)
    found = criterion.scores(tensors(model), structure)["0"]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3 * max(map(np.max, single)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_step_with_gradients_that_are_not_finite_does_not_count(bad):
    model, structure, x = perceptron()
    criterion = Taylor()
    backward(model, x)
    criterion.observe(tensors(model), structure)
    before = criterion.scores(tensors(model), structure)
    model[2].weight.grad[0, 0] = bad
    criterion.observe(tensors(model), structure)
    after = criterion.scores(tensors(model), structure)
    assert all((before[name] == after[name]).all() for name in before)


def test_groups_that_no_trained_weight_uses_are_not_judged():
    model, structure, x = perceptron()
    model[2].weight.requires_grad_(False)
    criterion = Taylor()
    backward(model, x)
    criterion.observe(tensors(model), structure)
    assert set(criterion.scores(tensors(model), structure)) == {"2"}
    model[2].weight.requires_grad_(True)
    backward(model, x)
    criterion.observe(tensors(model), structure)
    assert set(criterion.scores(tensors(model), structure)) == {"0", "2"}


def test_before_any_step_taylor_judges_nothing():
    model, structure, _ = perceptron()
    assert Taylor().scores(tensors(model), structure) == {}


def test_taylor_remembers_the_atoms_that_stay():
    model, structure, x = perceptron()
    criterion = Taylor()
    backward(model, x)
    criterion.observe(tensors(model), structure)
    before = criterion.scores(tensors(model), structure)["0"]
    kept = {"0": np.arange(16) % 3 != 0}
    criterion.narrow(kept)
    smaller, its_structure, _ = perceptron((6, 10, 12, 4))
    after = criterion.scores(tensors(smaller), its_structure)
    assert (after["0"] == before[kept["0"]]).all()
    backward(smaller, x)
    criterion.observe(tensors(smaller), its_structure)  # and learns on


def test_taylor_goes_on_where_its_state_was_saved():
    model, structure, x = convolutional()
    first, second = Taylor(), Taylor()
    backward(model, x)
    first.observe(tensors(model), structure)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file, weights_only=True))
    backward(model, x, seed=1)
    for criterion in (first, second):
        criterion.observe(tensors(model), structure)
    one, other = (criterion.scores(tensors(model), structure) for criterion in (first, second))
    assert all((one[name] == other[name]).all() for name in one)


def test_learning_changes_no_gradient_and_reads_nothing_back():
    """On the meta device every reading of a value is an error."""
    model, structure, x = convolutional()
    backward(model, x)
    before = {name: value.grad.clone() for name, value in tensors(model).items()}
    Taylor().observe(tensors(model), structure)
    assert all(torch.equal(before[name], value.grad) for name, value in tensors(model).items())
    model.to("meta")
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    Taylor().observe(tensors(model), structure)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_products_that_would_vanish_in_16_bit_count(dtype):
    model, structure, _ = perceptron()
    for parameter in model.to(dtype).parameters():
        torch.nn.init.constant_(parameter, 1e-4)
        parameter.grad = torch.full_like(parameter, 1e-5)
    criterion = Taylor()
    criterion.observe(tensors(model), structure)
    found = criterion.scores(tensors(model), structure)["0"]
    np.testing.assert_allclose(found, 12 * 1e-9, rtol=0.05)


def test_magnitude_is_the_norm_of_all_that_makes_and_uses_an_atom():
    model, structure, _ = convolutional()
    found = Magnitude().scores(tensors(model), structure)
    made, used = model[0].weight, model[3].weight
    norms = (made.square().sum((1, 2, 3)) + used.square().sum((0, 2, 3))).sqrt()
    expected = (norms / norms.mean()).detach().numpy()
    np.testing.assert_allclose(found["0"], expected, rtol=1e-5)
    made, used = model[3].weight, model[6].weight.view(10, 12, -1)
    norms = (made.square().sum((1, 2, 3)) + used.square().sum((0, 2))).sqrt()
    np.testing.assert_allclose(found["3"], (norms / norms.mean()).detach().numpy(), rtol=1e-5)


def test_scores_of_groups_compare_whatever_the_size_of_their_weights():
    model, structure, _ = perceptron()
    with torch.no_grad():
        model[0].weight.mul_(1000)
        model[2].weight.mul_(1000)
    for criterion in (Magnitude(), GeometricMedian()):
        for values in criterion.scores(tensors(model), structure).values():
            assert values.mean() == pytest.approx(1)


def test_an_atom_that_others_can_stand_in_for_goes_first():
    model, structure, _ = perceptron((6, 9, 12, 4))
    with torch.no_grad():
        weight = 5 * F.one_hot(torch.arange(9) % 6, 6).float()
        weight[8] = weight[:6].mean(0)
        model[0].weight.copy_(weight)
    scores = GeometricMedian().scores(tensors(model), structure)["0"]
    assert scores.argmin() == 8


def test_distances_to_all_others_add_up():
    model, structure, _ = perceptron()
    rows = model[0].weight.detach().double().numpy()
    sums = np.linalg.norm(rows[:, None] - rows[None], axis=-1).sum(1)
    found = GeometricMedian().scores(tensors(model), structure)["0"]
    np.testing.assert_allclose(found, sums / sums.mean(), rtol=1e-4)


def test_weights_of_zero_are_worth_nothing():
    model, structure, _ = perceptron()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    for values in Magnitude().scores(tensors(model), structure).values():
        assert (values == 0).all()


def test_chance_depends_on_its_seed_alone():
    _, structure, _ = perceptron()
    one, same, other = (Chance(seed=seed).scores({}, structure) for seed in (1, 1, 2))
    assert all((one[name] == same[name]).all() for name in one)
    assert all((one[name] != other[name]).any() for name in one)
    assert not np.isin(one["0"], one["2"]).any()


def test_options_are_checked():
    with pytest.raises(ConfigError, match=r"criterion 'taylor'.*'decay' cannot be 2"):
        Taylor(decay=2)
    with pytest.raises(ConfigError, match=r"Did you mean 'decay'"):
        make_criterion("taylor", {"decays": 0.5})
