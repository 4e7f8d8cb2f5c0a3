"""One page for a stakeholder: question, recommendation, figures, plot, how it was measured, and the command.

A file that stands by itself: nothing in it is loaded, and no script runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape

import streamlit as st

from engine.figures import measure, scores
from engine.jobs import scans
from engine.recipe import front, migrate
from engine.types import Basis, SlimscopeError
from pages.parts import cached, figures, ship, visitor
from pages.parts.decide import budget as budgets
from pages.parts.decide import pins, points, svg
from pages.parts.decide.points import View

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 800px; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 1.4rem 0 .4rem; } .date { opacity: .75; margin: 0; }
table { border-collapse: collapse; width: 100%; font-size: .85rem; } th, td { text-align: left; padding: .25rem .5rem; border-bottom: 1px solid #ccc; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f3f3f3; padding: .6rem; } .answer { font-size: 1.1rem; }
.legend span { margin-right: 1rem; white-space: nowrap; } .legend i { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .3em; }
svg { width: 100%; height: auto; } @media print { body { margin: 0; } }
"""
BASES = {"file": Basis.MEASURED, "validation accuracy": Basis.MEASURED, "change": Basis.MEASURED}


def button(view: View, budget: front.Budget, advice: front.Advice | None, compared: Sequence[str]) -> None:
    """The download; nothing where nothing is recommended."""
    if advice is None:
        return
    title, model = visitor.title(cached.parts(view.subject)[0]), cached.parts(view.subject)[0]
    command = ship.command(view.subject, migrate.read(advice.best["recipe"]))  # a download has no session
    st.download_button(
        "Report (.html)",
        lambda: page(view, budget, advice, compared, title, command),
        f"slimscope-{model}.html",
        "text/html",
        on_click="ignore",
        icon=":material/description:",
        key="get-report",
        help="One page for somebody who was not here: the question, the answer, its figures, the plot, the command",
    )


def page(
    view: View, budget: front.Budget, advice: front.Advice, compared: Sequence[str], title: str, command: str
) -> str:
    """The report as HTML text."""
    best, second = advice.best, advice.second
    heading = f"Compressing {title}"
    rows = [view.original, best, second, view.here, *(view.of[key] for key in compared)]
    keys = list(dict.fromkeys(row["recipe"] for row in rows if row))
    how = "".join(f"<li><b>{escape(name)}</b>: {escape(text)}.</li>" for name, text in scans.HOW.items())
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{escape(heading)}, {view.measured}</title><style>{STYLE}</style></head><body>
<h1>{escape(heading)}</h1><p class="date">Points measured until {view.measured} with slimscope, n = {view.n:,} validation samples</p>
<h2>Question</h2><p>Which recipe is best with {budgets.question(budget)}?</p>
<h2>Recommended</h2><p class="answer">{_bold(budgets.answer(view, budget, advice))}</p>
<h2>Figures</h2>{table(view, keys, best["recipe"])}{tested(view.subject, best["recipe"])}
<h2>All recipes that were measured</h2>{svg.picture(view, points.marks(view, advice, "present recipe"))}
<p>Pale: another recipe is as small and as accurate. Lines: 95 % intervals.</p>
<h2>How this was measured</h2><ul>{how}<li><b>zero weights, parameters, MACs</b>: counted on the tensors; MACs are multiply-adds for one input.</li>
<li>Validation samples choose; test samples only report.</li></ul>
<h2>The same file again</h2><pre>{escape(command)}</pre>
</body></html>
"""


def _bold(text: str) -> str:
    """The sentence of the page, whose markdown is two stars around a name."""
    return re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", escape(text))


def table(view: View, keys: Sequence[str], best: str) -> str:
    """A row for each recipe, that of `best` in bold, a column for each figure with its basis."""
    said = [name.replace("accuracy", view.what) for name in BASES]
    titles = ["recipe", *(f"{name} ({basis})" for name, basis in zip(said, BASES.values(), strict=True)), "n"]
    titles += [f"{name} ({Basis.COUNTED})" for name in pins.COUNTS.values()]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(_row(view, key, "b" if key == best else "span") for key in keys)
    return f"<table><tr>{head}</tr>{body}</table>"


def _row(view: View, key: str, tag: str) -> str:
    row, counted = view.of[key], pins.counts(view.subject, key)
    spread = f"({scores.interval(row['low'], row['high'], 2)})"
    cells = [points.label(key), points.size(row), f"{scores.text(row['accuracy'], 2)} {spread}"]
    cells += [points.lost(row) if row["technique"] else "reference", f"{row['n']:,}"]
    for name in pins.COUNTS:
        figure = counted.get(name)
        cells.append("-" if figure is None else figures.text(figure.value, figure.unit))
    return "<tr>" + "".join(f"<td><{tag}>{escape(cell)}</{tag}></td>" for cell in cells) + "</tr>"


def tested(subject: str, key: str) -> str:
    """Test accuracy of a recipe, which was not used to choose it; nothing where it can't be had at once."""
    try:
        answers = None if cached.is_large(subject) else cached.answers_so_far(subject, key)
    except SlimscopeError:
        return ""
    if answers is None:
        return ""
    sample, before, now = answers
    figure, change = (
        measure.accuracy_of(now, sample.labels),
        measure.paired_difference(before, now, sample.labels),
    )
    return (
        f"<p>On {len(sample):,} test samples, which chose nothing: {figure.name} {figures.text(figure.value, figure.unit)} "
        f"({figures.interval(figure)}), {figures.points(change, len(sample))} against the original (measured).</p>"
    )
