import numpy as np
from ds_inspector.forest import depths, levels, nearest, summed
from hypothesis import given
from hypothesis import strategies as st


@st.composite
def forests(draw):
    rows = draw(st.integers(0, 40))
    return np.array([draw(st.integers(-1, row - 1)) for row in range(rows)], np.int32)


def ancestors(parent, row):
    while row >= 0:
        yield row
        row = parent[row]


@given(forests(), st.data())
def test_it_agrees_with_walking_up(parent, data):
    rows = len(parent)
    wanted = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)), bool)
    values = np.arange(rows) * 3.0
    depth = depths(parent)
    assert depth.tolist() == [len(list(ancestors(parent, row))) - 1 for row in range(rows)]
    expected = [
        next((one for one in ancestors(parent, row) if wanted[one]), -1) for row in range(rows)
    ]
    assert nearest(parent, wanted).tolist() == expected
    totals = np.zeros(rows)
    for row in range(rows):
        for above in ancestors(parent, row):
            totals[above] += values[row]
    assert summed(parent, values, levels(depth)).tolist() == totals.tolist()
