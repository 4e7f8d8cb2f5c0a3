"""Is it faster? Every physical form of a net over the same net dense, in turns: `engine.figures.latency`.

The nets are the zoo's, cut and not trained again: where their zeros are follows from what they learned.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import engine.techniques  # noqa: F401
from engine.data import sets
from engine.figures import latency
from engine.net import zoo
from engine.recipe import technique
from engine.recipe.run import apply
from engine.techniques.prune import condense
from engine.tensor import groups
from engine.types import Bundle


def pruned(how: str, **settings: Any) -> Callable[[Bundle], Bundle]:
    """A technique without training as a function of the net."""

    def after(bundle: Bundle) -> Bundle:
        images = sets.load(zoo.entry(bundle.arch.name).data)
        return apply(bundle, technique.step(how, **settings), images)[0]

    return after


def condensed(bundle: Bundle) -> Bundle:
    """Four groups that each read a quarter of the inputs, chosen by the weights as they are."""
    labels, _ = condense.fitting(bundle, 4, 4)
    reads = {label: groups.read_by(bundle.params[f"{label}.weight"].decode(), 4, 4) for label in labels}
    return condense.converted(bundle, reads)


SPARSE = pruned("prune_weights", sparsity=0.98)
FILTERS = pruned("prune_filters", removed=0.5)
CHANNELS = pruned("prune_channels", removed=0.5)
LOW_RANK = pruned("low_rank", energy=0.9)
CASES = (
    ("lenet-300-100", "98 % of weights removed", SPARSE, 1),
    ("lenet-300-100", "low rank, 90 % of energy", LOW_RANK, 1),
    ("mlp-500-300", "half of the filters removed", FILTERS, 1),
    ("vgg-small", "98 % of weights removed", SPARSE, 32),
    ("vgg-small", "half of the filters removed", FILTERS, 32),
    ("vgg-small", "half of the channels removed", CHANNELS, 32),
    ("vgg-small", "condensed, 4 groups, factor 4", condensed, 32),
    ("resnet-20", "half of the filters removed", FILTERS, 32),
    ("resnet-20", "half of the channels removed", CHANNELS, 1),
)


def measure() -> list[dict[str, Any]]:
    return [
        {
            "what": f"{net}, {what}: {row.form.lower()}, {row.runtime}, batch {batch}",
            "baseline": f"{net} dense, {row.runtime}, in turns",
            "p50 ms": round(float(row.time.value), 4),
            "ratio": round(1 / float(row.speed_up.value), 3),
            "speed-up, median (quartiles)": "{:.2f} ({:.2f} to {:.2f})".format(
                row.speed_up.value, *(row.speed_up.spread or ())
            ),
        }
        for net, what, after, batch in CASES
        for whole in (zoo.load(net),)
        for row in latency.latency(whole, after(whole), batch)
        if row.time is not None and row.speed_up is not None
    ]
