"""The task `language`: which token comes next, in windows of speeches and of a novel.

Read from the frozen excerpts in assets/data/language, which `engine.data.excerpts` wrote.
"""

from __future__ import annotations

import lzma
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from engine.data.samples import Data, Samples
from engine.data.tokens import Tokens

TOKENS = 1024  # in the vocabulary
PLACES = 128  # tokens that a net reads at once
PARTS = ("train", "validation", "test")


@lru_cache(maxsize=1)
def vocabulary(folder: Path) -> Tokens:
    """The tokens of the task."""
    return Tokens.read(folder / "tokens.json")


def read(folder: Path) -> Data:
    """Inputs (n, 128) int64: numbers of tokens; labels (n, 128) int64: the token after each."""
    tokens = vocabulary(folder)
    content = lzma.decompress((folder / "windows.bin.xz").read_bytes())
    windows = torch.from_numpy(np.frombuffer(content, "<u2").astype(np.int64).reshape(-1, 2 + PLACES))
    train, validation, test = (
        samples(windows[windows[:, 0] == number, 1:], tokens) for number in range(len(PARTS))
    )
    return Data("language", train, validation, test, tokens.words)


def samples(windows: Tensor, tokens: Tokens) -> Samples:
    """Windows (n, places + 1) as samples: each token but the last is read, each but the first foretold."""
    letters = torch.tensor([len(word) for word in tokens.words])
    texts = tuple(tokens.decode(row) for row in windows.tolist())
    return Samples(windows[:, :-1], windows[:, 1:], texts=texts, letters=letters)
