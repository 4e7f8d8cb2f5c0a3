"""What a text becomes each time a training sees it: words masked or replaced, or a short run of them alone.

Tang et al. 2019, Distilling Task-Specific Knowledge from BERT into Simple Neural Networks, arXiv 1903.12136,
section 3.1. There a word is replaced by another of its part of speech; here by any, as often as each occurs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from engine.data.pieces import PAD, UNKNOWN

LONGEST_RUN = 5  # word pieces that are kept alone


@dataclass(frozen=True)
class Rewording:
    """Chances of a word to be masked or else replaced, and of a text to be cut to a run of words."""

    mask: float = 0.1
    replace: float = 0.1
    run: float = 0.25


def reworded(inputs: Tensor, how: Rewording, generator: torch.Generator) -> Tensor:
    """Changed copies of texts (n, places) of word pieces; padding stays behind the last word.

    >>> texts = torch.tensor([[5, 6, 7, 0]])
    >>> reworded(texts, Rewording(1.0, 0.0, 0.0), torch.Generator()).tolist()
    [[1, 1, 1, 0]]
    """
    is_word, drawn = inputs != PAD, torch.rand(inputs.shape, generator=generator)
    words = inputs[is_word]
    if not len(words):
        return inputs
    others = words[torch.randint(len(words), inputs.shape, generator=generator)]
    is_replaced = is_word & (drawn >= how.mask) & (drawn < how.mask + how.replace)
    changed = torch.where(is_word & (drawn < how.mask), UNKNOWN, inputs)
    changed = torch.where(is_replaced, others, changed)
    is_cut = torch.rand(len(inputs), 1, generator=generator) < how.run
    return torch.where(is_cut, runs(changed, generator), changed)


def runs(inputs: Tensor, generator: torch.Generator) -> Tensor:
    """Of each text (n, places) one to five neighbouring words, moved to the front; shorter ones stay whole.

    >>> runs(torch.tensor([[7, 0, 0]]), torch.Generator()).tolist()
    [[7, 0, 0]]
    """
    n, places = inputs.shape
    words = (inputs != PAD).sum(1)
    length = torch.minimum(torch.randint(1, LONGEST_RUN + 1, (n,), generator=generator), words)
    start = (torch.rand(n, generator=generator) * (words - length + 1)).long()
    place = torch.arange(places)
    moved = inputs.gather(1, (start.unsqueeze(1) + place).clamp(max=places - 1))
    return torch.where(place < length.unsqueeze(1), moved, PAD)
