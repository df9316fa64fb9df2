"""The images that the benchmarks beside it learn from."""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy
import torch

from ds_core.components import disk_cache
from ds_core.demo.data import Dataset, Split, digits, image_folder

DIGITS = "digits"
ARCHIVE = "cifar10-jpeg.tar.xz"
HELP = (
    f"{DIGITS}, scikit-learn's; or a folder with train/<class>/*.jpg and test/<class>/*.jpg, an "
    f"archive of one, or a folder that holds {ARCHIVE}"
)


def load(where: str, train: int | None = None, test: int | None = None) -> Dataset:
    """Digits or photos; of these the first ones of a fixed shuffling.

    Args:
        where: As `HELP` says. Archives are decoded once and kept in ds-core's cache folder.
        train: How many to learn from; all without it.
        test: How many to test on; all without it.
    """
    path = Path(where)
    if where == DIGITS:
        data = digits()
    elif path.is_dir() and not (path / ARCHIVE).exists():
        data = image_folder(path)
    else:
        data = _unpacked(path / ARCHIVE if path.is_dir() else path)
    return replace(data, train=_some(data.train, train), test=_some(data.test, test))


def _unpacked(archive: Path) -> Dataset:
    state = archive.stat()
    identity = f"{archive.resolve()} {state.st_size} {state.st_mtime_ns}"
    cache = (disk_cache.folder() or Path(tempfile.gettempdir())) / (
        f"ds-prune-images-{hashlib.sha256(identity.encode()).hexdigest()[:16]}.npz"
    )
    if not cache.exists():
        with tempfile.TemporaryDirectory() as folder, tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
            data = image_folder(Path(folder))
        found = {"x": data.train.images, "y": data.train.labels}
        found |= {"test_x": data.test.images, "test_y": data.test.labels}
        cache.parent.mkdir(parents=True, exist_ok=True)
        numpy.savez(cache, **{name: tensor.numpy() for name, tensor in found.items()})
    with numpy.load(cache) as file:
        x, y, test_x, test_y = (torch.from_numpy(file[n]) for n in ("x", "y", "test_x", "test_y"))
    classes = tuple(map(str, range(int(y.max()) + 1)))
    return Dataset(archive.name, classes, Split(x, y), Split(test_x, test_y), True)


def _some(split: Split, count: int | None) -> Split:
    chosen = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))[:count]
    return Split(split.images[chosen], split.labels[chosen])
