"""The interface that the system was given, as a script that somebody runs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys

import torch
from torch import nn

from ds_core import BackendSelector, load_model, session_of
from ds_core.mixed_precision import GradScaler

name, size, steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

config = {"precision": "fp16", "batch_size": 4, "backend": BackendSelector.AUTO}
model = load_model(name, config)
device = next(model.parameters()).device
print("device", device.type, session_of(model).backend.device_type)

scaler = GradScaler(
    init_scale=1024.0, growth_factor=2.0, backoff_factor=0.5, growth_interval=5,
    min_scale=1.0, max_scale=65536.0,
)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
torch.manual_seed(0)
inputs = torch.randn(4, 3, size, size, device=device)
labels = torch.tensor([0, 1, 2, 1], device=device)
for step in range(steps):
    optimizer.zero_grad()
    loss = criterion(model(inputs), labels)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    nn.utils.clip_grad_norm_(model.parameters(), 5.0)
    scaler.step(optimizer)
    scaler.update()
    print("loss", loss.item(), "scale", scaler.get_scale())
"""


@pytest.fixture
def run(tmp_path):
    def run(*arguments):
        script = tmp_path / "train.py"
        script.write_text(SCRIPT)
        done = subprocess.run(
            [sys.executable, str(script), *map(str, arguments)],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        lines = [line.split() for line in done.stdout.splitlines()]
        device, expected = lines[0][1:]
        assert device == expected
        return [(float(loss), float(scale)) for _, loss, _, scale in lines[1:]]

    return run


def save_small_network(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1], layer_type="basic", num_labels=3
    )
    transformers.ResNetForImageClassification(config).save_pretrained(folder)


def test_a_small_network_learns_in_the_loop_that_users_write(run, tmp_path):
    save_small_network(tmp_path / "network")
    history = run(tmp_path / "network", 32, 12)
    assert history[-1][0] < 0.7 * history[0][0]
    assert history[-1][1] > 1024.0  # it grew, as no step overflowed for long enough


@pytest.mark.slow
def test_the_call_as_it_was_given(run):
    pytest.importorskip("transformers")
    (loss, scale) = run("resnet50", 32, 1)[0]
    assert 0 < loss < 20
    assert scale in (512.0, 1024.0)
