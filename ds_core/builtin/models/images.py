"""Example inputs for models of images."""

from __future__ import annotations

from typing import Any


def random_images(batch_size: int, channels: int, size: Any) -> tuple[Any, ...]:
    """One batch of random images, of shape (batch_size, channels, height, width), float32.

    Args:
        batch_size: Images in the batch.
        channels: Of each image.
        size: Height and width, or one number for both.
    """
    import torch

    height, width = (size, size) if isinstance(size, int) else tuple(size)[-2:]
    return (torch.randn(batch_size, channels, height, width),)
