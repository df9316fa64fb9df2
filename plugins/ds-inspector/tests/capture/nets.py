"""Small models, whose lines tests know."""

import torch
from torch import nn


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(16, 32)
        self.second = nn.Linear(32, 16)

    def forward(self, x):
        hidden = torch.relu(self.first(x))
        return x + self.second(hidden)  # line: residual


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.norm = nn.BatchNorm2d(16)
        self.blocks = nn.ModuleList(Block() for _ in range(2))
        self.dropout = nn.Dropout(0.1)

    def forward(self, x):
        x = self.norm(self.stem(x)).mean((2, 3))  # line: mean
        for block in self.blocks:
            x = block(x)
        return self.dropout(x)


def loss_of(output):
    return output.square().mean()  # line: loss


def line(mark):
    """Where a comment `# line: MARK` is, as sources say it."""
    from pathlib import Path

    for number, text in enumerate(Path(__file__).read_text().splitlines(), 1):
        if text.endswith(f"# line: {mark}"):
            return f"nets.py:{number}"
    raise LookupError(mark)
