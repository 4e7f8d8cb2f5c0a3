"""What is kept of a net's outputs: the class of each sample, or what it thought of each next token."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.data.samples import Samples
from engine.types import SlimscopeError

LOSS, TOP = 0, 1  # of tokens, along the second axis


class NotNumbers(SlimscopeError):
    """What a net answers is NaN."""


def of(outputs: Tensor, samples: Samples) -> Tensor:
    """Of outputs (n, classes) the likeliest classes (n,) int64.

    Where a text is read on, of scores (n, tokens, places): (n, 2, places) float32, the loss of the token that
    came in nat, minus the logarithm of its probability, and the number of the likeliest token.

    >>> samples = Samples(torch.zeros(1, 1).long(), torch.tensor([[1]]), letters=torch.ones(2))
    >>> of(torch.tensor([[[3.0], [3.0]]]), samples).tolist()
    [[[0.6931471824645996], [0.0]]]
    """
    if not samples.is_read_on:
        return outputs.argmax(1)
    loss = F.cross_entropy(outputs, samples.labels, reduction="none")
    return torch.stack([loss, outputs.argmax(1).to(loss.dtype)], 1)


def restored(saved: list) -> Tensor:  # type: ignore[type-arg]
    """Answers that were kept as lists of numbers."""
    of_tokens = bool(saved) and isinstance(saved[0], list)
    return torch.tensor(saved, dtype=torch.float32 if of_tokens else torch.int64)


def likeliest(answers: Tensor) -> Tensor:
    """The likeliest class (n,), or the likeliest token at each place (n, places)."""
    return answers[:, TOP].to(torch.int64) if are_of_tokens(answers) else answers


def are_of_tokens(answers: Tensor) -> bool:
    return answers.dim() == 3


def checked(outputs: Tensor) -> Tensor:
    """The same outputs (n, ...). Raises NotNumbers where some are NaN: their largest says nothing.

    >>> checked(torch.tensor([[1.0, 2.0]])).argmax(1)
    tensor([1])
    """
    fail_at(wrong(outputs), len(outputs))
    return outputs


def wrong(outputs: Tensor) -> int:
    """How many samples have outputs (n, ...) that are NaN."""
    return int((outputs.isnan().flatten(1).any(1) if outputs.dim() > 1 else outputs.isnan()).sum())


def fail_at(bad: int, n: int) -> None:
    """Raise NotNumbers where a sample is bad."""
    if bad:
        raise NotNumbers(
            f"the model's outputs are not numbers for {bad:,} of {n:,} samples: no accuracy is measured"
        )
