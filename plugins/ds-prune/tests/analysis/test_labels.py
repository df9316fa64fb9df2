"""Classes of labels against the plainest way to keep them."""

import numpy as np
from ds_prune.analysis.labels import FIXED, Classes
from hypothesis import given
from hypothesis import strategies as st

COUNT = 12
PAIRS = st.lists(
    st.lists(st.tuples(st.integers(1, COUNT), st.integers(1, COUNT)), min_size=1, max_size=6),
    max_size=6,
)


def partition(pairs):
    """Sets of labels that are united, found pair by pair."""
    sets = {label: {label} for label in range(COUNT + 1)}
    for one, other in pairs:
        joined = sets[one] | sets[other]
        for label in joined:
            sets[label] = joined
    return sets


def united(rounds):
    classes = Classes()
    labels = classes.new(COUNT)
    for pairs in rounds:
        left, right = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
        classes.unite(left, right)
    return classes, labels


@given(PAIRS)
def test_unions(rounds):
    classes, labels = united(rounds)
    sets = partition([pair for pairs in rounds for pair in pairs])
    roots = classes.find(labels)
    for i, one in enumerate(labels):
        assert roots[i] == min(sets[one])
        for j, other in enumerate(labels):
            assert (roots[i] == roots[j]) == (other in sets[one])


@given(PAIRS, st.sets(st.integers(1, COUNT)), st.sets(st.integers(1, COUNT)), st.booleans())
def test_reasons_and_marks_go_with_the_class(rounds, frozen, marked, before):
    """It makes no difference whether labels are frozen and marked before or after unions."""
    classes, labels = united([] if before else rounds)
    classes.freeze(np.array(sorted(frozen), np.int64), "for a reason")
    classes.mark(np.array(sorted(marked), np.int64), "seen")
    for pairs in rounds if before else []:
        left, right = (np.array(side, np.int64) for side in zip(*pairs, strict=True))
        classes.unite(left, right)
    sets = partition([pair for pairs in rounds for pair in pairs])
    for label, is_frozen, is_marked in zip(
        labels, classes.frozen(labels), classes.marked(labels, "seen"), strict=True
    ):
        assert is_frozen == bool(sets[label] & frozen)
        assert is_marked == bool(sets[label] & marked)
    count = sum(bool(sets[label] & frozen) for label in labels)
    assert classes.reasons(labels) == ([("for a reason", count)] if count else [])


def test_what_is_united_with_the_fixed_label_is_frozen():
    classes = Classes()
    labels = classes.new(3)
    classes.unite(labels[:1], np.array([FIXED]))
    assert classes.frozen(labels).tolist() == [True, False, False]


def test_the_first_reason_stands():
    classes = Classes()
    labels = classes.new(4)
    classes.freeze(labels[:2], "first")
    classes.freeze(labels[1:3], "second")
    classes.unite(labels[2:3], labels[:1])
    assert classes.reasons(labels) == [("first", 3)]
