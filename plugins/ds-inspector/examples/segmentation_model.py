"""A small segmentation network as research code often has it, which the walk-through speeds up.

An encoder of convolutions with batch normalisation, a decoder that adds up its levels (Lin et al.,
Feature Pyramid Networks for Object Detection, CVPR 2017), layer normalisation over channels (Liu et
al., A ConvNet for the 2020s, CVPR 2022), Swish activations (Ramachandran et al., 2017), and a loop
that makes a mask of each class and measures its area.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTHS = (20, 36, 68, 132)
CLASSES = 21


class Swish(nn.Module):
    """As it is written in its paper."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (1 + torch.exp(-x))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of an image, which is given back as it came."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        last = x.permute(0, 2, 3, 1).contiguous()
        return self.norm(last).permute(0, 3, 1, 2).contiguous()


class Level(nn.Sequential):
    """Two convolutions, the first of which halves the image."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(
            nn.Conv2d(inputs, outputs, 3, stride=2, padding=1),
            nn.BatchNorm2d(outputs),
            Swish(),
            nn.Conv2d(outputs, outputs, 3, padding=1),
            nn.BatchNorm2d(outputs),
            Swish(),
        )


class Masks(nn.Module):
    """Class by class: scores at full size, the mask where they are positive, and its share."""

    def forward(self, scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, list[float]]:
        masks, shares = [], []
        for number in range(scores.shape[1]):
            one = functional.interpolate(scores[:, number : number + 1], size, mode="bilinear")
            mask = torch.sigmoid(one) > 0.5
            masks.append(mask)
            shares.append(mask.float().mean().item())
        return torch.cat(masks, 1), shares


class Segmentation(nn.Module):
    """Scores at half size, masks and shares of all classes from an image."""

    def __init__(self) -> None:
        super().__init__()
        self.levels = nn.ModuleList(
            Level(inputs, outputs) for inputs, outputs in zip((3, *WIDTHS), WIDTHS, strict=False)
        )
        self.sides = nn.ModuleList(nn.Conv2d(width, WIDTHS[1], 1) for width in WIDTHS)
        self.norms = nn.ModuleList(ChannelNorm(WIDTHS[1]) for _ in WIDTHS)
        self.smooth = nn.ModuleList(nn.Conv2d(WIDTHS[1], WIDTHS[1], 3, padding=1) for _ in WIDTHS)
        self.act = Swish()
        self.head = nn.Conv2d(WIDTHS[1], CLASSES, 1)
        self.masks = Masks()

    def scores(self, image: Tensor) -> Tensor:
        """Of each class, at half the image's size."""
        features = []
        for level in self.levels:
            image = level(image)
            features.append(image)
        total = None
        for number in reversed(range(len(features))):
            side = self.norms[number](self.sides[number](features[number]))
            if total is not None:
                side = side + functional.interpolate(total, side.shape[-2:], mode="nearest")
            total = self.act(self.smooth[number](side))
        return self.head(total)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, list[float]]:
        scores = self.scores(image)
        return scores, *self.masks(scores, tuple(image.shape[-2:]))


def segmentation() -> Segmentation:
    """With weights at random, but normalisations that have seen images."""
    torch.manual_seed(0)
    model = Segmentation()
    for _ in range(3):
        model(torch.randn(2, 3, 128, 128))
    return model.eval()
