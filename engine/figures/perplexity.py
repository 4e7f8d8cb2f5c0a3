"""Perplexity with its interval, and the difference of two models on the same windows: measured figures."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.data.samples import Samples
from engine.figures.scores import PERPLEXITY, RELATIVE
from engine.net.answers import LOSS, TOP
from engine.types import Basis, Figure, SlimscopeError

DRAWS, SEED = 2000, 1979
ENDS = torch.tensor([0.025, 0.975], dtype=torch.float64)


def of_answers(answers: Tensor) -> Figure:
    """The exponential of the mean loss of all tokens, from answers (n, 2, places).

    A model that gives each of k tokens the same probability has perplexity k.

    >>> answers = torch.stack([torch.full((1, 2), math.log(8.0)), torch.zeros(1, 2)], 1)
    >>> round(of_answers(answers).value, 4)
    8.0
    """
    each = _means(answers)
    low, high = _bootstrap(each)
    how = f"exp of the mean loss of {_said(answers)}; 95 % bootstrap interval over windows"
    value = _exp(float(each.mean()))
    return Figure("perplexity", value, PERPLEXITY, Basis.MEASURED, how, (_exp(low), _exp(high)))


def change(before: Tensor, after: Tensor) -> Figure:
    """By which share the perplexity is higher than before, on the same windows.

    Windows are drawn together with what both models make of them, so that what is hard for both drops out.
    (Efron 1979, Annals of Statistics 7, 1)
    """
    each = _means(after) - _means(before)
    low, high = _bootstrap(each)
    how = f"after / before - 1, on the same {_said(after)}; 95 % paired bootstrap interval over windows"
    value = _expm1(float(each.mean()))
    return Figure("perplexity change", value, RELATIVE, Basis.MEASURED, how, (_expm1(low), _expm1(high)))


def share_of_loss(whole: Tensor, reference: Tensor, after: Tensor) -> Figure:
    """How much of the perplexity that a reference loses another model loses, on the same windows.

    (perplexity after - of the whole model) / (of the reference - of the whole model): 0 loses nothing, 1 as
    much. Windows are drawn together with what all three models make of them. Raises SlimscopeError where the
    reference loses nothing.

    >>> models = [torch.tensor([[[math.log(p)], [0.0]]]) for p in (10.0, 20.0, 13.0)]
    >>> round(share_of_loss(*models).value, 4)
    0.3
    """
    each = torch.stack([_means(whole), _means(reference), _means(after)])
    rows = torch.randint(each.shape[1], (DRAWS, each.shape[1]), generator=torch.Generator().manual_seed(SEED))
    value, drawn = _share(each.mean(1, keepdim=True)), _share(each[:, rows].mean(2))
    if float(each[1].mean()) <= float(each[0].mean()):
        raise SlimscopeError("the reference loses no perplexity: there is nothing to have a share of")
    low, high = torch.quantile(drawn, ENDS).tolist()
    how = f"(after - whole) / (reference - whole), on {_said(after)}; 95 % paired bootstrap interval"
    return Figure("share of the loss", float(value), "share", Basis.MEASURED, how, (low, high))


def _share(losses: Tensor) -> Tensor:
    """Of mean losses (3, draws) in nat: what the last model loses, over what the one before it loses."""
    whole, reference, after = losses
    return torch.expm1(after - whole) / torch.expm1(reference - whole)


def bits_per_character(answers: Tensor, samples: Samples) -> Figure:
    """The loss of all tokens in bit over the letters that they stand for."""
    assert samples.letters is not None
    letters = samples.letters[samples.labels].sum(1, dtype=torch.float64)  # of each window
    losses = answers[:, LOSS].sum(1, dtype=torch.float64) / math.log(2)
    low, high = _bootstrap(losses, letters)
    value = float(losses.sum() / letters.sum())
    told = f"loss in bit of {_said(answers)} / their {int(letters.sum()):,} letters"
    how = f"{told}; 95 % bootstrap interval over windows"
    return Figure("bits per character", value, "bits", Basis.MEASURED, how, (low, high))


def agreement(before: Tensor, after: Tensor) -> Figure:
    """Share of places at which both models think the same token the likeliest."""
    each = (before[:, TOP] == after[:, TOP]).to(torch.float64).mean(1)
    how = f"same likeliest token as the original, of {_said(after)}; 95 % bootstrap interval over windows"
    return Figure("same likeliest token", float(each.mean()), "share", Basis.MEASURED, how, _bootstrap(each))


def _said(answers: Tensor) -> str:
    n, _, places = answers.shape
    return f"{n * places:,} tokens in {n:,} windows"


def _means(answers: Tensor) -> Tensor:
    """The mean loss of each window, (n,) float64."""
    return answers[:, LOSS].mean(1, dtype=torch.float64)


def _bootstrap(values: Tensor, weights: Tensor | None = None) -> tuple[float, float]:
    """The 95 % interval of the mean of values (n,), or of their sum over that of weights, by drawing anew."""
    rng = torch.Generator().manual_seed(SEED)
    rows = torch.randint(len(values), (DRAWS, len(values)), generator=rng)
    below = torch.ones_like(values) if weights is None else weights
    means = values[rows].sum(1) / below[rows].sum(1)
    low, high = torch.quantile(means, ENDS).tolist()
    return low, high


def _exp(loss: float) -> float:
    return math.exp(min(loss, 700.0))


def _expm1(change: float) -> float:
    return math.expm1(min(change, 700.0))
