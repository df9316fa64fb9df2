"""Fast counting gives what the structure itself gives."""

from ds_prune.tally import Tally
from hypothesis import given
from hypothesis import strategies as st
from structures import masks, structures


@given(st.data())
def test_counts_are_the_structures_own(data):
    structure = data.draw(structures())
    kept = data.draw(masks(structure))
    tally = Tally(structure)
    sizes = tally.sizes(kept)
    assert tally.multiply_adds(sizes) == structure.multiply_adds(kept)
    assert tally.parameters(sizes) == structure.parameters(kept)
    extent = structure.work[-1].extents[-1]
    assert sizes[tally.number(extent)] == extent.size(kept)
