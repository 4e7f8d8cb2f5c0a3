"""Nets whose numbers are easily said wrong: they branch on values, share tensors, or divide by a norm."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.data import TensorDataset

CLASSES = 4


class Branching(nn.Module):
    """Skips a layer where nothing is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.maybe, self.out = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        if x.sum() > 0:
            x = self.maybe(x) + x
        return self.out(x)  # type: ignore[no-any-return]


class Normed(nn.Module):
    """A row of `first` without any weight left has the norm 0, and 0 / 0 is no number."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = weight_norm(nn.Linear(6, 6)), nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.relu(self.first(x)))  # type: ignore[no-any-return]


class Tied(nn.Module):
    """The classifier is the embedding, and one layer is called twice."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens, self.mix = nn.Embedding(CLASSES, 5), nn.Linear(5, 5)
        self.out = nn.Linear(5, CLASSES, bias=False)
        self.out.weight = self.tokens.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(torch.tanh(self.mix(torch.tanh(self.mix(self.tokens(x).mean(1))))))  # type: ignore[no-any-return]


class Mixed(nn.Module):
    """Layers that take whole numbers, layers that nobody calls, and layers that take floats."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(CLASSES, 8)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.up, self.norm = nn.ConvTranspose1d(8, 6, 2, 2), weight_norm(nn.Linear(6, 6))
        self.out = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.up(self.encoder(self.tokens(x)).transpose(1, 2)).mean(2)
        return self.out(F.relu(self.norm(x)))  # type: ignore[no-any-return]


def _seeded(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(1)
    return kind().eval()


def _parts(is_text: bool) -> tuple[TensorDataset, ...]:
    rng = torch.Generator().manual_seed(2)

    def part(n: int) -> TensorDataset:
        words = torch.randint(CLASSES, (n, 6), generator=rng)
        return TensorDataset(
            words if is_text else torch.randn(n, 6, generator=rng),
            torch.randint(CLASSES, (n,), generator=rng),
        )

    return part(80), part(40), part(40)


def branching() -> nn.Module:
    return _seeded(Branching)


def normed() -> nn.Module:
    return _seeded(Normed)


def tied() -> nn.Module:
    return _seeded(Tied)


def mixed() -> nn.Module:
    return _seeded(Mixed)


def vectors() -> tuple[TensorDataset, ...]:
    return _parts(False)


def words() -> tuple[TensorDataset, ...]:
    return _parts(True)
