"""Logits, divided by a temperature, become shares: teacher and student mirrored, and what follows from the shares."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import torch
from torch import Tensor

from engine.figures import measure, softening
from engine.net import train
from pages.parts import charts, figures
from pages.parts.lesson import Lesson

HEADS = ("/ T", "share", "")
COLOURS = (charts.KEPT, charts.CHANGED)


def at(scores: Tensor, temperature: float) -> Tensor:
    """Logits (classes,) of a model as they are; of an ensemble (teachers, classes) those of its mean shares."""
    return scores if scores.dim() == 1 else train.together(scores.unsqueeze(1), temperature)[0]


def drawn(names: Sequence[str], scores: Sequence[Tensor], truth: int, temperature: float) -> str:
    """One row for each class, the teacher (and a student) with logit, logit / T, share and bar.

    Each of `scores` is (classes,), or (teachers, classes) of an ensemble, whose logits are T times the logarithms
    of its shares. `stage.js` finds bars by `data-share` and numbers by `data-text`, both `set/class`.
    """
    sides = [_side(number, own, temperature) for number, own in enumerate(scores)]
    rows = [_row(_heads(0, scores[0]), "", _heads(1, scores[1]) if len(sides) > 1 else [])]
    for i, name in enumerate(names):
        label = f"<b>{escape(name)} &#10003;</b>" if i == truth else escape(name)
        rows.append(_row(sides[0][i], label, sides[1][i] if len(sides) > 1 else []))
    return f'<div class="bars softened">{"".join(rows)}</div>'


def _heads(number: int, scores: Tensor) -> list[str]:
    *others, _ = ("logit" if scores.dim() == 1 else "T log share", *HEADS)
    who = "student" if number else "teacher" if scores.dim() == 1 else f"{len(scores)} teachers"
    return [*(f"<b>{head}</b>" for head in others), f"<b>{who}</b>"]


def _row(left: list[str], label: str, right: list[str]) -> str:
    """Cells from the outside to the class in the middle, and back to the outside."""
    return "".join(
        (*left, f'<span class="class">{label}</span>', *(reversed(right) if right else ["<span></span>"] * 4))
    )


def _side(number: int, scores: Tensor, temperature: float) -> list[list[str]]:
    now = at(scores, temperature)
    shares, moves = train.softened(now, temperature).tolist(), scores.dim() > 1
    turn = ' style="transform:scaleX(-1)"' if number == 0 else ""
    cells = []
    for i, (score, share) in enumerate(zip(now.tolist(), shares, strict=True)):
        moving = f' data-text="logit/{number}/{i}"' if moves else ""
        place, width = f"{number}/{i}", f"width:{100 * share:.2f}%;background:{COLOURS[number]}"
        cells.append(
            [
                f"<span{moving}>{figures.plain(score, '.1f')}</span>",
                f'<span data-text="{place}">{figures.plain(score / temperature, ".1f")}</span>',
                f'<span data-share="{place}">{100 * share:.2f} %</span>',
                f'<div class="track"{turn}><div class="fill" data-share="{place}" style="{width}"></div></div>',
            ]
        )
    return cells


def texts(scores: Sequence[Tensor], temperature: float) -> dict[str, str]:
    """What the numbers say at a temperature, by `data-text`."""
    known = [at(own, temperature) for own in scores]
    scaled = dict[str, str]()
    for number, own in enumerate(known):
        for i, score in enumerate(own.tolist()):
            scaled[f"{number}/{i}"] = figures.plain(score / temperature, ".1f")
            if scores[number].dim() > 1:
                scaled[f"logit/{number}/{i}"] = figures.plain(score, ".1f")
        entropy, ratio = measure.entropy(own, temperature), softening.top_two(own, temperature)
        scaled[f"entropy/{number}"] = figures.text(entropy.value, entropy.unit)
        scaled[f"ratio/{number}"] = figures.text(ratio.value, ratio.unit)
    if len(scores) > 1:
        gap = measure.kl(known[0], known[1], temperature)
        scaled["kl"] = figures.text(gap.value, gap.unit)
    return scaled


def numbers(scores: Sequence[Tensor], temperature: float) -> str:
    """Entropy, ratio of the top two and KL in a line that follows the slider."""
    said = texts(scores, temperature)

    def of(key: str) -> str:
        places = [f"{key}/{number}" for number in range(len(scores))]
        return " | ".join(f'<b data-text="{place}">{said[place]}</b>' for place in places)

    gap = f', KL <b data-text="kl">{said["kl"]}</b>' if "kl" in said else ""
    return f'<p class="caption">Entropy {of("entropy")}, first class over second {of("ratio")}{gap}.</p>'


def ahead(scores: Sequence[Tensor], temperature: float) -> dict[str, Any]:
    """Bars and numbers at a stop of the slider, for the browser."""
    shares = train.softened(torch.stack([at(own, temperature) for own in scores]), temperature)
    return {"shares": dict(zip("01", shares.tolist(), strict=False)), "texts": texts(scores, temperature)}


def lesson(scores: Sequence[Tensor], temperature: float) -> Lesson:
    """Who comes second, and how much an answer still says at this temperature."""
    teacher = scores[0]
    most, entropy = math.log2(teacher.shape[-1]), measure.entropy(at(teacher, temperature), temperature).value
    plain, now = (
        float(train.softened(at(teacher, t), t).sort(descending=True).values[1]) for t in (1.0, temperature)
    )
    return Lesson(
        "Wrong classes carry structure: how the teacher spreads the rest of its confidence says what is alike. The second "
        f"class has {figures.text(plain, 'share')} at temperature 1, and {figures.text(now, 'share')} here.",
        f"More temperature is not more knowledge: {entropy:.2f} of {most:.2f} bit here, where all would be alike. And it is "
        "1 again when the student is used.",
        entropy > 0.95 * most,
    )
