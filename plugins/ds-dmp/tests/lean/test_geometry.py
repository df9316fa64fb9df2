"""Tensors of any layout come back as they lay."""

import torch
from ds_dmp.lean.geometry import geometry_of
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def views(draw):
    size = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    tensor = torch.arange(torch.Size(size).numel(), dtype=torch.float32).view(size)
    tensor = tensor.permute(draw(st.permutations(range(len(size)))))
    for dim in range(tensor.dim()):
        change = draw(st.sampled_from(["", "", "slice", "step", "expand"]))
        if change == "slice":
            tensor = tensor.narrow(dim, draw(st.integers(0, tensor.shape[dim] - 1)), 1)
        elif change == "step":
            tensor = tensor[(slice(None),) * dim + (slice(None, None, 2),)]
        elif change == "expand":
            wider = tensor.unsqueeze(dim)
            tensor = wider.expand(*wider.shape[:dim], 3, *wider.shape[dim + 1 :])
    return tensor


@settings(max_examples=300, deadline=None)
@given(views())
def test_a_view_comes_back_with_its_strides(tensor):
    geometry = geometry_of(tensor)
    assert geometry is not None
    flat = geometry.flatten(tensor)
    assert flat.numel() == geometry.numel == len(tensor.unique())
    back = geometry.restore(flat.clone())
    assert torch.equal(back, tensor)
    assert back.stride() == tensor.stride()


def test_what_overlaps_otherwise_has_no_geometry():
    assert geometry_of(torch.arange(9.0).as_strided((4, 3), (2, 1))) is None
    assert geometry_of(torch.empty(3, 0)) is None


def test_channels_last_is_one_piece():
    image = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)
    assert geometry_of(image).dense
    assert not geometry_of(image[:, 1:]).dense
