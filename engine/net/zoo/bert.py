"""BERT's encoder as MiniLM has it, and a class from the mean of all places (Devlin 2019, arXiv 1810.04805).

Unlike in `text.Transformer`, what an encoder adds is normalised after it was added.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.pieces import PAD
from engine.net.zoo.text import Attention, mean_of_words, placed, without

SMALLEST = 1e-12  # is added to a variance


class Encoder(nn.Module):
    """Attention, then two fully connected layers for each place; both sums are normalised."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.norm1 = nn.LayerNorm(width, SMALLEST)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)
        self.norm2 = nn.LayerNorm(width, SMALLEST)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        x = self.norm1(x + self.attention(x, padding))
        return self.norm2(x + self.fc2(F.gelu(self.fc1(x))))  # type: ignore[no-any-return]


class Bert(nn.Module):
    """Word pieces and their places as vectors, encoders in a row, and a class from the mean of all places.

    `longest` places are known; a text of fewer reads the first of them. A text is one segment, whose
    vector is folded into those of the places.
    """

    def __init__(
        self, pieces: int, longest: int, classes: int, width: int, heads: int, hidden: int, depth: int
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(pieces, width)
        self.places = nn.Embedding(longest, width)
        self.norm = nn.LayerNorm(width, SMALLEST)
        self.layers = nn.ModuleList(Encoder(width, heads, hidden) for _ in range(depth))
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        is_word = (x != PAD).to(self.tokens.weight.dtype)
        return self.fc(mean_of_words(self.states(x, is_word), is_word))  # type: ignore[no-any-return]

    def states(self, x: Tensor, is_word: Tensor) -> Tensor:
        """What the last encoder makes of each place of texts (n, places): (n, places, width)."""
        y, padding = self.norm(placed(self.tokens, self.places, x)), without(is_word)
        for layer in self.layers:
            y = layer(y, padding)
        return y  # type: ignore[no-any-return]
