import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ds_core.demo.data import Batches, Split, digits, image_folder, load, pixel_statistics
from ds_core.errors import DsError

pytest.importorskip("sklearn")
Image = pytest.importorskip("PIL.Image")


def paint(path, size=(12, 10), colour=(255, 0, 0)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def paint_classes(folder, counts, **options):
    for name, count in counts.items():
        for index in range(count):
            paint(folder / name / f"{index:03}.png", **options)


def same(one, other):
    return torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def numbered(count, side=8):
    """Images of which each holds its own number in every pixel, and their labels the same."""
    numbers = torch.arange(count)
    images = numbers.to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, side, side)
    return Split(images.contiguous(), numbers)


# Digits


def test_digits_are_all_there_and_each_class_is_split_alike():
    data = digits()
    assert len(data.train) + len(data.test) == 1797
    assert data.train.images.shape[1:] == (1, 8, 8)
    assert data.train.images.dtype == torch.uint8
    assert int(data.train.images.max()) == 16
    assert data.train.labels.dtype == torch.int64
    assert data.classes == tuple("0123456789")
    every = data.train.labels.bincount() + data.test.labels.bincount()
    assert torch.all((data.test.labels.bincount() / every - 0.2).abs() < 0.005)


def test_the_seed_alone_decides_the_split():
    assert same(digits(seed=3).test, load(seed=3).test)
    assert not same(digits(seed=3).test, digits(seed=4).test)


def test_no_digit_is_in_both_splits():
    from sklearn.datasets import load_digits

    data = digits()
    together = torch.cat([data.train.images, data.test.images]).flatten(1).tolist()
    assert sorted(together) == sorted(load_digits().data.tolist())


def test_without_scikit_learn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DsError, match="scikit-learn") as caught:
        digits()
    assert 'pip install "ds-core[demo]"' in caught.value.mend


# Image folders


def test_train_and_test_folders_are_taken_as_they_are(tmp_path):
    paint_classes(tmp_path / "train", {"cat": 3, "dog": 2}, colour=(10, 20, 30))
    paint_classes(tmp_path / "test", {"dog": 2}, colour=(40, 50, 60))
    data = load(tmp_path)
    assert data.name == tmp_path.name
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1]
    assert data.test.labels.tolist() == [1, 1]
    assert data.train.images.shape == (5, 3, 10, 12)
    assert data.train.images[0, :, 0, 0].tolist() == [10, 20, 30]
    assert data.test.images[1, :, 9, 11].tolist() == [40, 50, 60]
    assert data.skipped == 0


def test_class_folders_alone_are_split_by_the_seed(tmp_path):
    for name in ("cat", "dog"):
        for index in range(10):
            paint(tmp_path / name / f"{index}.png", colour=(index, index, index))
    data = image_folder(tmp_path, seed=1)
    assert data.train.labels.bincount().tolist() == [8, 8]
    assert data.test.labels.bincount().tolist() == [2, 2]
    assert same(data.test, image_folder(tmp_path, seed=1).test)
    assert any(not same(data.test, image_folder(tmp_path, seed=seed).test) for seed in (2, 3, 4))


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([(20, 16), (20, 16)], (16, 20)),
        ([(20, 16), (16, 16)], (32, 32)),
        ([(300, 200), (300, 200)], (32, 32)),
        ([(4, 4), (4, 4)], (32, 32)),
        ([(20, 16), (300, 200)], (32, 32)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "JPG"])
def test_images_get_one_size(tmp_path, sizes, expected, suffix):
    for name in ("cat", "dog"):
        for index, size in enumerate(sizes):
            paint(tmp_path / name / f"{index}.{suffix}", size=size, colour=(200, 100, 50))
    data = image_folder(tmp_path)
    assert data.train.images.shape[1:] == (3, *expected)
    wanted = torch.tensor([200, 100, 50]).view(1, 3, 1, 1)
    assert int((data.train.images.int() - wanted).abs().max()) <= 3  # JPEG is lossy


def test_grey_and_transparent_images_become_rgb(tmp_path):
    paint_classes(tmp_path, {"cat": 2, "dog": 2})
    Image.new("L", (12, 10), 77).save(tmp_path / "cat" / "000.png")
    Image.new("RGBA", (12, 10), (1, 2, 3, 0)).save(tmp_path / "cat" / "001.png")
    data = image_folder(tmp_path)
    cats = torch.cat([part.images[part.labels == 0] for part in (data.train, data.test)])
    assert sorted(cats[:, :, 0, 0].tolist()) == [[1, 2, 3], [77, 77, 77]]


def test_unreadable_images_are_skipped_and_counted(tmp_path):
    for part in ("train", "test"):
        paint_classes(tmp_path / part, {"cat": 4, "dog": 4})
    (tmp_path / "train" / "cat" / "000.png").write_bytes(b"not an image")
    whole = (tmp_path / "test" / "dog" / "003.png").read_bytes()
    (tmp_path / "test" / "dog" / "003.png").write_bytes(whole[: len(whole) // 2])
    data = image_folder(tmp_path)
    assert data.skipped == 2
    assert data.train.labels.tolist() == [0] * 3 + [1] * 4
    assert data.test.labels.tolist() == [0] * 4 + [1] * 3


def test_mostly_unreadable_folders_are_refused(tmp_path):
    paint_classes(tmp_path, {"cat": 3, "dog": 3})
    for name in ("cat/000.png", "cat/001.png", "dog/000.png", "dog/002.png"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DsError, match=r"4 of 6 images cannot be read.*000\.png"):
        image_folder(tmp_path)


def test_hidden_folders_and_other_files_are_no_classes(tmp_path):
    paint_classes(tmp_path, {"cat": 2, "dog": 2, ".thumbnails": 2})
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "readme.txt").write_text("about")
    assert image_folder(tmp_path).classes == ("cat", "dog")


def test_folders_that_cannot_be_used_are_refused_in_a_sentence(tmp_path):
    with pytest.raises(DsError, match="is not a folder"):
        image_folder(tmp_path / "nowhere")
    with pytest.raises(DsError, match="no images in"):
        image_folder(tmp_path)
    paint(tmp_path / "loose.png")
    with pytest.raises(DsError, match="no images in"):
        image_folder(tmp_path)
    paint_classes(tmp_path, {"cat": 3})
    with pytest.raises(DsError, match="one class only, 'cat'"):
        image_folder(tmp_path)
    paint_classes(tmp_path, {"dog": 1})
    with pytest.raises(DsError, match=r"'dog'.* has 1 readable image\."):
        image_folder(tmp_path)


def test_a_test_class_that_is_never_trained_is_refused(tmp_path):
    paint_classes(tmp_path / "train", {"cat": 2, "dog": 2})
    paint_classes(tmp_path / "test", {"cat": 2, "emu": 2})
    with pytest.raises(DsError, match="a class 'emu'"):
        image_folder(tmp_path)


def test_without_pillow_the_error_says_what_to_install(tmp_path, monkeypatch):
    paint_classes(tmp_path, {"cat": 2, "dog": 2})
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DsError, match="pillow") as caught:
        image_folder(tmp_path)
    assert 'pip install "ds-core[demo]"' in caught.value.mend


# Batches


@given(count=st.integers(1, 60), size=st.integers(1, 70), shuffled=st.booleans())
@settings(deadline=None)
def test_an_epoch_holds_every_image_once_in_even_batches(count, size, shuffled):
    split = numbered(count)
    generator = torch.Generator().manual_seed(0) if shuffled else None
    scale = pixel_statistics(split)
    batches = Batches(split, size, scale, generator=generator)
    epoch = list(batches)
    assert len(epoch) == len(batches)
    lengths = [len(labels) for _, labels in epoch]
    assert max(lengths) <= size
    assert max(lengths) - min(lengths) <= 1
    labels = torch.cat([labels for _, labels in epoch])
    assert sorted(labels.tolist()) == list(range(count))
    pixels = torch.cat([images for images, _ in epoch]) * scale.std + scale.mean
    torch.testing.assert_close(pixels[:, 0, 0, 0], labels.float(), rtol=0, atol=1e-4)
    assert shuffled or labels.tolist() == list(range(count))


def test_training_images_are_normalised():
    data = digits()
    batches = Batches(data.train, 500, pixel_statistics(data.train))
    pixels = torch.cat([images for images, _ in batches])
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
    torch.testing.assert_close(pixels.std(), torch.tensor(1.0), rtol=0, atol=1e-4)


def test_a_channel_without_contrast_does_not_divide_by_zero():
    split = Split(torch.full((4, 3, 8, 8), 9, dtype=torch.uint8), torch.arange(4))
    ((images, _),) = Batches(split, 4, pixel_statistics(split))
    assert torch.equal(images, torch.zeros_like(images))


def test_the_seed_decides_order_and_augmentation_over_all_epochs():
    split = digits().test
    scale = pixel_statistics(split)

    def epochs(seed):
        generator = torch.Generator().manual_seed(seed)
        batches = Batches(split, 50, scale, generator=generator, shift=True, mirror=True)
        return [torch.cat([images for images, _ in batches]) for _ in range(2)]

    first, second = epochs(5)
    assert torch.equal(first, epochs(5)[0])
    assert torch.equal(second, epochs(5)[1])
    assert not torch.equal(first, second)
    assert not torch.equal(first, epochs(6)[0])


def moved(image, down, right):
    """The image shifted with its edge repeated, by slow and obvious means."""
    height, width = image.shape[1:]
    result = image.clone()
    for row in range(height):
        for column in range(width):
            source = min(max(row - down, 0), height - 1), min(max(column - right, 0), width - 1)
            result[:, row, column] = image[:, source[0], source[1]]
    return result


@pytest.mark.parametrize(("shift", "mirror", "kinds"), [(1, 0, 9), (0, 1, 2), (1, 1, 18)])
def test_augmentation_moves_by_an_eighth_and_mirrors(shift, mirror, kinds):
    torch.manual_seed(0)
    image = torch.randint(0, 256, (3, 8, 9), dtype=torch.uint8)
    split = Split(image.expand(400, -1, -1, -1).contiguous(), torch.zeros(400, dtype=torch.long))
    scale = pixel_statistics(split)
    generator = torch.Generator().manual_seed(0)
    ((images, _),) = Batches(
        split, 400, scale, generator=generator, shift=bool(shift), mirror=bool(mirror)
    )
    seen = {tuple(found.flatten().tolist()) for found in (images * scale.std + scale.mean).round()}
    steps = (-1, 0, 1) if shift else (0,)
    shifted = [moved(image, down, right) for down in steps for right in steps]
    flipped = [found.flip(2) for found in shifted] if mirror else []
    expected = {tuple(found.float().flatten().tolist()) for found in shifted + flipped}
    assert seen == expected
    assert len(seen) == kinds


def test_batches_that_cannot_be_are_refused():
    split = numbered(3)
    scale = pixel_statistics(split)
    with pytest.raises(DsError, match="no images"):
        Batches(Split(split.images[:0], split.labels[:0]), 4, scale)
    with pytest.raises(DsError, match="at least one image"):
        Batches(split, 0, scale)
    with pytest.raises(DsError, match="random generator"):
        Batches(split, 2, scale, shift=True)
