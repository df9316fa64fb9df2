"""What tests of recording share."""

import pytest
from capture.nets import Net, loss_of
from ds_inspector.analysis import roofline


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch):
    """Measuring the machine takes seconds and is not what is tested."""
    monkeypatch.setattr(roofline, "measure_peaks", lambda device: {"cpu": {"float32": 1.0}})


@pytest.fixture(scope="session")
def training():
    """A training of `Net`, recorded once."""
    import ds_inspector
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(roofline, "measure_peaks", lambda device: {})
        model = Net()
        optimizer = torch.optim.AdamW(model.parameters())
        return ds_inspector.inspect(
            model, torch.randn(4, 3, 12, 12), optimizer=optimizer, backward=loss_of, steps=2
        )
