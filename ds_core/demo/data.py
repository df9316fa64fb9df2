"""Labelled images for the demo: scikit-learn's digits, or a folder of the user's own.

Images are decoded once and kept as bytes; batches are made of them by indexing, so that neither
worker processes nor a disk stand between the data and the model.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ds_core.errors import DsError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Generator, Tensor

SIDE = 32
"""Pixels along each side of a photo after resizing."""

KEPT_SIDES = range(8, 65)
"""Photos that all have one size keep it where both of its sides are in this range."""

SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})

TEST_FRACTION = 0.2
_INSTALL = 'Run: pip install "ds-core[demo]"'


@dataclass(frozen=True)
class Split:
    """Images with their classes: uint8 `[N, C, H, W]`, and int64 `[N]`."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Dataset:
    """Images to learn from and images to test on."""

    name: str
    classes: tuple[str, ...]
    train: Split
    test: Split
    photos: bool
    """Whether a mirror image still shows the same thing."""
    skipped: int = 0
    """Files that could not be read."""


def load(folder: Path | None = None, *, seed: int = 0) -> Dataset:
    """The digits, or the images of `folder` where one is given.

    Raises:
        DsError: See `digits` and `image_folder`.
    """
    return digits(seed=seed) if folder is None else image_folder(folder, seed=seed)


def digits(*, seed: int = 0) -> Dataset:
    """The 1,797 handwritten digits, 8x8 and grey, that come with scikit-learn.

    From the test set of Alpaydin and Kaynak, Optical Recognition of Handwritten Digits, UCI
    Machine Learning Repository, 1998. A fifth of each class is held out, chosen by `seed`.

    Raises:
        DsError: scikit-learn is not installed.
    """
    import torch

    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise DsError(
            "The digits come with scikit-learn, which is not installed.", mend=_INSTALL
        ) from None
    bundle = load_digits()
    images = torch.as_tensor(bundle.images).to(torch.uint8).unsqueeze(1)
    train, test = _hold_out(images, torch.as_tensor(bundle.target).long(), seed)
    return Dataset("digits", tuple(str(name) for name in bundle.target_names), train, test, False)


def image_folder(folder: Path, *, seed: int = 0) -> Dataset:
    """Photos in one folder for each class.

    The layout is `train/<class>/<image>` and `test/<class>/<image>`, or just `<class>/<image>`, of
    which a fifth of each class is then held out, chosen by `seed`. Images become RGB, 32x32 unless
    all have one size already that is small enough to train on. Files that cannot be read are
    skipped and counted.

    Raises:
        DsError: Pillow is not installed, the folder is missing or holds no images in class
            folders, there is only one class, a class of the test images is not among those of the
            training images, a class has too few images to hold one out, or most files are
            unreadable.
    """
    import torch

    if not folder.is_dir():
        raise DsError(
            f"{str(folder)!r} is not a folder.",
            mend="Give a folder that holds one folder of images for each class.",
        )
    parts = [folder / "train", folder / "test"]
    if not all(part.is_dir() for part in parts):
        parts = [folder]
    files = [_files_by_class(part) for part in parts]
    classes = tuple(sorted(files[0]))
    if len(classes) == 1:
        raise DsError(
            f"{str(parts[0])!r} holds images of one class only, {classes[0]!r}.",
            mend="Give images of at least two classes, each in a folder of its own.",
        )
    if unknown := sorted(set(files[-1]) - set(classes)):
        raise DsError(
            f"{str(parts[-1])!r} has a class {unknown[0]!r} that {str(parts[0])!r} has not.",
            mend="Give both folders the same classes.",
        )
    paths = [path for part in files for name in sorted(part) for path in part[name]]
    labels = [classes.index(name) for part in files for name in sorted(part) for _ in part[name]]
    first = sum(map(len, files[0].values()))
    images, kept = _decode(paths)
    targets = torch.tensor(labels)[kept]
    if len(parts) == 2:
        first = int((kept < first).sum())
        train = Split(images[:first], targets[:first])
        test = Split(images[first:], targets[first:])
        _check_classes(train, classes, parts[0])
        if not len(test):
            raise DsError(f"No image in {str(parts[1])!r} can be read.")
    else:
        _check_classes(Split(images, targets), classes, folder)
        train, test = _hold_out(images, targets, seed)
    return Dataset(folder.resolve().name, classes, train, test, True, len(paths) - len(kept))


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel: float32 `[C, 1, 1]`."""

    mean: Tensor
    std: Tensor


def pixel_statistics(split: Split) -> Statistics:
    """Of the pixels of all images, in the units of their bytes."""
    import torch

    count = split.images[:, 0].numel()
    channels = split.images.shape[1]
    total, squares = torch.zeros(2, channels, dtype=torch.float64)
    for start in range(0, len(split), 1024):
        values = split.images[start : start + 1024].double()
        total += values.sum((0, 2, 3))
        squares += values.square().sum((0, 2, 3))
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=0).sqrt()
    # A channel that is the same everywhere carries nothing; it must not divide by zero.
    std[std == 0] = 1.0
    return Statistics(mean.float().view(-1, 1, 1), std.float().view(-1, 1, 1))


class Batches:
    """Normalised batches of a split; each iteration over it is one epoch.

    Batches of an epoch differ in size by one at most, so none is too small for batch
    normalisation and no image is left out.

    Args:
        split: Where the images come from.
        size: The greatest number of images in a batch.
        scale: The training images' statistics, by which all images are normalised.
        generator: Shuffles, and draws the augmentations. The same seed gives the same batches;
            later epochs continue where the one before ended. Without one, images come in order.
        shift: Move each image by up to an eighth of its sides, repeating its edge.
        mirror: Mirror every other image, by chance, left to right.

    Raises:
        DsError: The split is empty, `size` is below 1, or an augmentation is asked for without a
            generator.
    """

    def __init__(
        self,
        split: Split,
        size: int,
        scale: Statistics,
        *,
        generator: Generator | None = None,
        shift: bool = False,
        mirror: bool = False,
    ) -> None:
        if not len(split):
            raise DsError("There are no images to make batches of.")
        if size < 1:
            raise DsError(f"A batch needs at least one image, not {size}.")
        if generator is None and (shift or mirror):
            raise DsError("Augmenting images needs a random generator, and none is given.")
        self.split = split
        self.scale = scale
        self.generator = generator
        self.shift = shift
        self.mirror = mirror
        self._count = -(-len(split) // size)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield images, float32 `[N, C, H, W]`, and labels, int64 `[N]`."""
        import torch

        count = len(self.split)
        if self.generator is None:
            order = torch.arange(count)
        else:
            order = torch.randperm(count, generator=self.generator)
        for chosen in order.tensor_split(self._count):
            images = self.split.images[chosen]
            if self.generator is not None and (self.shift or self.mirror):
                images = self._augment(images, self.generator)
            yield (images.float() - self.scale.mean) / self.scale.std, self.split.labels[chosen]

    def _augment(self, images: Tensor, generator: Generator) -> Tensor:
        import torch

        count, _, height, width = images.shape

        def positions(side: int) -> Tensor:
            """Which row or column of each image each of the result's is taken from: `[N, side]`."""
            reach = side // 8 if self.shift else 0
            moves = torch.randint(-reach, reach + 1, (count, 1), generator=generator)
            return (torch.arange(side) + moves).clamp(0, side - 1)

        rows, columns = positions(height), positions(width)
        if self.mirror:
            flips = torch.randint(0, 2, (count,), generator=generator).bool()
            columns[flips] = columns[flips].flip(1)
        samples = torch.arange(count).view(-1, 1, 1)
        chosen = images[samples, :, rows.unsqueeze(2), columns.unsqueeze(1)]
        return chosen.permute(0, 3, 1, 2).contiguous()


def _hold_out(images: Tensor, labels: Tensor, seed: int) -> tuple[Split, Split]:
    """Take a share of every class for testing, at least one image and never all."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    testing = torch.zeros(len(labels), dtype=torch.bool)
    for label in sorted(set(labels.tolist())):
        members = (labels == label).nonzero().flatten()
        share = max(1, round(TEST_FRACTION * len(members)))
        testing[members[torch.randperm(len(members), generator=generator)[:share]]] = True
    return Split(images[~testing], labels[~testing]), Split(images[testing], labels[testing])


def _files_by_class(folder: Path) -> dict[str, list[Path]]:
    """The image files of each class folder, sorted; folders without any are no classes."""
    found = {
        child.name: sorted(path for path in child.iterdir() if path.suffix.lower() in SUFFIXES)
        for child in folder.iterdir()
        if child.is_dir() and not child.name.startswith(".")
    }
    found = {name: paths for name, paths in found.items() if paths}
    if not found:
        raise DsError(
            f"There are no images in {str(folder)!r}.",
            mend=f"Put {', '.join(sorted(SUFFIXES))} files into one folder for each class there.",
        )
    return found


def _check_classes(split: Split, classes: Sequence[str], folder: Path) -> None:
    counts = Counter(split.labels.tolist())
    for label, name in enumerate(classes):
        if counts[label] < 2:
            count = "1 readable image" if counts[label] else "no readable images"
            raise DsError(
                f"Class {name!r} in {str(folder)!r} has {count}.",
                mend="Give each class at least two.",
            )


def _decode(paths: Sequence[Path]) -> tuple[Tensor, Tensor]:
    """All images of one size, uint8 `[N, 3, H, W]`, and which of the paths they come from."""
    import torch

    try:
        from PIL import Image
    except ImportError:
        raise DsError(
            "Reading an image folder needs pillow, which is not installed.", mend=_INSTALL
        ) from None

    def read(path: Path) -> tuple[tuple[int, int], bytes] | None:
        try:
            with Image.open(path) as image:
                keep = all(side in KEPT_SIDES for side in image.size)
                if not keep:
                    # Lets JPEG decode at a fraction of its size, which is several times faster.
                    image.draft("RGB", (2 * SIDE, 2 * SIDE))
                picture = image.convert("RGB")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return None  # each is what some decoder raises for a damaged file
        if not keep:
            picture = picture.resize((SIDE, SIDE))
        return picture.size, picture.tobytes()

    # Threads would gain nothing: decoding a small image holds the interpreter most of the time.
    pictures = [read(path) for path in paths]
    kept = [index for index, picture in enumerate(pictures) if picture is not None]
    readable = [picture for picture in pictures if picture is not None]
    if len(readable) < len(paths) / 2:
        broken = next(path for path, picture in zip(paths, pictures, strict=True) if not picture)
        raise DsError(
            f"{len(paths) - len(readable)} of {len(paths)} images cannot be read, the first of "
            f"them {str(broken)!r}.",
            mend="Check that the files are images and are complete.",
        )

    sizes = {size for size, _ in readable}
    width, height = sizes.pop() if len(sizes) == 1 else (SIDE, SIDE)
    images = torch.empty(len(readable), 3, height, width, dtype=torch.uint8)
    for index, (size, content) in enumerate(readable):
        if size != (width, height):
            content = Image.frombytes("RGB", size, content).resize((width, height)).tobytes()
        flat = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        images[index] = flat.view(height, width, 3).permute(2, 0, 1)
    return images, torch.tensor(kept)
