"""What is found in each manner of writing a model."""

import copy

import numpy as np
import pytest
import torch
from ds_prune.analysis import Analysis, analyse
from ds_prune.surgery.shrink import shrink
from hypothesis import given, settings
from hypothesis import strategies as st
from idiom import fitting
from idioms import IDIOMS
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ds_core.errors import RefusedError
from ds_core.nested import tensors_in

FOLLOWED = [idiom for idiom in IDIOMS if not idiom.refused]
REFUSED = [idiom for idiom in IDIOMS if idiom.refused]
CUT = [idiom for idiom in FOLLOWED if idiom.groups]


def each(idioms):
    return pytest.mark.parametrize("idiom", idioms, ids=[idiom.name for idiom in idioms])


_analysed = {}


def analysed(idiom):
    """A model and its analysis, which no test changes."""
    if idiom.name not in _analysed:
        model = idiom.seeded()
        _analysed[idiom.name] = model, Analysis(model, idiom.inputs(), idiom.keywords())
    return _analysed[idiom.name]


def outputs(model, idiom):
    with torch.no_grad():
        return list(tensors_in(model(*idiom.inputs(), **idiom.keywords())))


def tensors(model):
    return dict(model.named_parameters()) | dict(model.named_buffers())


def drawn(data, structure):
    """Atoms that stay, at least one of each group."""
    kept = {}
    for group in structure.groups:
        flags = np.array(data.draw(st.lists(st.booleans(), min_size=group.count,
                                            max_size=group.count)))  # fmt: skip
        flags[data.draw(st.integers(0, group.count - 1))] = True
        kept[group.name] = flags
    return kept


def some(structure, seed=0):
    """The same without a search."""
    rng = np.random.default_rng(seed)
    kept = {}
    for group in structure.groups:
        flags = rng.random(group.count) < 0.6
        flags[rng.integers(group.count)] = True
        kept[group.name] = fitting(group, flags)
    return kept


def close(found, expected):
    return all(
        torch.allclose(one, other, rtol=1e-4, atol=1e-5)
        for one, other in zip(found, expected, strict=True)
    )


@each(FOLLOWED)
def test_groups_and_reasons(idiom):
    structure = analysed(idiom)[1].structure
    assert {group.name: group.count for group in structure.groups} == dict(idiom.groups)
    assert {group.name for group in structure.groups if group.normalised} == idiom.normalised
    assert {group.name for group in structure.groups if group.kind == "head"} == idiom.heads
    for tensor, reason in idiom.frozen.items():
        reasons = [frozen.reason for frozen in structure.frozen if frozen.tensor == tensor]
        assert any(reason in one for one in reasons), reasons


@each(REFUSED)
def test_refused_in_a_sentence(idiom):
    model = idiom.seeded()
    with pytest.raises(RefusedError, match=idiom.refused):
        analyse(model, idiom.inputs(), idiom.keywords())


@each(FOLLOWED)
def test_every_index_is_in_one_group_or_stays_for_a_reason(idiom):
    model, analysis = analysed(idiom)
    taken = {
        name: [np.zeros(n, int) for n in tensor.shape] for name, tensor in tensors(model).items()
    }
    for group in analysis.structure.groups:
        assert group.count > 1
        assert any(member.role == "consume" for member in group.members)
        for member in group.members:
            assert len(member.index) == group.count
            np.add.at(taken[member.tensor][member.dim], member.index.reshape(-1), 1)
    stays = {(one.tensor, one.dim): 0 for one in analysis.structure.frozen}
    for one in analysis.structure.frozen:
        stays[one.tensor, one.dim] += one.indices
    for name, dims in taken.items():
        for dim, counts in enumerate(dims):
            assert counts.max(initial=0) <= 1
            if (name, dim) in stays:
                assert stays[name, dim] + counts.sum() == len(counts)


@each(FOLLOWED)
def test_the_reference_of_the_whole_is_the_model(idiom):
    model, analysis = analysed(idiom)
    assert close(analysis.reference({}), outputs(model, idiom))


@each(CUT)
@settings(max_examples=3, deadline=None)
@given(data=st.data())
def test_what_is_removed_has_no_influence(idiom, data):
    """Whatever numbers stand in the slices of removed atoms, the reference is the same."""
    model, analysis = analysed(idiom)
    kept = drawn(data, analysis.structure)
    expected = analysis.reference(kept)
    before = copy.deepcopy(model.state_dict())
    try:
        with torch.no_grad():
            for group in analysis.structure.groups:
                for member in group.members:
                    gone = torch.from_numpy(member.index[~kept[group.name]].reshape(-1))
                    tensors(model)[member.tensor].index_fill_(member.dim, gone, 0.77)
        assert close(analysis.reference(kept), expected)
    finally:
        model.load_state_dict(before)


@each([idiom for idiom in CUT if not idiom.normalised and idiom.name != "group norm"])
@settings(max_examples=2, deadline=None)
@given(data=st.data())
def test_removal_is_zeros_where_channels_are_read(idiom, data):
    model, analysis = analysed(idiom)
    kept = drawn(data, analysis.structure)
    zeroed = copy.deepcopy(model)
    with torch.no_grad():
        for group in analysis.structure.groups:
            for member in group.members:
                if member.role == "consume":
                    gone = torch.from_numpy(member.index[~kept[group.name]].reshape(-1))
                    tensors(zeroed)[member.tensor].index_fill_(member.dim, gone, 0)
    assert close(analysis.reference(kept), outputs(zeroed, idiom))


@each(CUT)
def test_removal_of_atoms_changes_the_outputs(idiom):
    analysis = analysed(idiom)[1]
    whole = analysis.reference({})
    for group in analysis.structure.groups:
        kept = np.arange(group.count) == 0
        without = analysis.reference({group.name: kept})
        assert any(not torch.equal(a, b) for a, b in zip(whole, without, strict=True)), group.name


@each(CUT)
def test_counts_are_those_of_the_model_that_is_left(idiom):
    """What a cut model has and does is what the structure said beforehand."""
    model = idiom.seeded()
    analysis = Analysis(model, idiom.inputs(), idiom.keywords())
    kept = some(analysis.structure)
    outcome = shrink(model, analysis, kept, idiom.inputs(), idiom.keywords())
    assert set(outcome.left) <= idiom.literal
    if not outcome.left:
        left = analyse(model, idiom.inputs(), idiom.keywords())
        assert sum(one.numel() for one in model.parameters()) == analysis.structure.parameters(kept)
        assert left.multiply_adds({}) == analysis.structure.multiply_adds(kept)


UNCOUNTED = {"recurrent", "grouped experts", "sorted tokens"}
"""What torch does not count, and what depends on the data."""


@each([idiom for idiom in FOLLOWED if idiom.name not in UNCOUNTED])
def test_multiply_adds_are_those_that_torch_counts(idiom):
    model, analysis = analysed(idiom)
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            model(*idiom.inputs(), **idiom.keywords())
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    assert 2 * analysis.structure.multiply_adds({}) == counter.get_total_flops()
