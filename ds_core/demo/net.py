"""A small residual network for images, after He et al., Deep Residual Learning, arXiv:1512.03385.

A stem widens the image's channels, each stage halves its sides and widens again, and a linear
layer reads classes from the average over what remains of the image:

    image -> stem -> stage (width 1) -> stage (width 2) -> ... -> average -> linear -> classes
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from ds_core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class ConvBn(nn.Sequential):
    """A convolution without bias, then batch normalisation, which brings its own."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(outputs),
        )


class Block(nn.Module):
    """Two 3x3 convolutions whose result is added to their input."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.first = ConvBn(inputs, outputs, stride=stride)
        self.second = ConvBn(outputs, outputs)
        same_shape = inputs == outputs and stride == 1
        self.skip = nn.Identity() if same_shape else ConvBn(inputs, outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """From `[N, inputs, H, W]` to `[N, outputs, H / stride, W / stride]`, rounded up."""
        inner = self.relu(self.first(x))
        outer: Tensor = self.relu(self.second(inner) + self.skip(x))
        return outer


class ResidualNet(nn.Module):
    """A residual classifier of images with any number of channels, from 8x8 pixels up.

    Args:
        channels: Of the images: 1 for grey, 3 for colour.
        classes: How many there are, at least 2.
        widths: Channels of each stage, multiples of 16, which is what matrix units are made for.
            All stages but the first halve the image's sides.
        blocks: Residual blocks in each stage.

    Raises:
        ConfigError: An argument has a value that it cannot have.
    """

    def __init__(
        self,
        channels: int,
        classes: int,
        widths: Sequence[int] = (32, 64, 128),
        blocks: int = 1,
    ) -> None:
        super().__init__()
        if channels < 1 or classes < 2 or blocks < 1:
            raise ConfigError(
                "A residual net needs at least 1 channel, 2 classes and 1 block in each stage, not "
                f"{channels}, {classes} and {blocks}."
            )
        if not widths or any(width < 16 or width % 16 for width in widths):
            raise ConfigError(f"Widths must be multiples of 16, not {list(widths)}.")
        self.stem = nn.Sequential(ConvBn(channels, widths[0]), nn.ReLU())
        layers: list[nn.Module] = []
        width = widths[0]
        for stage, wider in enumerate(widths):
            for index in range(blocks):
                layers.append(Block(width, wider, stride=2 if stage and not index else 1))
                width = wider
        self.stages = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes))

    def forward(self, x: Tensor) -> Tensor:
        """Class scores `[N, classes]` of float images `[N, channels, H, W]`."""
        scores: Tensor = self.head(self.stages(self.stem(x)))
        return scores
