"""Scores: what a model is ranked by, higher is better, whatever its task.

Where samples have classes a score is the accuracy, a share from 0 to 1. Where a text is read on it is minus
the loss per token in nat, which lies below 0; the perplexity is the exponential of the loss. So 0.01 of
score is one point of accuracy, or 1 % of perplexity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from engine.types import Figure

PERPLEXITY, RELATIVE = "perplexity", "relative"  # units: of a perplexity, and of how much another is higher


def of(figure: Figure) -> tuple[float, float, float]:
    """The score of an accuracy or a perplexity, or of a change of either, and its interval: value, low, high.

    >>> from engine.types import Basis
    >>> found = of(Figure("perplexity", math.e, PERPLEXITY, Basis.MEASURED, "one window", (1.0, math.e**2)))
    >>> [round(each, 6) + 0.0 for each in found]
    [-1.0, -2.0, 0.0]
    """
    low, high = figure.spread or (figure.value, figure.value)
    match figure.unit:
        case "perplexity":
            return -math.log(figure.value), -math.log(high), -math.log(low)
        case "relative":
            return -math.log1p(figure.value), -math.log1p(high), -math.log1p(low)
    return figure.value, low, high


def is_loss(score: float) -> bool:
    """Whether a score is minus a loss: no accuracy lies below 0, and no loss of a text is 0."""
    return score < 0


def name(score: float) -> str:
    """What is measured.

    >>> name(-4.6), name(0.98)
    ('perplexity', 'accuracy')
    """
    return "perplexity" if is_loss(score) else "accuracy"


def value(score: float) -> float:
    """The number that people read: a share, or a perplexity."""
    return math.exp(min(-score, 700.0)) if is_loss(score) else score


def text(score: float, digits: int = 1) -> str:
    """A score as people read it: per cent, or a perplexity.

    >>> text(0.98214), text(-math.log(97.7))
    ('98.2 %', '97.7')
    """
    if is_loss(score):
        return f"{value(score):,.{digits}f}" if score > -9 else f"{value(score):.1e}"
    return f"{100 * score:.{digits}f} %"


def interval(low: float, high: float, digits: int = 1) -> str:
    """An interval of scores, the smaller number first.

    >>> interval(0.9, 0.92), interval(-math.log(99), -math.log(97))
    ('90.0 to 92.0', '97.0 to 99.0')
    """
    ends = sorted((low, high), key=value)
    return " to ".join(text(end, digits).removesuffix(" %") for end in ends)


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a sweep with its score as people read it: a loss as a perplexity, and changes as shares of it.

    >>> row = readable({"accuracy": -1.0, "low": -2.0, "high": -0.5, "change": -0.1, "n": 20})
    >>> {name: round(value, 2) for name, value in row.items()}
    {'perplexity': 2.72, 'low': 1.65, 'high': 7.39, 'change': 0.11, 'n': 20}
    """
    if row["accuracy"] is None or not is_loss(row["accuracy"]):
        return dict(row)
    found: dict[str, Any] = {}
    for key, at in row.items():
        match key:
            case "accuracy":
                found["perplexity"] = value(at)
            case "low" | "high":
                found[key] = value(row["high" if key == "low" else "low"])
            case "change":
                found[key] = relative(at)
            case "change_low" | "change_high":
                found[key] = relative(row["change_high" if key == "change_low" else "change_low"])
            case _:
                found[key] = at
    return found


def relative(change: float) -> float:
    """How much higher the perplexity is after a change of the score, as a share.

    >>> round(relative(-math.log(1.5)), 6)
    0.5
    """
    return math.expm1(-change)
