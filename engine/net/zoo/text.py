"""The nets of the zoo that read text. Inputs are numbers of word pieces (n, places), 0 behind the last."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.pieces import PAD

FAR = -1e4  # is added to the scores of padding: its share is zero then


class Attention(nn.Module):
    """Each place takes from all others what fits it, in several heads side by side (Vaswani 2017).

    The four projections are layers of their own, so that each can be compressed like any other. A head has
    `size` numbers of each place's query, key and value: made narrower by that many, they have a head less.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.size = width // heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        """`x` (n, places, width); `padding` (n, 1, 1, places) is added to the scores of all heads."""
        given = self.shares(x, padding) @ self._heads(self.value(x))
        return self.out(given.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def shares(self, x: Tensor, padding: Tensor) -> Tensor:
        """How much each place takes from each other, (n, heads, places, places); rows add up to 1."""
        query, key = self._heads(self.query(x)), self._heads(self.key(x))
        return torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(self.size) + padding, -1)

    def _heads(self, x: Tensor) -> Tensor:
        """(n, places, heads * size) -> (n, heads, places, size)."""
        found: Tensor = x.unflatten(-1, (-1, self.size))  # type: ignore[no-untyped-call]
        return found.transpose(1, 2)


class Encoder(nn.Module):
    """Attention, then two fully connected layers for each place; both add to what they read."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), padding)
        return x + self.fc2(F.relu(self.fc1(self.norm2(x))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Word pieces and their places as vectors, encoders in a row, and a class from the mean of all places."""

    def __init__(
        self, pieces: int, places: int, classes: int, width: int, heads: int, hidden: int, depth: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(pieces, width)
        self.places = nn.Embedding(places, width)
        self.layers = nn.ModuleList(Encoder(width, heads, hidden) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, classes)
        for table in (self.tokens, self.places):
            nn.init.normal_(table.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        y = placed(self.tokens, self.places, x)
        is_word = (x != PAD).to(y.dtype)
        padding = without(is_word)
        for layer in self.layers:
            y = layer(y, padding)
        return self.fc(mean_of_words(self.norm(y), is_word))  # type: ignore[no-any-return]


class TextLSTM(nn.Module):
    """Reads word pieces forwards and backwards, and tells a class from the mean of its states at them."""

    def __init__(self, pieces: int, classes: int, width: int, hidden: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(pieces, width)
        self.lstm = nn.LSTM(width, hidden, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(2 * hidden, classes)
        nn.init.normal_(self.tokens.weight, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.tokens(x))  # (n, places, 2 * hidden)
        return self.fc(mean_of_words(states, (x != PAD).to(states.dtype)))  # type: ignore[no-any-return]


def placed(tokens: nn.Embedding, places: nn.Embedding, x: Tensor) -> Tensor:
    """Vectors of word pieces and of their places (n, places, width), added up."""
    return tokens(x) + places(torch.arange(x.shape[1], device=x.device).unsqueeze(0))  # type: ignore[no-any-return]


def without(is_word: Tensor) -> Tensor:
    """What is added to scores of attention so that only words (n, places) get a share: (n, 1, 1, places)."""
    return (FAR * (1 - is_word)).unsqueeze(1).unsqueeze(1)


def mean_of_words(x: Tensor, is_word: Tensor) -> Tensor:
    """The mean of (n, places, width) over the places where `is_word` (n, places) is 1, and not 0."""
    return (x * is_word.unsqueeze(-1)).sum(1) / is_word.sum(1, keepdim=True).clamp(min=1.0)
