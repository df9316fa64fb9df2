"""The networks that the training benchmark prunes, written from their papers."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class Row(NamedTuple):
    """A row of Table 1 in the paper on MobileNetV3: one inverted residual."""

    kernel: int
    expanded: int
    outputs: int
    squeeze: bool
    hard: bool
    stride: int


ROWS = (
    Row(3, 16, 16, False, False, 1),
    Row(3, 64, 24, False, False, 2),
    Row(3, 72, 24, False, False, 1),
    Row(5, 72, 40, True, False, 2),
    Row(5, 120, 40, True, False, 1),
    Row(5, 120, 40, True, False, 1),
    Row(3, 240, 80, False, True, 2),
    Row(3, 200, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 184, 80, False, True, 1),
    Row(3, 480, 112, True, True, 1),
    Row(3, 672, 112, True, True, 1),
    Row(5, 672, 160, True, True, 2),
    Row(5, 960, 160, True, True, 1),
    Row(5, 960, 160, True, True, 1),
)
PUBLISHED = (5.4e6, 219e6)
"""Parameters and multiply-adds at 224x224 of MobileNetV3-Large, Table 3 of the paper."""


def _activation(hard: bool) -> nn.Module:
    return nn.Hardswish() if hard else nn.ReLU()


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


class SqueezeExcite(nn.Module):
    """Scales channels by what their averages say, with a quarter as many in between."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(8, (channels // 4 + 4) // 8 * 8)
        if between < 0.9 * channels / 4:
            between += 8
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, between, 1),
            nn.ReLU(),
            nn.Conv2d(between, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """From `[N, channels, H, W]` to the same."""
        scaled: Tensor = x * self.gate(x)
        return scaled


class InvertedResidual(nn.Module):
    """Expands, filters each channel, and projects; its input is added where shapes allow it."""

    def __init__(self, inputs: int, row: Row, stride: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        if row.expanded != inputs:
            layers += [*_conv(inputs, row.expanded, 1), _activation(row.hard)]
        layers += _conv(row.expanded, row.expanded, row.kernel, stride, row.expanded)
        layers += [_activation(row.hard)]
        layers += [SqueezeExcite(row.expanded)] if row.squeeze else []
        self.layers = nn.Sequential(*layers, *_conv(row.expanded, row.outputs, 1))
        self.adds = stride == 1 and inputs == row.outputs

    def forward(self, x: Tensor) -> Tensor:
        """From `[N, inputs, H, W]` to `[N, outputs, H / stride, W / stride]`."""
        y: Tensor = self.layers(x)
        return x + y if self.adds else y


class MobileNetV3Large(nn.Module):
    """Howard et al., Searching for MobileNetV3, 2019 (arXiv:1905.02244), Table 1.

    Args:
        classes: How many there are.
        small_images: For 32x32 pixels: the first two halvings are left out.
    """

    def __init__(self, classes: int = 1000, *, small_images: bool = False) -> None:
        super().__init__()
        halvings = 0 if small_images else 2
        layers: list[nn.Module] = [*_conv(3, 16, 3, 2 if halvings else 1), nn.Hardswish()]
        width, first = 16, True
        for row in ROWS:
            stride = row.stride
            if stride == 2 and first:
                first, stride = False, 2 if halvings else 1
            layers.append(InvertedResidual(width, row, stride))
            width = row.outputs
        layers += [*_conv(width, 960, 1), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(960, 1280), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(1280, classes)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Scores `[N, classes]` of images `[N, 3, H, W]`."""
        scores: Tensor = self.classifier(self.features(images))
        return scores


class Basic(nn.Module):
    """Two 3x3 convolutions, and their input or a projection of it."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_conv(inputs, outputs, 3, stride), nn.ReLU(), *_conv(outputs, outputs, 3)
        )
        same = inputs == outputs
        self.skip = nn.Identity() if same else nn.Sequential(*_conv(inputs, outputs, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """From `[N, inputs, H, W]` to `[N, outputs, H / stride, W / stride]`."""
        y: Tensor = self.relu(self.layers(x) + self.skip(x))
        return y


class ResNet56(nn.Sequential):
    """He et al., Deep Residual Learning, 2015 (arXiv:1512.03385), Section 4.2, projections (B)."""

    def __init__(self, classes: int = 10) -> None:
        blocks: list[nn.Module] = []
        width = 16
        for stage, outputs in enumerate((16, 32, 64)):
            for index in range(9):
                blocks.append(Basic(width, outputs, 2 if stage and not index else 1))
                width = outputs
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes)]
        super().__init__(*_conv(3, 16, 3), nn.ReLU(), *blocks, *head)
