"""Moving models to devices that torch cannot move to by replacing data."""

import torch
from torch import nn

from ds_core.changes import Changes
from ds_core.placement import place


def test_recurrent_layers_move_though_they_refer_weakly_to_their_weights():
    model = nn.Sequential(nn.LSTM(4, 8, num_layers=2), nn.GRU(8, 4))
    parameters = list(model.parameters())
    assert not torch._has_compatible_shallow_copy_type(parameters[0], parameters[0].to("meta"))
    assert place(model, [], torch.device("meta"), Changes())
    assert all(old is new for old, new in zip(parameters, model.parameters(), strict=True))
    assert all(parameter.is_meta for parameter in parameters)
    # The references are back: a replaced weight is noticed, and only that.
    lstm = model[0]
    assert not lstm._weights_have_changed()
    del lstm._parameters["weight_ih_l0"]
    lstm.weight_ih_l0 = parameters[0] * 2
    assert lstm._weights_have_changed()
