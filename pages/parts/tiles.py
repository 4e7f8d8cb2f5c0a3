"""The header's four figures, of the whole recipe: two are known at once, two must be measured."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from engine.figures import measure
from engine.jobs.job import Job
from engine.types import SlimscopeError
from pages.parts import cached, figures, jobs, quiet, view, visitor
from pages.parts.figures import Tile

SLOW, QUICK = ("Accuracy", "Compressed file"), ("Zero weights", "Parameters")
NAMES = SLOW + QUICK


def header(subject: str, wait: bool = False) -> str:
    """All four as HTML; with `wait`, what must be measured shows the last known value, marked as pending."""
    key = view.now().live.key
    row, alert = quick(subject, key, visitor.owner())
    if len(row) == len(QUICK):
        known = st.session_state.setdefault("tiles", {})
        if not wait:
            known[subject] = measured(visitor.owner(), subject, key)
        waiting = [Tile(name, None, "working it out ...") for name in SLOW]
        slow = [replace(tile, pending=wait or tile.pending) for tile in known.get(subject, waiting)]
        row = [*slow, *row]
    return f'{figures.tiles(row)}<div data-live="alert">{alert}</div>'


def quick(subject: str, key: str, owner: str = "") -> tuple[list[Tile], str]:
    """What is known at once, and what is wrong with the recipe; where it is, all four tiles say so.

    Of a large model these figures are pending, too, while a job of its `owner` works the recipe out.
    """
    if cached.is_bare_and_large(subject):
        return bare(subject, key), ""
    try:
        if not cached.is_large(subject):
            cached.after(subject, key)
        now = cached.counted(subject, key)
    except cached.Untrained:
        return [Tile(name, None, "a step must be trained first: press Run") for name in NAMES], ""
    except cached.Pending:
        job = jobs.about(owner, "write", subject, key)
        if job is not None and job.state == "failed":
            return _lost(job.error)
        return [_waiting(name, job) for name in QUICK], ""
    except SlimscopeError as error:
        return _lost(str(error))
    was = cached.counted(subject, "[]")
    left = f"{now['non-zero weights'].value:,.0f} are left"
    whole = f"of {was['parameters'].value:,.0f}"
    return [
        Tile("Zero weights", now["sparsity"], left, was["sparsity"]),
        Tile("Parameters", now["parameters"], whole, was["parameters"]),
    ], ""


def _lost(why: str) -> tuple[list[Tile], str]:
    return [Tile(name, None, "a step does not fit this model") for name in NAMES], figures.notice(
        why, "alert"
    )


def _waiting(name: str, job: Job | None) -> Tile:
    """A figure that a job works out; it is not pending where the job will not go on by itself."""
    if job is None or job.open:
        return Tile(name, None, "working it out in the background ...", pending=True)
    return Tile(name, None, job.error if job.state == "failed" else f"{job.state}: go on with it under Jobs")


def measured(owner: str, subject: str, key: str, names: tuple[str, ...] = SLOW) -> list[Tile]:
    """What must be measured; nothing for a recipe that can't be run, where the quick tiles say it all."""
    if len(quick(subject, key, owner)[0]) > len(QUICK):
        return []
    work = {
        "Accuracy": lambda: accuracy(owner, subject, key),
        "Compressed file": lambda: file_size(owner, subject, key),
    }
    return quiet.done(lambda: [work[name]() for name in SLOW if name in names])


def bare(subject: str, key: str) -> list[Tile]:
    """All four for weights that are compressed layer by layer, by a job only; before that, those of the original."""
    written, was = cached.written(subject, key), cached.counted(subject, "[]")
    later = "known when the file is written, below"
    accuracy, parameters = _unknown(subject), Tile("Parameters", was["parameters"], "of the original")
    if key == "[]":
        zeros = Tile("Zero weights", was["sparsity"], f"{was['non-zero weights'].value:,.0f} are left")
        return [accuracy, Tile("Compressed file", None, later), zeros, parameters]
    if written is None:
        unknown = [Tile(name, None, later) for name in ("Compressed file", "Zero weights")]
        return [accuracy, *unknown, parameters]
    left = f"{written[0]['non-zero weights'].value:,.0f} are left"
    zeros = Tile("Zero weights", written[0]["sparsity"], left, was["sparsity"])
    return [accuracy, file_size("", subject, key), zeros, parameters]


def is_settled(subject: str, key: str) -> bool:
    """Whether no job has to work for the measured tiles of a recipe any more."""
    held = cached.images(subject)
    if held is None:
        return True
    is_large = cached.is_large(subject)
    is_original = key == "[]" and cached.origin_accuracy(subject) is not None
    is_whole = not is_large and cached.sample_size(subject) == len(held.test)
    is_measured = is_original or is_whole or cached.full_accuracy(subject, key) is not None
    return is_measured and (not is_large or cached.written(subject, key) is not None)


def file_size(owner: str, subject: str, key: str) -> Tile:
    """Bytes of the real file, and how many times smaller it is than the original's dense file."""
    try:
        size = cached.size(subject, key)
    except cached.Pending:
        return _waiting("Compressed file", jobs.ensure(owner, "write", "Compressed file", subject, key))
    dense = cached.dense_bytes(subject)
    ratio = f"{times(dense.value / size.value)} {figures.text(dense.value, 'B')} dense"
    was = dense if cached.is_large(subject) else cached.size(subject, "[]")
    return Tile("Compressed file", size, ratio, was)


def times(ratio: float) -> str:
    """How many times smaller something is, in words that fit near 1, too.

    >>> times(3.52), times(1.02), times(0.5)
    ('3.5x smaller than', 'about as large as', '2.0x larger than')
    """
    if 0.95 < ratio < 1.05:
        return "about as large as"
    return f"{ratio:.1f}x smaller than" if ratio > 1 else f"{1 / ratio:.1f}x larger than"


def _unknown(subject: str) -> Tile:
    unsaid = cached.proposal(cached.parts(subject)[0]) is not None
    why = "you have not said what this file is" if unsaid else "needs a known architecture"
    return Tile("Accuracy", None, why)


def accuracy(owner: str, subject: str, key: str) -> Tile:
    """Accuracy on the whole test set where it is known; else on a sample, while the whole follows.

    A large model is not run while a page waits: the whole follows. Where outputs are not numbers, why
    there is none.
    """
    try:
        return _accuracy(owner, subject, key)
    except SlimscopeError as error:
        return Tile("Accuracy", None, str(error))


def _accuracy(owner: str, subject: str, key: str) -> Tile:
    held = cached.images(subject)
    if held is None:
        return _unknown(subject)
    n, whole, origin = len(held.test), cached.full_accuracy(subject, key), cached.origin_accuracy(subject)
    more = ""
    if key == "[]" and origin is not None:
        now, change, base = origin, origin, origin
    elif whole is not None:
        now, change = whole
        base = origin
    elif cached.is_large(subject):
        return _waiting("Accuracy", jobs.measure_all(owner, subject, key))
    else:
        n = cached.sample_size(subject)
        now, change = cached.accuracy(subject, key, n)
        base = cached.accuracy(subject, "[]", n)[0]
        if n < len(held.test):
            more = f"; all {len(held.test):,} follow"
            jobs.measure_all(owner, subject, key)
            if origin is not None:
                now, base = measure.carried(origin, change), origin
    note = figures.interval(now) if key == "[]" else figures.points(change, n)
    windows = f"{n:,} windows of {held.test.images.shape[1]} tokens" if held.test.is_read_on else f"n = {n:,}"
    return Tile("Accuracy", now, note, base, samples=f"{windows}{more}")
