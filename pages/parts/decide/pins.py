"""Up to five points side by side: size, accuracy, counts; latency and classes on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from html import escape

import streamlit as st

from engine.figures import measure
from engine.recipe import front
from engine.types import Figure, SlimscopeError
from pages.parts import cached, figures
from pages.parts.decide import points
from pages.parts.decide.points import Row, View

MOST = 5
COUNTS = {"sparsity": "zero weights", "parameters": "parameters", "multiply-adds": "MACs"}


def pinned(view: View) -> list[str]:
    """The recipes that are pinned, in the order in which they were."""
    return [key for key in st.session_state.get(_key(view), []) if key in view.of]


def _key(view: View) -> str:
    return f"pins-{view.subject}"


def toggle(view: View, key: str) -> None:
    """Pin a recipe, or take its pin away; a sixth takes the place of the first."""
    now = pinned(view)
    now = [one for one in now if one != key] if key in now else [*now, key][-MOST:]
    st.session_state[_key(view)] = now


def draw(view: View, advice: front.Advice | None) -> list[str]:
    """What is pinned, and the comparison; what is compared. Until something is pinned, what the page speaks of is."""
    st.subheader("Side by side", anchor=False)
    st.session_state[_key(view)] = pinned(view)
    st.multiselect(
        "Pinned",
        sorted(view.of, key=lambda key: (view.of[key]["technique"], view.of[key]["bytes"])),
        key=_key(view),
        format_func=points.label,
        max_selections=MOST,
        placeholder=f"Pin up to {MOST}: click on the plot, or choose here",
        label_visibility="collapsed",
        help="The recipes that are compared below",
    )
    keys = pinned(view) or spoken_of(view, advice)
    with st.container(horizontal=True):
        is_timed = st.toggle(
            "Latency", key="compare-latency", help="Times every form of each on this server: some seconds"
        )
        by_class = st.toggle(
            "Each class", key="compare-classes", help="Accuracy of each class on test samples"
        )
    with st.spinner("Working it out ...", show_time=True):
        st.html(table(view, keys, is_timed))
    if not pinned(view):
        st.caption(
            "Nothing is pinned: the original, your recipe, the recommended one and the runner-up are compared."
        )
    if by_class:
        classes(view, keys)
    return keys


def spoken_of(view: View, advice: front.Advice | None) -> list[str]:
    """The original, the recipe in hand, what is recommended and the runner-up, as far as there are such."""
    rows = [view.original, view.here, advice and advice.best, advice and advice.second]
    return list(dict.fromkeys(row["recipe"] for row in rows if row))


# ---------------------------------------------------------------- the table


def table(view: View, keys: Sequence[str], is_timed: bool) -> str:
    """One row for each recipe, as HTML."""
    titles = [
        "recipe",
        "file",
        f"{view.what} on validation",
        "against the original",
        *COUNTS.values(),
    ]
    titles += ["latency"] if is_timed else []
    head = "".join(f"<th>{figures.explained(title)}</th>" for title in titles)
    body = "".join(_row(view, key, is_timed) for key in keys)
    return f'<div class="scroll"><table class="slim-table" data-table="compare"><tr>{head}</tr>{body}</table></div>'


def _row(view: View, key: str, is_timed: bool) -> str:
    row = view.of[key]
    cells = [_size(view, row), points.accuracy(row), points.lost(row) if row["technique"] else "reference"]
    counted = counts(view.subject, key)
    cells += [_said(counted.get(name)) for name in COUNTS]
    timed = f'<td class="text">{_latency(view.subject, key)}</td>' if is_timed else ""
    mark = ' class="here"' if key == view.key else ""
    name = f'<td class="text">{escape(points.label(key))}</td>'
    return f"<tr{mark}>{name}{''.join(f'<td>{cell}</td>' for cell in cells)}{timed}</tr>"


def _size(view: View, row: Row) -> str:
    ratio = cached.dense_bytes(view.subject).value / row["bytes"]
    return f"{points.size(row)} ({figures.text(ratio, 'times')})"


def counts(subject: str, key: str) -> dict[str, Figure]:
    """Zero weights, parameters and multiply-adds by name, as far as they can be had without training."""
    found: dict[str, Figure] = {}
    with suppress(SlimscopeError):
        found |= cached.counted(subject, key)
        found["multiply-adds"] = cached.macs(subject, key)
    return found


def _said(figure: Figure | None) -> str:
    """The value; pointing at it says how it was obtained."""
    if figure is None:
        return "-"
    how = escape(f"{figure.basis}: {figure.how}", quote=True)
    return f'<span title="{how}">{escape(figures.text(figure.value, figure.unit))}</span>'


def _latency(subject: str, key: str) -> str:
    """The fastest form of the model, and how it compares with the original in the same runtime."""
    if cached.is_large(subject):
        return "in the tab Ship it"
    try:
        rows = [row for row in cached.latency(subject, key, 1) if row.time]
    except SlimscopeError:
        return "-"
    best = min(rows, key=lambda row: row.time.value if row.time else 0.0)
    ratio = f", {figures.text(best.speed_up.value, 'times')}" if best.speed_up else ""
    return f"{_said(best.time)}{ratio}<br>{escape(best.form)}, {escape(best.runtime)}"


def classes(view: View, keys: Sequence[str]) -> None:
    """Accuracy of each class with its interval, a column for each recipe, on test samples."""
    names = cached.classes(view.subject)
    columns: list[Callable[[int], str]] = []
    titles, n = [], 0
    for key in keys:
        with suppress(SlimscopeError):
            answers = cached.answers_so_far(view.subject, key)
            if answers is None:
                continue
            sample, before, now = answers
            if not sample.is_labelled:
                return st.caption("There are no classes: this model says how a text goes on.")
            n = len(sample)
            columns.append(_of_class(measure.per_class(before, now, sample.labels, names).to_dict("records")))
            titles.append(points.label(key))
    if not columns:
        return st.caption("No answers are known yet: the tab What changed measures them.")
    head = "".join(f"<th>{escape(title)}</th>" for title in ("class", *titles))
    body = "".join(
        f"<tr><td>{escape(name)}</td>{''.join(f'<td>{column(i)}</td>' for column in columns)}</tr>"
        for i, name in enumerate(names)
    )
    st.html(
        f'<div class="scroll"><table class="slim-table" data-table="classes"><tr>{head}</tr>{body}</table></div>'
    )
    st.caption(f"On {n:,} test samples, which choose nothing; Wilson's 95 % interval.")


def _of_class(rows: Sequence[dict[str, object]]) -> Callable[[int], str]:
    def cell(i: int) -> str:
        share, low, high = (float(str(rows[i][name])) for name in ("after", "after low", "after high"))
        return "-" if share != share else f"{100 * share:.1f} % ({100 * low:.1f} to {100 * high:.1f})"

    return cell
