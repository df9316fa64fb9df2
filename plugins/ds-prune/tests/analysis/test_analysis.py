"""What an analysis asks of a model, and how it leaves it."""

import copy
import random

import numpy as np
import pytest
import torch
from ds_prune.analysis import Analysis, analyse
from ds_prune.one_shot import prune
from idioms import IDIOMS
from torch import nn

from ds_core.errors import RefusedError

BY_NAME = {idiom.name: idiom for idiom in IDIOMS}


def found(idiom, **options):
    structure = analyse(idiom.seeded(), idiom.inputs(), idiom.keywords(), **options)
    return {group.name: group.count for group in structure.groups}


def test_modules_that_are_kept_give_the_same_channels():
    assert found(BY_NAME["residual"], keep=["one"]) == {"stem": 8}
    assert found(BY_NAME["residual"], keep=["two"]) == {"one": 6}


def test_a_kept_module_may_have_layers_of_its_own():
    """Only what goes out of it stays."""
    assert found(BY_NAME["encoder layer"], keep=["layer"]) == {
        "layer.self_attn": 4,
        "layer.linear1": 12,
    }


def test_unknown_names_are_refused_with_the_nearest():
    with pytest.raises(RefusedError, match=r"no module 'stam'.*'stem'"):
        found(BY_NAME["residual"], keep=["stam"])


def test_reasons_name_what_is_kept():
    idiom = BY_NAME["residual"]
    structure = analyse(idiom.seeded(), idiom.inputs(), keep=["one"])
    reasons = {one.reason for one in structure.frozen if one.tensor == "one.weight"}
    assert "`one` is to be kept" in reasons


class Careless(nn.Module):
    """Changes itself in a forward."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 6)
        self.norm = nn.BatchNorm1d(6)
        self.b = nn.Linear(6, 2)
        self.register_buffer("calls", torch.zeros(()))
        self.last, self.known = None, {}

    def forward(self, x):
        self.calls += 1
        random.random()
        x = self.norm(self.a(x))
        self.last, self.seen = x, True
        self.known["x"] = x
        return self.b(torch.relu(x))


@pytest.mark.parametrize("exported", [True, False])
def test_the_model_is_left_as_it_was(exported, monkeypatch):
    model = Careless()
    model.norm.eval()
    if not exported:
        monkeypatch.setattr(torch.export, "export", _failing)
    before = copy.deepcopy(model.state_dict())
    attributes = {name: set(vars(module)) for name, module in model.named_modules()}
    parameters = list(map(id, model.parameters()))
    torch.manual_seed(5)
    random.seed(5)
    states = torch.get_rng_state(), random.getstate()

    analysis = Analysis(model, (torch.randn(3, 4, generator=torch.Generator()),))
    analysis.reference({"a": np.arange(6) > 2})

    assert [group.name for group in analysis.structure.groups] == ["a"]
    assert bool(analysis.structure.notes) == (not exported)
    assert torch.equal(torch.get_rng_state(), states[0])
    assert random.getstate() == states[1]
    assert list(map(id, model.parameters())) == parameters
    assert {name: set(vars(module)) for name, module in model.named_modules()} == attributes
    assert (model.last, model.known) == (None, {})
    assert model.training
    assert model.a.training
    assert not model.norm.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]), name
    assert torch.backends.mha.get_fastpath_enabled()


def _failing(*_, **__):
    raise NotImplementedError("no export")


def test_the_model_is_left_as_it_was_after_an_error():
    model = BY_NAME["branch on data"].seeded().train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(RefusedError, match=r"idioms_other.py:\d+: The forward"):
        analyse(model, BY_NAME["branch on data"].inputs())
    assert all(module.training for module in model.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert torch.backends.mha.get_fastpath_enabled()


@pytest.mark.parametrize("name", ["self-attention", "channel split and shuffle", "own norm"])
def test_a_recorded_run_says_the_same_as_an_export(name, monkeypatch):
    idiom = BY_NAME[name]
    exported = Analysis(idiom.seeded(), idiom.inputs())
    monkeypatch.setattr(torch.export, "export", _failing)
    recorded = Analysis(idiom.seeded(), idiom.inputs())
    assert recorded.structure.notes
    one, other = exported.structure, recorded.structure
    assert [group.name for group in one.groups] == [group.name for group in other.groups]
    assert [(work.layer, work.operation) for work in one.work] == [
        (work.layer, work.operation) for work in other.work
    ]
    kept = {group.name: np.arange(group.count) % 3 > 0 for group in one.groups}
    assert one.multiply_adds(kept) == other.multiply_adds(kept)
    for left, right in zip(exported.reference(kept), recorded.reference(kept), strict=True):
        torch.testing.assert_close(left, right)


def test_the_reference_has_the_current_weights():
    idiom = BY_NAME["plain"]
    model = idiom.seeded()
    analysis = Analysis(model, idiom.inputs())
    with torch.no_grad():
        model[8].weight.mul_(2)
        model[8].bias.mul_(2)
        torch.testing.assert_close(analysis.reference({})[0], model(*idiom.inputs()))


def test_the_reference_takes_other_inputs_of_the_same_size_only():
    idiom = BY_NAME["plain"]
    model = idiom.seeded()
    analysis = Analysis(model, idiom.inputs())
    other = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(analysis.reference({}, (other,))[0], model(other))
    with pytest.raises(RefusedError, match="were analysed"):
        analysis.reference({}, (torch.randn(3, 3, 8, 8),))


def test_inputs_by_name():
    idiom = BY_NAME["plain"]
    structure = analyse(idiom.seeded(), (), {"input": idiom.inputs()[0]})
    assert [group.name for group in structure.groups] == ["0", "4"]


def test_random_numbers_are_noted():
    class Noisy(nn.Linear):
        def forward(self, x):
            return super().forward(x + torch.rand_like(x))

    structure = analyse(nn.Sequential(Noisy(4, 6), nn.Linear(6, 2)), (torch.ones(2, 4),))
    assert any("rand_like" in note for note in structure.notes)
    idiom = BY_NAME["self-attention"]
    assert not analyse(idiom.seeded(), idiom.inputs()).notes


def test_layers_of_work():
    idiom = BY_NAME["residual"]
    work = analyse(idiom.seeded(), idiom.inputs()).work
    assert [(one.layer, one.operation) for one in work] == [
        (name, "conv2d") for name in ("stem", "one", "two", "head")
    ]


def test_a_table_that_a_forward_makes_anew_keeps_its_width():
    class Places(nn.Module):
        """Adds what a layer makes of a table of places, which grows with the input."""

        def __init__(self):
            super().__init__()
            self.first, self.places, self.last = nn.Linear(4, 8), nn.Linear(6, 8), nn.Linear(8, 2)
            self.register_buffer("table", self.make(5), persistent=False)

        def make(self, length):
            return torch.linspace(0, 1, 6 * length).reshape(length, 6)

        def forward(self, x):
            if x.shape[1] > len(self.table):
                self.table = self.make(x.shape[1])
            return self.last(self.first(x) + self.places(self.table[: x.shape[1]]))

    structure = analyse(Places(), (torch.randn(2, 5, 4),))
    cut = {(m.tensor, m.dim) for group in structure.groups for m in group.members}
    assert ("first.weight", 0) in cut
    assert not {("places.weight", 1), ("table", 1)} & cut
    assert "anew" in next(
        one.reason for one in structure.frozen if (one.tensor, one.dim) == ("places.weight", 1)
    )


def test_a_layer_whose_result_nobody_uses_reads_its_input_all_the_same():
    class Auxiliary(nn.Module):
        """Gives out a second head's scores in training alone, and computes them always."""

        def __init__(self):
            super().__init__()
            self.body = nn.Conv2d(3, 8, 3)
            self.side = nn.Sequential(nn.Conv2d(8, 6, 1), nn.ReLU(), nn.Conv2d(6, 2, 1))
            self.head = nn.Conv2d(8, 2, 1)

        def forward(self, x):
            x = torch.relu(self.body(x))
            side = self.side(x)
            return (self.head(x), side) if self.training else self.head(x)

    structure = analyse(Auxiliary(), (torch.randn(2, 3, 6, 6),))
    body = structure.group("body")
    assert {(m.tensor, m.dim) for m in body.members if m.role == "consume"} == {
        ("head.weight", 1),
        ("side.0.weight", 1),
    }


def test_widths_stay_multiples_that_operations_take():
    idiom = BY_NAME["grouped experts"]
    model = idiom.seeded()
    multiples = {one.name: one.multiple for one in analyse(model, idiom.inputs()).groups}
    assert multiples == {"up": 4, "down": 4}
    prune(model, idiom.inputs(), ratio=0.3, round_to=1)
    assert model.up.shape == (3, 8, 8)
    model(*idiom.inputs())


def test_products_of_sizes_that_the_data_say_are_noted():
    idiom = BY_NAME["sorted tokens"]
    structure = analyse(idiom.seeded(), idiom.inputs())
    assert any("sizes that depend on the data" in note for note in structure.notes)
    assert structure.multiply_adds({}) > 0


@pytest.mark.parametrize("change", ["assigned", "written into"])
def test_a_number_that_a_forward_changes_is_data(change):
    class Counting(BY_NAME["counts its calls"].model):
        def forward(self, x):
            if change == "assigned":
                self.calls = self.calls + 1
            else:
                self.calls.copy_(torch.tensor(5))
            x = self.a(x)
            return self.b(torch.relu(x) if self.calls > 3 else x)

    structure = analyse(Counting(), (torch.randn(2, 6),))
    assert any("2 ways" in note for note in structure.notes)


def with_gaps():
    mask = torch.ones(2, 5, dtype=torch.bool)
    mask[0, 3:] = False
    return mask


@pytest.mark.parametrize("mask", [torch.ones(2, 5, dtype=torch.bool), with_gaps()])
def test_both_ways_of_a_branch_on_inputs_are_followed(mask):
    idiom = BY_NAME["branches on a mask"]
    model, (x, _) = idiom.seeded(), idiom.inputs()
    analysis = Analysis(model, (x,), {"mask": mask})
    (group,) = analysis.structure.groups
    assert {"a.weight", "gap.weight"} <= {member.tensor for member in group.members}
    assert any("2 ways" in note for note in analysis.structure.notes)
    with torch.no_grad():
        torch.testing.assert_close(analysis.reference({})[0], model(x, mask))
        (other,) = analysis.ways
        with other.taken():
            taken = model(x, mask)
        assert not torch.equal(taken, model(x, mask))
        torch.testing.assert_close(other.reference({})[0], taken)


def test_what_one_way_gives_out_stays_on_all():
    class GivesOut(BY_NAME["branches on a mask"].model):
        def forward(self, x, mask):
            return self.b(self.a(x)) if mask.all() else self.a(x)

    assert not analyse(GivesOut(), (torch.randn(2, 5, 6), with_gaps())).groups


def test_too_many_ways_are_refused():
    class Many(BY_NAME["branches on a mask"].model):
        def forward(self, x, mask):
            x = self.a(x)
            for row in mask.flatten():
                x = torch.relu(x) if row else x
            return self.b(x)

    with pytest.raises(RefusedError, match="branches on the values"):
        analyse(Many(), (torch.randn(2, 5, 6), with_gaps()))


@pytest.mark.parametrize("calls", range(5))
def test_what_the_example_does_is_found_however_often_it_is_run(calls):
    idiom = BY_NAME["counts its calls"]
    model, (x,) = idiom.seeded(), idiom.inputs()
    model.calls.fill_(calls)
    expected = Analysis(model, (x,)).reference({})[0]
    assert int(model.calls) == calls
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected)


def test_a_condition_on_what_was_written_into_a_part_is_refused():
    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 2)

        def forward(self, x):
            out = torch.zeros(2, len(x), 8)
            out[0] = self.a(x)
            return self.b(out[0] if out.sum() > 0 else out[0] * 2)

    with pytest.raises(RefusedError, match="branches on the values"):
        analyse(Written(), (torch.randn(3, 6),))
