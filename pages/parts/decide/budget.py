"""What may it cost? One recipe for a budget, the runner-up, and the reason in a sentence."""

from __future__ import annotations

import math
from typing import Literal

import streamlit as st

from engine.figures import scores
from engine.recipe import front, migrate
from pages.parts import figures, session
from pages.parts.decide import points
from pages.parts.decide.points import Row, View

LOST: Literal["lost"] = "lost"
BYTES: Literal["bytes"] = "bytes"
MODES = {LOST: "lose at most", BYTES: "take at most"}
UNITS = {LOST: "points of accuracy", BYTES: "KB of file"}
PERPLEXITY = "% more perplexity"
FIRST_LOSS = 1.0  # points, or per cent
FIRST_SHARE = 0.1  # of the original's file
REASONS = {
    "small": "the smallest file that keeps to it",
    "tie": "the smallest file that can't be told from the original",
    "accurate": "the best file that keeps to it",
}


def draw(view: View) -> tuple[front.Budget, front.Advice | None]:
    """The question, what is recommended, and a button that makes it the recipe."""
    budget = ask(view)
    advice = front.recommended(view.rows, budget)
    st.markdown(answer(view, budget, advice))
    if advice is not None:
        key = advice.best["recipe"]
        st.button(
            "This is my recipe" if key == view.key else "Make it my recipe",
            key="take-recommended",
            type="primary",
            icon=":material/check:" if key == view.key else ":material/add_task:",
            disabled=key == view.key,
            on_click=lambda: session.put(migrate.read(key)),
        )
    return budget, advice


def ask(view: View) -> front.Budget:
    """The budget: bytes, or loss of accuracy."""
    kind = st.segmented_control(
        "The file may",
        list(MODES),
        default=LOST,
        required=True,
        format_func=MODES.get,
        key="budget-kind",
        help="What you can spare decides what is recommended: accuracy or perplexity on validation samples, or bytes of the file",
        persist_state="session",
    )
    if kind == BYTES:
        first = (
            max(1.0, float(round(FIRST_SHARE * view.original["bytes"] / 1000))) if view.original else 100.0
        )
        most = st.number_input(
            UNITS[BYTES],
            0.1,
            None,
            first,
            key=f"budget-bytes-{view.subject}",
            persist_state="session",
            format="%g",
        )
        return front.Budget(BYTES, 1000 * most)
    unit, key = (PERPLEXITY, "budget-perplexity") if view.is_loss else (UNITS[LOST], "budget-lost")
    most = st.number_input(unit, 0.0, 100.0, FIRST_LOSS, 0.1, key=key, persist_state="session", format="%g")
    return front.Budget(LOST, math.log1p(most / 100) if view.is_loss else most / 100)


def question(budget: front.Budget, is_loss: bool = False) -> str:
    """The budget in words; `is_loss` where scores are minus a loss.

    >>> question(front.Budget("bytes", 100_000)), question(front.Budget("lost", 0.01))
    ('a file of at most 100 KB', 'a loss of at most 1 point of accuracy')
    """
    if budget.kind == BYTES:
        return f"a file of at most {budget.most / 1000:g} KB"
    if is_loss:
        return f"a perplexity that is at most {100 * scores.relative(-budget.most):.3g} % higher"
    most = f"{100 * budget.most:g}"
    return f"a loss of at most {most} {'point' if most == '1' else 'points'} of accuracy"


def answer(view: View, budget: front.Budget, advice: front.Advice | None) -> str:
    """What is recommended, its figures, the reason, and how the best of another technique compares."""
    if advice is None:
        if not view.rows:
            return "Nothing is measured yet."
        smallest = min(view.rows, key=lambda row: row["bytes"])
        return f"Nothing that is known makes {question(budget, scores.is_loss(smallest['accuracy']))}: the smallest takes {points.size(smallest)}."
    best = advice.best
    said = f"**{points.label(best['recipe'])}**: {points.size(best)}, {points.lost(best)}; {REASONS[advice.reason]}."
    if advice.second is None:
        return f"{said} No other technique keeps to it."
    second = advice.second
    return f"{said} The runner-up, {points.label(second['recipe'])}, {beside(second, best)}."


def beside(row: Row, best: Row) -> str:
    """How a row compares with the recommended one: "is 12 % larger, with 0.3 points lost"."""
    ratio = row["bytes"] / best["bytes"]
    if ratio >= 2:
        size = f"is {figures.text(ratio, 'times').removesuffix('x')} times as large"
    elif round(100 * ratio) == 100:
        size = "is as large"
    else:
        size = f"is {abs(100 * (ratio - 1)):.0f} % {'larger' if ratio > 1 else 'smaller'}"
    return f"{size}, with {points.lost(row)}"
