"""Bundled image data: MNIST and CIFAR-10, split once and for all.

Whatever chooses (sweeps, sensitivity, early stop) sees `validation`; `test` only reports.
Images stay 8-bit until a batch is asked for. `engine.data.fetch` wrote the files read here.
"""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from engine.types import SlimscopeError

ASSETS = Path(__file__).resolve().parent.parent.parent / "assets"
SPLIT_SEED = 2015
PER_CLASS = 500  # validation samples of a class on average; 5,000 in all


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs with labels (n,) int64, and how a net wants them.

    Bundled images are (n, channels, height, width) uint8. A user's inputs (n, ...) have no `mean`: a net
    gets them as they are; their labels may be targets of any shape, for a metric of the user's own.
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def inputs(self, rows: Tensor | slice = slice(None)) -> Tensor:
        """Inputs of the chosen rows: (n, ...), float32 and standardised where there is a mean."""
        if not self.mean:
            return self.images[rows]
        mean = torch.tensor(self.mean).view(1, -1, 1, 1)
        std = torch.tensor(self.std).view(1, -1, 1, 1)
        return self.images[rows].to(torch.float32, copy=True).div_(255.0).sub_(mean).div_(std)

    def take(self, rows: Tensor | slice) -> Samples:
        """The chosen rows as samples of their own."""
        return Samples(self.images[rows], self.labels[rows], self.mean, self.std)

    @property
    def is_labelled(self) -> bool:
        """Whether each target is the number of a class."""
        return self.labels.dim() == 1 and not self.labels.is_floating_point()

    @property
    def is_drawable(self) -> bool:
        """Whether an input is a grey or a coloured image."""
        return self.images.dim() == 4 and self.images.shape[1] in (1, 3) and min(self.images.shape[2:]) > 1

    def picture(self, row: int) -> Tensor:
        """One input as (channels, height, width) uint8: a user's floats from darkest to brightest."""
        image = self.images[row]
        if image.dtype == torch.uint8:
            return image
        low, high = image.min(), image.max()
        return ((image - low) / (high - low).clamp(min=1e-12) * 255).to(torch.uint8)

    def stratified(self, count: int, seed: int = SPLIT_SEED) -> Samples:
        """`count` fixed rows with every class in its share; all rows where count >= len.

        Targets that are no classes: rows evenly spaced.
        """
        if count >= len(self):
            return self
        if not self.is_labelled:
            return self.take(torch.arange(count) * len(self) // count)
        return self.take(stratified_rows(self.labels, count, seed))


@dataclass(frozen=True, eq=False)
class Data:
    """A task: data in three parts that never overlap, the names of its classes, and how it is judged.

    Without a `metric` the loss is cross-entropy and what is measured is accuracy. A user's `metric` is
    a function of outputs (n, ...) and targets (n, ...): higher is better.
    """

    name: str
    train: Samples
    validation: Samples
    test: Samples
    classes: tuple[str, ...]
    seed: int = SPLIT_SEED
    metric: Callable[[Tensor, Tensor], Any] | None = None

    @property
    def key(self) -> str:
        """Text that determines the data: name and sizes of the parts."""
        return f"{self.name}-{len(self.train)}-{len(self.validation)}-{len(self.test)}-s{self.seed}"

    def standardised(self, mean: tuple[float, ...], std: tuple[float, ...]) -> Data:
        """The same images, handed to the net with another mean and standard deviation."""
        train, validation, test = (
            Samples(part.images, part.labels, mean, std) for part in (self.train, self.validation, self.test)
        )
        return Data(self.name, train, validation, test, self.classes, self.seed)


def stratified_rows(labels: Tensor, count: int, seed: int) -> Tensor:
    """`count` row numbers, sorted, with each class in proportion (largest remainders first)."""
    shuffle = np.random.Generator(np.random.PCG64(seed))
    order = shuffle.permutation(len(labels))
    by_class = [order[labels.numpy()[order] == c] for c in np.unique(labels.numpy())]
    exact = np.array([len(rows) * count / len(labels) for rows in by_class])
    take = np.floor(exact).astype(int)
    for c in np.argsort(take - exact, kind="stable")[: count - take.sum()]:
        take[c] += 1
    chosen = np.concatenate([rows[:n] for rows, n in zip(by_class, take, strict=True)])
    return torch.from_numpy(np.sort(chosen))


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


LOADERS = {"mnist": _mnist, "cifar10": _cifar10}


@lru_cache(maxsize=2)
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
