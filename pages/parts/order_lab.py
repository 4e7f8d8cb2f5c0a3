"""The order lab: the same steps in every order, run live, with bytes and accuracy after each."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from engine.figures import measure
from engine.recipe import orders, technique
from engine.recipe.orders import Reached
from engine.types import Recipe, Step
from pages.parts import cached, figures, session, spoken
from pages.parts.figures import Column, caption

STEPS = {
    "prune 90 %": ("prune_weights", {"sparsity": 0.9}),
    "share 32 values": ("share_weights", {"entries": 32}),
    "round to 5 bits": ("quantize", {"bits": 5}),
    "low rank": ("low_rank", {}),
    "trim": ("trim", {"samples": 500}),
}
FIRST = ["prune 90 %", "share 32 values", "trim"]


def steps(recipe: Recipe) -> dict[str, Step]:
    """Name -> step: the usual ones, and those of a recipe that need no training."""
    mine = [step for step in recipe.live if not technique.get(step.technique).trains]
    usual = {name: technique.step(known, **settings) for name, (known, settings) in STEPS.items()}
    return usual | {f"mine: {spoken.title(step)}": step for step in mine if step not in usual.values()}


def draw(subject: str) -> None:
    """The steps to choose, a switch, and a table of all orders, the smallest file first."""
    data = cached.images(subject)
    if cached.is_large(subject) or data is None or not cached.original(subject).arch.runs:
        st.html(
            caption("Orders are compared on models that run here and have no more than 2 million weights.")
        )
        return
    help = "Up to four steps, of these and of your recipe. Each order is run on the original; what trains is left out."
    known = steps(session.recipe())
    chosen = st.multiselect("Steps", list(known), FIRST, max_selections=orders.MOST, key="orders", help=help)
    help = "Runs every order now: steps, the real file, and accuracy on validation samples."
    if st.toggle("Run every order", key="run-orders", help=help) and chosen:
        st.html(_table(subject, {known[name]: name for name in chosen}))


def _table(subject: str, names: dict[Step, str]) -> str:

    def work() -> dict[str, Any]:
        bundle, data = cached.original(subject), cached.images(subject)
        assert data is not None
        sample = data.validation.stratified(min(measure.sample_size(bundle), 1000))
        with st.spinner("Running every order ...", show_time=True):
            found = {each.steps: each for each in orders.every_order(bundle, list(names), data, sample)}
        return {"rows": _rows(found, names), "n": len(sample)}

    told = cached.answer(f"orders {subject} {Recipe(tuple(names)).key}", work)
    assert told is not None
    table = pd.DataFrame(told["rows"])
    return figures.table(table, {name: Column(name) for name in table}) + caption(
        f"Bytes of the real file, and accuracy or perplexity on {told['n']:,} validation samples, after each step; the smallest first."
    )


def _rows(found: dict[tuple[Step, ...], Reached], names: dict[Step, str]) -> list[dict[str, str]]:
    """A row for each order that could be done to its end, or why not."""
    ends = [each for each in found.values() if len(each.steps) == len(names) or each.problem]
    ends.sort(key=lambda each: each.size.value if each.size else float("inf"))
    return [
        {
            "order": " → ".join(names[step] for step in each.steps),
            **{
                f"after step {n}": _told(found[each.steps[:n]]) if n <= len(each.steps) else ""
                for n in range(1, len(names) + 1)
            },
        }
        for each in ends
    ]


def _told(reached: Reached) -> str:
    if reached.size is None or reached.accuracy is None:
        return reached.problem
    return f"{int(reached.size.value):,} B, {figures.text(reached.accuracy.value, reached.accuracy.unit)}"
