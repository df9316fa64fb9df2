"""Inputs as they come, with a large constant part that 16 bit spends its digits on."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from .healthy import CLASSES, Joint, jointly
from .job import Job, Network, job

# Offsets are multiples of 16, as other ones could lie where rounding flips with the signal's sign.
PRESSURE, SENSORS = 16.0 * torch.arange(65, 73), 8
_LEVELS = torch.randn(CLASSES, SENSORS, generator=Generator().manual_seed(3)).sign() * 0.2


class Change(nn.Module):
    """What changed between two readings, seen through one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.sensors = nn.Linear(SENSORS, 32)
        self.norm = nn.LayerNorm(32)

    def forward(self, now: Tensor, before: Tensor) -> Tensor:
        """Features of the change."""
        return F.relu(self.norm(self.sensors(now) - self.sensors(before)))


def _pressures(count: int, drawn: Generator) -> tuple[Tensor, Tensor, Tensor]:
    kind = torch.randint(CLASSES, (count,), generator=drawn)
    noise = 0.03 * torch.randn(2, count, SENSORS, generator=drawn)
    return PRESSURE + _LEVELS[kind] + noise[0], PRESSURE + noise[1], kind


def barometer(seed: int) -> Job:
    """Pressures of 1040 to 1152 hPa, where changes by 0.2 hPa tell the classes apart."""
    return job(seed, lambda: Joint(Change(), 32), jointly(_pressures))


class Clock(nn.Module):
    """Seconds of the day as waves of fixed periods."""

    def __init__(self, waves: int = 16) -> None:
        super().__init__()
        self.waves = nn.Linear(1, 2 * waves).requires_grad_(False)
        periods = torch.cat([torch.tensor([300.0]), torch.logspace(2, 4.9, waves - 1)])
        self.waves.weight.copy_(2 * math.pi / periods.repeat_interleave(2)[:, None])
        self.waves.bias.copy_(math.pi / 2 * (torch.arange(2 * waves) % 2))
        self.read = nn.Linear(2 * waves, 64)

    def forward(self, seconds: Tensor) -> Tensor:
        """Features of the time."""
        return F.relu(self.read(torch.sin(self.waves(seconds))))


def _times(count: int, drawn: Generator) -> tuple[Tensor, Tensor]:
    quarter = torch.randint(CLASSES, (count,), generator=drawn)
    start = 300 * torch.randint(86400 // 300, (count,), generator=drawn)
    return (start + 75 * quarter + torch.randint(10, 65, (count,), generator=drawn)).float()[
        :, None
    ], quarter


def clock(seed: int) -> Job:
    """Seconds since midnight: the class is a quarter of the running five minutes."""
    return job(seed, lambda: Joint(Clock(), 64), jointly(_times))


class Slots(nn.Module):
    """Where an integer code lies between the nearest of evenly spaced ones."""

    def __init__(self, slots: int = 32) -> None:
        super().__init__()
        self.distance = nn.Linear(1, slots).requires_grad_(False)
        self.distance.weight.fill_(1)
        self.distance.bias.copy_(-1024.0 - 16 * torch.arange(slots))
        self.read = nn.Linear(2 * slots, 64)

    def forward(self, code: Tensor) -> Tensor:
        """Features of a wave around each slot that is near."""
        distance = self.distance(code) / 16
        near = torch.exp(-4 * distance.square())
        turn = 2 * math.pi * distance.clamp(-4, 4)
        waves = torch.cat([near * torch.sin(turn), near * torch.cos(turn)], 1)
        return F.relu(self.read(waves))


def _codes(count: int, drawn: Generator) -> tuple[Tensor, Tensor]:
    code = torch.randint(1024, 1024 + 16 * 31, (count,), generator=drawn)
    return code.float()[:, None], code % 16 // 4


def codes(seed: int) -> Job:
    """Integer codes of 1024 to 1519, whose last four bits hold the class."""
    return job(seed, lambda: Joint(Slots(), 64), jointly(_codes))


class Scanner(nn.Module):
    """A small convolutional network on raw counts."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3)
        self.norm = nn.InstanceNorm2d(8, affine=True)
        self.body = nn.Sequential(
            *(nn.Conv2d(8, 32, 3, stride=2, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
            *(nn.Conv2d(32, 48, 3, stride=2, padding=1), nn.BatchNorm2d(48), nn.ReLU()),
        )
        self.head = nn.Linear(48, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        """Scores of the classes."""
        return self.head(self.body(F.relu(self.norm(self.stem(image)))).mean((2, 3)))


def _images(count: int, drawn: Generator) -> tuple[tuple[Tensor], Tensor]:
    kind = torch.randint(CLASSES, (count,), generator=drawn)
    angle = math.pi / CLASSES * kind[:, None, None]
    phase = 2 * math.pi * torch.rand(count, 1, 1, generator=drawn)
    row, column = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    wave = torch.sin(1.4 * (row * torch.cos(angle) + column * torch.sin(angle)) + phase)
    pedestal = 16.0 * torch.randint(150, 220, (count, 1, 1), generator=drawn)
    noise = 0.1 * torch.randn(count, 12, 12, generator=drawn)
    return ((pedestal + 0.5 * wave + noise)[:, None],), kind


def scanner(seed: int) -> Job:
    """Images of raw detector counts, faint stripes on a pedestal of 2400 to 3500."""
    return job(seed, Scanner, _images)


NETWORKS = (
    Network(
        "barometer",
        "small changes of inputs around 1000 that nobody normalised",
        barometer,
        ("branch.sensors",),
    ),
    Network("clock", "seconds of the day as a plain number", clock, ("branch.waves",)),
    Network("codes", "integers above 256 as plain numbers: bf16 only", codes, ("branch.distance",)),
    Network("scanner", "raw detector counts into the first convolution", scanner, ("stem",)),
)
