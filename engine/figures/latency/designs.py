"""The time of one layer in each compact design, and why it falls short of the ratio of multiply-adds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import torch

from engine.figures.compact import STANDARD, TITLES, Layer, Row
from engine.figures.latency import stopwatch
from engine.figures.latency.stopwatch import REPEATS, Comparison
from engine.tensor.compact import Design


def timed(layer: Layer, rows: Sequence[Row], batch: int = 1, repeats: int = REPEATS) -> tuple[Row, ...]:
    """The rows with the time of each design, in turns, on one thread of this machine."""
    run = [row for row in rows if not row.why]
    x = torch.randn(batch, *layer.input[1:], generator=torch.Generator().manual_seed(0))
    nets = [layer.built(row.design).requires_grad_(False) for row in run]
    with stopwatch.ALONE, torch.inference_mode():
        taken = stopwatch.timed([partial(net, x) for net in nets], repeats) / 1e6
    how = (
        f"median of {repeats} runs in turns, {stopwatch.WARM_UP} before, batch {batch}, 1 thread, this layer "
        "alone with random numbers; spread: quartiles"
    )
    standard = taken[:, [row.design for row in run].index(STANDARD)]
    compared = {
        row.design: stopwatch.compare(standard, taken[:, number], how) for number, row in enumerate(run)
    }
    return tuple(_timed(row, compared) for row in rows)


def _timed(row: Row, compared: dict[Design, Comparison]) -> Row:
    if row.design not in compared:
        return row
    found = compared[row.design]
    return replace(row, time=found.now, speed_up=None if row.design == STANDARD else found.ratio)


def why_short(rows: Sequence[Row]) -> str:
    """One sentence on the design whose speed-up falls shortest of its ratio of multiply-adds.

    Nothing where no time was taken.
    """
    known = {row.design: row for row in rows if row.time is not None}
    standard = known.get(STANDARD)
    if standard is None or standard.macs is None or standard.intensity is None:
        return ""
    short = {
        design: (standard.macs.value / row.macs.value, row)
        for design, row in known.items()
        if row.macs is not None and row.speed_up is not None and row.speed_up.spread is not None
        if row.speed_up.spread[1] < standard.macs.value / row.macs.value
    }
    if not short:
        return "Here no design falls short of the ratio of its multiply-adds beyond the noise."
    promise, row = max(short.values(), key=lambda own: own[0] / own[1].speed_up.value)  # type: ignore[union-attr]
    assert row.speed_up is not None
    assert row.intensity is not None
    speed = row.speed_up.value
    pace = f"is {speed:.2f} times as fast" if speed >= 1 else f"takes {1 / speed:.2f} times the time"
    return (
        f"{TITLES[row.design.name]} does {promise:.1f} times fewer multiply-adds and {pace}: it multiplies "
        f"{row.intensity.value:.3g} times for each number that it reads or writes, "
        f"the standard convolution {standard.intensity.value:.3g} times, and moving numbers and calling "
        "kernels take time that does not shrink with the multiply-adds."
    )
