"""What classes have in common for the teacher: mean softened answers for each true class, which blur as T rises."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

import streamlit as st
import torch
from torch import Tensor

from engine.figures import measure, softening
from engine.net import zoo
from engine.net.train import together
from engine.types import Bundle
from pages.parts import cached, figures, panel

SAMPLES = 500
MOST = 20  # classes that a matrix is drawn for
SHORT = 3  # letters of a class that stand side by side above their columns
PLACE = "alike"  # `data-share="alike/number of the cell"`, and the `data-text` of the words below


def draw(subject: str, teachers: Sequence[Bundle], temperature: float) -> Callable[[float], dict[str, Any]]:
    """The matrix at the present temperature; what the browser shows of it at another stop of the slider."""
    names, held = cached.classes(subject), cached.images(subject)
    if len(names) > MOST or held is None or not held.validation.is_labelled:
        return lambda stop: {"shares": {}, "texts": {}}
    stops = panel.sliders("distill", teachers[0]).get("temperature", [])
    known = _matrices(subject, teachers, (*stops, temperature))
    who = "teacher" if len(teachers) == 1 else "teachers"
    st.subheader(f"Which classes are alike, to the {who}", anchor=False)
    st.html(drawn(names, known[temperature]))
    words = f'<span data-text="{PLACE}">{escape(said(names, known[temperature], temperature))}</span>'
    how = (
        f"Each row is the mean of the softened answers to the validation samples of one true class, in per cent, of "
        f"{min(SAMPLES, len(held.validation)):,} samples in all. A cell is as dark as the root of its share."
    )
    st.html(f'<p class="caption">{words} {how}</p>')
    return lambda stop: ahead(names, known[stop], stop)


def _matrices(subject: str, teachers: Sequence[Bundle], temperatures: Sequence[float]) -> dict[float, Tensor]:
    """Temperature -> what classes have in common, by the mean shares of all teachers."""

    def work() -> dict[str, Any]:
        held = cached.images(subject)
        assert held is not None
        samples = held.validation.stratified(SAMPLES)
        scores = torch.stack([measure.logits(zoo.build(each), samples) for each in teachers])
        known = scores if len(teachers) > 1 else scores[0]
        found = (softening.similarity(together(known, t), samples.labels, t) for t in temperatures)
        return {"matrices": [matrix.tolist() for matrix in found]}

    found = cached.answer(f"alike {subject} {[each.fingerprint for each in teachers]} {temperatures}", work)
    assert found is not None
    return dict(zip(temperatures, map(torch.tensor, found["matrices"]), strict=True))


def drawn(names: Sequence[str], matrix: Tensor) -> str:
    """One row for each true class, one column for each answer; `precompute.js` finds cells by `data-share`."""
    head = "upright" if max(map(len, names)) > SHORT else ""
    cells = ["<span></span>", *(f'<span class="{head}">{escape(name)}</span>' for name in names)]
    for i, name in enumerate(names):
        cells.append(f'<span class="class">{escape(name)}</span>')
        for j, share in enumerate(matrix[i].tolist()):
            place, shade = f"{PLACE}/{i * len(names) + j}", f"--share:{100 * math.sqrt(share):.1f}%"
            cells.append(f'<span class="shade" data-share="{place}" style="{shade}">{100 * share:.1f}</span>')
    columns = f"grid-template-columns:auto repeat({len(names)}, minmax(0, 1fr))"
    return f'<div class="bars alike" style="{columns}">{"".join(cells)}</div>'


def said(names: Sequence[str], matrix: Tensor, temperature: float) -> str:
    """Which two classes are most alike, in a sentence."""
    true, wrong = softening.most_alike(matrix)
    most, own = (figures.text(float(matrix[true, i]), "share") for i in (wrong, true))
    return (
        f"At temperature {temperature:g} the largest share of a wrong class is {most}, for {names[wrong]} where the truth "
        f"is {names[true]}; {names[true]} itself has {own}."
    )


def ahead(names: Sequence[str], matrix: Tensor, temperature: float) -> dict[str, Any]:
    """Shares and words at a stop of the slider, for the browser."""
    shares = [round(share, 5) for share in matrix.flatten().tolist()]
    return {"shares": {PLACE: shares}, "texts": {PLACE: said(names, matrix, temperature)}}
