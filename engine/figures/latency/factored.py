"""The time of each split layer beside that of the layer before: whether its split pays on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch

from engine.figures.latency import stopwatch
from engine.figures.latency.stopwatch import REPEATS, Comparison, Pace
from engine.net import kinds, zoo
from engine.types import Basis, Bundle, Figure


@dataclass(frozen=True)
class Row:
    """A split layer: how many times fewer multiply-adds it does, and the times before and after."""

    layer: str
    calls: int  # thin layers in its place
    fewer: Figure
    times: Comparison

    @property
    def pays(self) -> bool:
        """Whether it is faster, and not only by noise."""
        return self.times.pace is Pace.FASTER


def timed(
    before: Bundle, after: Bundle, labels: Sequence[str], batch: int = 1, repeats: int = REPEATS
) -> tuple[Row, ...]:
    """A row for each of these layers that the model calls: one in `before`, several in a row in `after`.

    All of them run in turns on one thread, alone, with random numbers of the shape that enters them. Raises
    SlimscopeError where the model has layers of an unknown kind.
    """
    inputs = {use.layer: use.input for use in kinds.uses(before)}
    macs = [kinds.macs_by_layer(bundle) for bundle in (before, after)]
    labels = [label for label in labels if label in inputs]
    nets, rng = (zoo.build(before), zoo.build(after)), torch.Generator().manual_seed(0)
    calls = []
    for label in labels:
        x = torch.randn(batch, *inputs[label][1:], generator=rng)
        calls += [partial(net.get_submodule(label), x) for net in nets]
    with stopwatch.ALONE, torch.inference_mode():
        taken = stopwatch.timed(calls, repeats) / 1e6
    how = (
        f"median of {repeats} runs in turns, {stopwatch.WARM_UP} before, batch {batch}, 1 thread, this layer "
        "alone with random numbers; spread: quartiles"
    )
    found = []
    for number, label in enumerate(labels):
        thin = [n for name, n in macs[1].items() if name.startswith(f"{label}.")]
        compared = stopwatch.compare(taken[:, 2 * number], taken[:, 2 * number + 1], how)
        calls_now = len(list(nets[1].get_submodule(label).children()))
        found.append(Row(label, calls_now, _fewer(macs[0][label], sum(thin)), compared))
    return tuple(found)


def _fewer(before: int, after: int) -> Figure:
    how = "multiply-adds of the layer / those of the thin layers"
    return Figure("times fewer multiply-adds", before / after, "times", Basis.COUNTED, how)


def seconds(before: Bundle, after: Bundle, repeats: int = REPEATS) -> float:
    """About how long `timed` takes for all layers, at 1e10 multiply-adds a second."""
    runs = stopwatch.WARM_UP + 2 * repeats
    return runs * sum(sum(kinds.macs_by_layer(bundle).values()) for bundle in (before, after)) / 1e10
