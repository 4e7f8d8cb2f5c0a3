"""The zoo's language model, a LLaMA in small. Inputs are numbers of tokens (n, places)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BASE = 10_000.0  # of the angles


class GroupedAttention(nn.Module):
    """Each place takes from those before it and itself; several heads of queries share keys and values.

    (Ainslie et al. 2023, arXiv 2305.13245) Queries and keys are turned by angles that grow with the place,
    so that their product depends on how far apart they are (Su et al. 2021, arXiv 2104.09864).
    """

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.size = width // heads
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, groups * self.size, bias=False)
        self.value = nn.Linear(width, groups * self.size, bias=False)
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, future: Tensor) -> Tensor:
        """`x` (n, places, width), `angles` (places, size / 2), `future` (places, places) added to scores."""
        query, key = (turned(self._heads(layer(x)), angles) for layer in (self.query, self.key))
        value = self._heads(self.value(x))
        shared = query.shape[1] // key.shape[1]
        key, value = (each.repeat_interleave(shared, 1) for each in (key, value))
        shares = torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(self.size) + future, -1)
        return self.out((shares @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, x: Tensor) -> Tensor:
        """(n, places, heads * size) -> (n, heads, places, size)."""
        found: Tensor = x.unflatten(-1, (-1, self.size))  # type: ignore[no-untyped-call]
        return found.transpose(1, 2)


def turned(x: Tensor, angles: Tensor) -> Tensor:
    """Neighbouring pairs of numbers (..., places, size), each turned by its angle (places, size / 2).

    >>> turned(torch.tensor([[1.0, 0.0]]), torch.tensor([[math.pi]])).round().abs().tolist()
    [[1.0, 0.0]]
    """
    first, second = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack([first * cos - second * sin, first * sin + second * cos], -1).flatten(-2)


class Decoder(nn.Module):
    """Attention, then a gated pair of fully connected layers; both add to what they read.

    (SwiGLU: Shazeer 2020, arXiv 2002.05202)
    """

    def __init__(self, width: int, heads: int, groups: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.RMSNorm(width, eps=1e-6)
        self.attention = GroupedAttention(width, heads, groups)
        self.norm2 = nn.RMSNorm(width, eps=1e-6)
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor, angles: Tensor, future: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x), angles, future)
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))  # type: ignore[no-any-return]


class LanguageModel(nn.Module):
    """Tokens as vectors, decoders in a row, and scores of what comes next at each place.

    The table of vectors is also the last layer: a token scores by how well its vector fits.
    """

    def __init__(self, tokens: int, width: int, heads: int, groups: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.size = width // heads
        self.tokens = nn.Embedding(tokens, width)
        self.layers = nn.ModuleList(Decoder(width, heads, groups, hidden) for _ in range(depth))
        self.norm = nn.RMSNorm(width, eps=1e-6)
        nn.init.normal_(self.tokens.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Scores (n, tokens, places), as torch's cross-entropy takes them."""
        places = x.shape[1]
        steps = torch.arange(0, self.size, 2, dtype=torch.float32, device=x.device) / self.size
        angles = torch.arange(places, dtype=torch.float32, device=x.device).unsqueeze(1) * BASE**-steps
        future = torch.full((places, places), -math.inf, device=x.device).triu(1)
        y = self.tokens(x)
        for layer in self.layers:
            y = layer(y, angles, future)
        return F.linear(self.norm(y), self.tokens.weight).transpose(1, 2)
