"""Bundled data: MNIST, CIFAR-10, topics of Debian's packages, mails and excerpts to read on, split for good.

Whatever chooses (sweeps, sensitivity, early stop) sees `validation`; `test` only reports.
Images stay 8-bit until a batch is asked for. `engine.data.fetch` wrote the files read here.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.data import language, spam, topics
from engine.data.samples import SPLIT_SEED, stratified_rows
from engine.data.samples import Data as Data
from engine.data.samples import Samples as Samples
from engine.types import SlimscopeError

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"
PER_CLASS = 500  # validation samples of a class on average; 5,000 in all


def split_rows(labels: Tensor) -> tuple[Tensor, Tensor]:
    """(train rows, validation rows) of a training set: 5,000 are held out, each class in its share."""
    held = stratified_rows(labels, PER_CLASS * 10, SPLIT_SEED)
    rest = torch.ones(len(labels), dtype=torch.bool)
    rest[held] = False
    return rest.nonzero().flatten(), held


def read_idx(path: Path) -> Tensor:
    """A gzipped IDX file of bytes as a uint8 tensor of its own shape."""
    raw = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(raw, ">i4", count=raw[3], offset=4)
    return torch.from_numpy(np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy())


def read_mosaic(path: Path) -> Tensor:
    """A lossless mosaic, 100 images of 32x32 in a row, as (n, 3, 32, 32) uint8."""
    with Image.open(path) as picture:
        mosaic = np.asarray(picture.convert("RGB"))
    tiles = mosaic.reshape(mosaic.shape[0] // 32, 32, 100, 32, 3).swapaxes(1, 2).reshape(-1, 32, 32, 3)
    return torch.from_numpy(tiles.transpose(0, 3, 1, 2).copy())


def cache_folder() -> Path:
    """Where fetched data, jobs and results lie: $SLIMSCOPE_HOME or ~/.cache/slimscope."""
    return Path(os.environ.get("SLIMSCOPE_HOME", Path.home() / ".cache" / "slimscope"))


def _mnist() -> Data:
    folder, scale = ASSETS / "data" / "mnist", ((0.1307,), (0.3081,))
    images = read_idx(folder / "train-images.idx.gz").unsqueeze(1)
    labels = read_idx(folder / "train-labels.idx.gz").long()
    train, validation = split_rows(labels)
    test = Samples(
        read_idx(folder / "test-images.idx.gz").unsqueeze(1),
        read_idx(folder / "test-labels.idx.gz").long(),
        *scale,
    )
    whole = Samples(images, labels, *scale)
    return Data("mnist", whole.take(train), whole.take(validation), test, tuple("0123456789"))


CIFAR_SCALE = ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))


def _cifar10() -> Data:
    folder = ASSETS / "data" / "cifar10"
    part = Samples(
        read_mosaic(folder / "train-part.webp"),
        read_idx(folder / "train-part-labels.idx.gz").long(),
        *CIFAR_SCALE,
    )
    test = Samples(
        read_mosaic(folder / "test.webp"), read_idx(folder / "test-labels.idx.gz").long(), *CIFAR_SCALE
    )
    classes = tuple(json.loads((folder / "classes.json").read_text()))
    # The bundled part holds the 5,000 validation images first, then 5,000 of train.
    held = PER_CLASS * 10
    return Data("cifar10", part.take(slice(held, None)), part.take(slice(0, held)), test, classes)


TITLES = {
    "mnist": "MNIST, handwritten digits",
    "cifar10": "CIFAR-10, small photos",
    "debian-topics": "Debian topics, one-line descriptions of packages",
    "debian-topics-minilm": "Debian topics, in MiniLM's word pieces",
    "spam": "Spam, mails of 2002 and 2003",
    "language": "Language, excerpts of speeches and of Moby Dick",
}
READ_ON = ("language",)  # of these data a net says how a text goes on
LOADERS: dict[str, Callable[[], Data]] = {
    "mnist": _mnist,
    "cifar10": _cifar10,
    "debian-topics": lambda: topics.read(ASSETS / "data" / "debian-topics"),
    "debian-topics-minilm": lambda: topics.read_framed(ASSETS / "data" / "debian-topics"),
    "spam": lambda: spam.read(ASSETS / "data" / "spam"),
    "language": lambda: language.read(ASSETS / "data" / "language"),
}


@lru_cache(maxsize=4)
def load(name: str) -> Data:
    """The bundled data set `name`, read from assets/data (no network).

    Raises SlimscopeError for a name that is not bundled.

    >>> len(load("mnist").validation)
    5000
    """
    if name not in LOADERS:
        raise SlimscopeError(f"data {name!r} is not bundled; there are {', '.join(LOADERS)}")
    return LOADERS[name]()


def load_full(name: str) -> Data:
    """As `load`, with all training images: CIFAR-10's come from `python -m engine.data.fetch cifar10`."""
    bundled = load(name)
    if name != "cifar10":
        return bundled
    path = cache_folder() / "cifar10-train.npz"
    if not path.exists():
        raise SlimscopeError(f"{path} is missing: run `python -m engine.data.fetch cifar10` first")
    with np.load(path, allow_pickle=False) as file:
        whole = Samples(
            torch.from_numpy(file["images"]), torch.from_numpy(file["labels"]).long(), *CIFAR_SCALE
        )
    return Data(
        name, whole.take(split_rows(whole.labels)[0]), bundled.validation, bundled.test, bundled.classes
    )
