"""How a language model goes on with a text, and how likely it finds one: measured by running it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.language import PLACES
from engine.data.tokens import UNKNOWN, Tokens
from engine.types import SlimscopeError

TEMPERATURE = 0.8  # below 1 the likely tokens are drawn more often than their probability says


@dataclass(frozen=True)
class Beginning:
    """A text as a model reads it: its last tokens, what was cut off before them, and strange letters."""

    numbers: tuple[int, ...]
    cut: str = ""
    strange: tuple[str, ...] = ()


def beginning(text: str, tokens: Tokens, most: int) -> Beginning:
    """The last `most` tokens of a text. Raises SlimscopeError for a text without any.

    >>> beginning("abx", Tokens(["a", "b"], []), 2)
    Beginning(numbers=(5, 1), cut='a', strange=('x',))
    """
    numbers = tokens.encode(text)
    if not numbers:
        raise SlimscopeError("an empty text gives a language model nothing to go on from")
    strange = tuple(dict.fromkeys(letter for letter in text if tokens.encode(letter) == [UNKNOWN]))
    left = len(numbers) - most
    return Beginning(tuple(numbers[-most:]), tokens.decode(numbers[: max(left, 0)]), strange)


@torch.inference_mode()
def continued(net: nn.Module, numbers: Sequence[int], count: int, seed: int | None) -> list[int]:
    """The next `count` tokens: always the likeliest where there is no seed, else drawn at TEMPERATURE.

    The seed fixes one random number for each token, whatever the model: two models that think alike draw the
    same token. Unknown and other special tokens are never given. Raises SlimscopeError where all do not fit.
    """
    if len(numbers) + count > PLACES:
        raise SlimscopeError(f"{len(numbers)} + {count} tokens: a model reads at most {PLACES} at once")
    rng = torch.Generator().manual_seed(seed or 0)
    lots = torch.rand(count, generator=rng, dtype=torch.float64)
    found = list(numbers)
    for lot in lots:
        scores = net(torch.tensor([found]))[0, :, -1].double()
        scores[:4] = -torch.inf
        found.append(int(scores.argmax()) if seed is None else drawn(scores / TEMPERATURE, float(lot)))
    return found[len(numbers) :]


def drawn(scores: Tensor, lot: float) -> int:
    """The token at which the probabilities add up to more than `lot`, a number from 0 to 1.

    >>> drawn(torch.zeros(4, dtype=torch.float64), 0.6)
    2
    """
    sums = scores.softmax(0).cumsum(0)
    return int(torch.searchsorted(sums, lot * float(sums[-1]), right=True).clamp(max=len(sums) - 1))


@torch.inference_mode()
def losses(net: nn.Module, numbers: Sequence[int]) -> list[float]:
    """Minus the logarithm of the probability of each token but the first, in nat."""
    if len(numbers) < 2:
        raise SlimscopeError("how likely a token is shows from the second on: write one more word")
    scores = net(torch.tensor([list(numbers[:-1])]))
    return F.cross_entropy(scores, torch.tensor([list(numbers[1:])]), reduction="none")[0].tolist()
