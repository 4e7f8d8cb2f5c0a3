"""The header's four figures, of the whole recipe: two are known at once, two must be measured."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from engine.figures import measure
from engine.types import SlimscopeError
from pages.parts import cached, figures, jobs, session
from pages.parts.figures import Tile

SLOW, QUICK = ("Accuracy", "Compressed file"), ("Zero weights", "Parameters")
NAMES = SLOW + QUICK


def header(subject: str, wait: bool = False) -> str:
    """All four as HTML; with `wait`, what must be measured shows the last known value, marked as pending."""
    key = session.recipe().live.key
    row, alert = quick(subject, key)
    if len(row) == len(QUICK):
        known = st.session_state.setdefault("tiles", {})
        if not wait:
            known[subject] = measured(session.owner(), subject, key)
        waiting = [Tile(name, None, "working it out ...") for name in SLOW]
        slow = [replace(tile, pending=wait) for tile in known.get(subject, waiting)]
        row = [*slow, *row]
    return f'{figures.tiles(row)}<div data-live="alert">{alert}</div>'


def quick(subject: str, key: str) -> tuple[list[Tile], str]:
    """What is known at once, and what is wrong with the recipe; where it is, all four tiles say so."""
    if cached.is_large(subject):
        return large(subject, key), ""
    try:
        cached.after(subject, key)
    except cached.Untrained:
        return [Tile(name, None, "a step must be trained first: press Run") for name in NAMES], ""
    except SlimscopeError as error:
        lost = [Tile(name, None, "a step does not fit this net") for name in NAMES]
        return lost, figures.notice(str(error), "alert")
    now, was = cached.counted(subject, key), cached.counted(subject, "[]")
    left = f"{now['non-zero weights'].value:,.0f} are left"
    whole = f"of {was['parameters'].value:,.0f}"
    return [
        Tile("Zero weights", now["sparsity"], left, was["sparsity"]),
        Tile("Parameters", now["parameters"], whole, was["parameters"]),
    ], ""


def measured(owner: str, subject: str, key: str, names: tuple[str, ...] = SLOW) -> list[Tile]:
    """What must be measured; nothing for a recipe that can't be run, where the quick tiles say it all."""
    if cached.is_large(subject):
        return []
    try:
        cached.after(subject, key)
    except SlimscopeError:
        return []
    work = {
        "Accuracy": lambda: accuracy(owner, subject, key),
        "Compressed file": lambda: file_size(subject, key),
    }
    return [work[name]() for name in SLOW if name in names]


def large(subject: str, key: str) -> list[Tile]:
    """All four for a net that is compressed whole by a job only; before that, what is known of the original."""
    written, was = cached.written(subject, key), cached.counted(subject, "[]")
    later = "known when the file is written, below"
    accuracy = Tile("Accuracy", None, "needs a known architecture")
    parameters = Tile("Parameters", was["parameters"], "of the original")
    if key == "[]":
        zeros = Tile("Zero weights", was["sparsity"], f"{was['non-zero weights'].value:,.0f} are left")
        return [accuracy, Tile("Compressed file", None, later), zeros, parameters]
    if written is None:
        return [
            accuracy,
            *(Tile(name, None, later) for name in ("Compressed file", "Zero weights")),
            parameters,
        ]
    size, zeros, left = written[0]
    dense = cached.dense_bytes(subject)
    ratio = f"{dense.value / size.value:.1f}x smaller than {figures.text(dense.value, 'B')} dense"
    return [
        accuracy,
        Tile("Compressed file", size, ratio, dense),
        Tile("Zero weights", zeros, f"{left.value:,.0f} are left", was["sparsity"]),
        parameters,
    ]


def file_size(subject: str, key: str) -> Tile:
    """Bytes of the real file, and how many times smaller it is than the original's dense file."""
    size, dense = cached.size(subject, key), cached.dense_bytes(subject)
    ratio = f"{dense.value / size.value:.1f}x smaller than {figures.text(dense.value, 'B')} dense"
    return Tile("Compressed file", size, ratio, cached.size(subject, "[]"))


def accuracy(owner: str, subject: str, key: str) -> Tile:
    """Accuracy on the whole test set where it is known; else on a sample, while the whole follows."""
    held = cached.images(subject)
    if held is None:
        unsaid = cached.proposal(cached.parts(subject)[0]) is not None
        return Tile(
            "Accuracy",
            None,
            "you have not said what this file is" if unsaid else "needs a known architecture",
        )
    n, whole, origin = len(held.test), cached.full_accuracy(subject, key), cached.origin_accuracy(subject)
    more = ""
    if key == "[]" and origin is not None:
        now, change, base = origin, origin, origin
    elif whole is not None:
        now, change = whole
        base = origin
    else:
        n = cached.sample_size(subject)
        now, change = cached.accuracy(subject, key, n)
        base = cached.accuracy(subject, "[]", n)[0]
        if n < len(held.test):
            more = f"; all {len(held.test):,} follow"
            jobs.measure_all(owner, subject, key)
            if origin is not None:
                now, base = measure.carried(origin, change), origin
    note = figures.interval(now) if key == "[]" else figures.points(change)
    basis = f"on {n:,} samples{more}" if more else f"n = {n:,}"
    return Tile("Accuracy", now, f"{note}, {basis}", base)
