"""Texts whose tokens are coloured: by how much their probability fell, or by how likely they were."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

import torch
from torch import Tensor

from engine.data.samples import Samples
from engine.net.answers import LOSS

EXPECTED = 3.0  # nat: a token of a probability above 5 %
MOST = 3.0  # nat: a probability that fell to a twentieth has the full colour
LOST, WON = "213,94,0", "0,114,178"  # orange and blue, which nobody mixes up


def span(word: str, change: float, words: str) -> str:
    """A token on a ground that says how much less likely it is (nat); `words` is what pointing at it says."""
    strength = min(abs(change) / MOST, 1.0)
    colour = LOST if change > 0 else WON
    ground = f"background:rgba({colour},{0.75 * strength:.2f})" if strength > 0.05 else ""
    return f'<span style="{ground}" title="{escape(words, quote=True)}">{escape(in_line(word))}</span>'


def in_line(text: str) -> str:
    """A text without line breaks, which are shown as a sign."""
    return text.replace("\n", "↵")


def share(loss: float) -> str:
    """A probability in words.

    >>> share(0.0), share(math.log(4)), share(math.log(2000))
    ('100 %', '25 %', '1 in 2,000')
    """
    return f"{100 * math.exp(-loss):.0f} %" if loss < math.log(50) else f"1 in {math.exp(min(loss, 40)):,.0f}"


def passage(words: Sequence[str], before: Tensor, now: Tensor) -> str:
    """A text of tokens (places + 1 words); losses in nat of all but the first, of two models."""
    is_one = torch.equal(before, now)  # of one model: how unexpected each token is
    spans = [escape(in_line(words[0]))]
    for word, old, new in zip(words[1:], before.tolist(), now.tolist(), strict=True):
        told = share(new) if is_one else f"{share(old)}, now {share(new)}"
        spans.append(span(word, (new - EXPECTED) / 2 if is_one and new > EXPECTED else new - old, told))
    return f'<p class="passage">{"".join(spans)}</p>'


def window(sample: Samples, row: int, names: Sequence[str], before: Tensor, now: Tensor) -> str:
    """One sample of the data as a passage; answers are (n, 2, places)."""
    numbers = [*sample.images[row].tolist(), int(sample.labels[row, -1])]
    return passage([names[number] for number in numbers], before[row, LOSS], now[row, LOSS])


def perplexity(answers: Tensor, row: int) -> float:
    """Of one window."""
    return math.exp(min(float(answers[row, LOSS].mean()), 700.0))


def fallen(before: Tensor, now: Tensor) -> list[int]:
    """The windows by how much less likely their tokens are, the worst first."""
    each = (now[:, LOSS] - before[:, LOSS]).mean(1)
    return [int(row) for row in torch.argsort(each, descending=True)]


def passages(sample: Samples, names: Sequence[str], before: Tensor, now: Tensor, count: int = 4) -> str:
    """A few windows, evenly spaced, with their perplexities, and what the colours say."""
    rows = range(0, len(sample), max(1, len(sample) // count))[:count]
    texts = "".join(
        f"<li>{window(sample, row, names, before, now)}Perplexity {perplexity(now, row):,.1f} (the original's "
        f"{perplexity(before, row):,.1f})</li>"
        for row in rows
    )
    words = (
        "Orange: tokens that the model did not expect, the darker the less. Point at one for its probability."
        if torch.equal(before, now)
        else "Orange: less likely to this model than to the original, blue: more likely. Point at a token for both probabilities."
    )
    return f'<ul class="texts">{texts}</ul><p class="caption">{words}</p>'
