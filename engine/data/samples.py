"""Samples and the data that a model is judged by: inputs, labels, three parts that never overlap."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine.data.pieces import Pieces
from engine.types import SlimscopeError

SPLIT_SEED = 2015


@dataclass(frozen=True, eq=False)
class Samples:
    """Inputs with labels (n,) int64, and how a net wants them.

    Bundled images are (n, channels, height, width) uint8. Bundled texts are numbers of word pieces
    (n, places) int64, and `texts` has them as people read them. Where there is no `mean`, a net gets the
    inputs as they are. A user's labels may be targets of any shape, for a metric of the user's own.

    Of a text that is read on, labels are (n, places) int64, the token after each, and `letters` says how
    many letters each token of the vocabulary has: a net gives scores (n, tokens, places).
    """

    images: Tensor
    labels: Tensor
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    texts: tuple[str, ...] = ()
    letters: Tensor | None = None

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
        texts: tuple[str, ...] = ()
        if self.is_text:
            places = range(len(self.texts))[rows] if isinstance(rows, slice) else rows.tolist()
            texts = tuple(self.texts[place] for place in places)
        return Samples(self.images[rows], self.labels[rows], self.mean, self.std, texts, self.letters)

    @property
    def is_read_on(self) -> bool:
        """Whether what is asked is the next token, at each place of a text."""
        return self.letters is not None

    @property
    def is_judged(self) -> bool:
        """Whether there is a measure of its own: accuracy, or perplexity."""
        return self.is_labelled or self.is_read_on

    def check_loss(self) -> None:
        """Raises SlimscopeError where targets are neither classes nor tokens: a loss needs them."""
        if not self.is_judged:
            raise SlimscopeError(
                "this needs targets that are numbers of classes: a metric of one's own says no loss"
            )

    @property
    def is_labelled(self) -> bool:
        """Whether each target is the number of a class."""
        return self.labels.dim() == 1 and not self.labels.is_floating_point()

    @property
    def is_text(self) -> bool:
        """Whether an input is a text that can be read."""
        return bool(self.texts)

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
    a function of outputs (n, ...) and targets (n, ...): higher is better. `pieces` turns other texts into
    inputs, where inputs are texts.
    """

    name: str
    train: Samples
    validation: Samples
    test: Samples
    classes: tuple[str, ...]
    seed: int = SPLIT_SEED
    metric: Callable[[Tensor, Tensor], Any] | None = None
    pieces: Pieces | None = None

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
