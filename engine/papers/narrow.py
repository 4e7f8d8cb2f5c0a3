"""Models made narrower by what each layer tolerates, fine-tuned, and compared with the whole net."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from torch.nn import functional as F

from engine.data import sets
from engine.data.sets import Samples
from engine.figures import count, measure
from engine.net import incremental, zoo
from engine.papers.harness import Ours, Outcome
from engine.recipe import technique
from engine.recipe.knobs import PerLayer
from engine.recipe.run import apply
from engine.types import Bundle, Progress

MACS = "multiply-adds removed"
PARAMETERS = "parameters removed"
UNTRAINED = "test error of the net as it came"
BEFORE = "test error before"
AFTER = "test error after"
CHANGE = "test error change"
SCANNED = 1000  # images of the validation part that tell what a layer bears
ROUNDS = 40  # of the search for the price of a multiply-add

Prune = Callable[[Mapping[str, float]], Bundle]  # label -> share: the net with these layers pruned


def compare(
    net: str,
    how: str,
    fixed: Mapping[str, Any],
    layers: Callable[[Bundle], Sequence[str]],
    shares: Sequence[float],
    target: float,
    tuning: Mapping[str, Any],
    control: bool,
    seed: int,
    progress: Progress,
    folder: Path,
) -> Outcome:
    """Prune a net of the zoo with the technique `how`, fine-tune it, and report on the test set.

    `control`: the whole net is fine-tuned as long, and is what the error is compared with.
    """
    images = sets.load_full(zoo.entry(net).data)
    whole = zoo.load(net)
    table = next(name for name, knob in technique.get(how).knobs.items() if isinstance(knob, PerLayer))

    def prune(own: Mapping[str, float]) -> Bundle:
        return apply(whole, technique.step(how, **fixed, **{table: dict(own)}), images)[0]

    samples = images.validation.stratified(SCANNED)
    own = least_harm(whole, prune, layers(whole), shares, samples, target, progress.part(0.0, 0.1))
    cut = prune(own)
    step = technique.step("finetune", **tuning, seed=seed)
    split = 0.5 if control else 0.1
    before, answers = whole, {}
    if control:
        before, _ = apply(whole, step, images, progress.part(0.1, split, folder=folder / "whole"))
    after, _ = apply(cut, step, images, progress.part(split, 1.0, folder=folder / "narrow"))
    for name, bundle in ((UNTRAINED, whole), (BEFORE, before), (AFTER, after)):
        answers[name] = 100 * (1 - measure.accuracy(bundle, images.test).value)
    figures = {
        MACS: 100 * (1 - count.macs(after).value / count.macs(whole).value),
        PARAMETERS: 100 * (1 - count.parameters(after).value / count.parameters(whole).value),
        **answers,
        CHANGE: answers[AFTER] - answers[BEFORE],
        "validation accuracy, cut and not trained": measure.accuracy(cut, images.validation).value,
        "validation accuracy, whole": measure.accuracy(before, images.validation).value,
        "validation accuracy, narrow": measure.accuracy(after, images.validation).value,
    }
    return Outcome(figures, {"shares": pd.DataFrame(own.items(), columns=["layer", "share"])})


def judge(fewer: float, bearable: float, published: float, ours: Ours) -> str:
    """`reproduced`: so many % fewer multiply-adds, the median seed losing at most `bearable` points.

    `beaten`: the median seed loses nothing, and no more than the published net.

    >>> judge(34, 0.3, -0.15, {MACS: [34.5, 34.5, 34.5], CHANGE: [-0.1, 0.0, 0.9]})
    'reproduced'
    """
    middle = {name: statistics.median(values) for name, values in ours.items()}
    if middle[MACS] < fewer or middle[CHANGE] > bearable:
        return "not reached"
    return "beaten" if middle[CHANGE] <= min(0, published) else "reproduced"


def least_harm(
    bundle: Bundle,
    prune: Prune,
    layers: Sequence[str],
    shares: Sequence[float],
    samples: Samples,
    target: float,
    progress: Progress,
) -> dict[str, float]:
    """Label -> one of `shares`, for the layers that are pruned: at least `target` of the multiply-adds go.

    Each layer is pruned alone to each share, and the cross-entropy of `samples` (mean, nats) told. Then every
    layer takes what is best at one price of a multiply-add, the lowest that reaches the target: the best
    choice where harms add up, a good one elsewhere. Where the target is out of reach, all give their most.
    """
    whole, macs = loss(bundle, samples), count.macs(bundle).value

    def saved(pruned: Bundle) -> float:
        return 1 - count.macs(pruned).value / macs

    offers: dict[str, list[tuple[float | None, float, float]]] = {}  # share, harm, multiply-adds saved
    for number, label in enumerate(layers):
        offers[label] = [(None, 0.0, 0.0)]
        for share in shares:
            progress(number / len(layers))
            pruned = prune({label: share})
            offers[label].append((share, loss(pruned, samples) - whole, saved(pruned)))

    def at(price: float) -> dict[str, float]:
        best = {label: min(some, key=lambda o: o[1] - price * o[2])[0] for label, some in offers.items()}
        return {label: share for label, share in best.items() if share is not None}

    low, high = 1e-6, 1e6  # nats for all multiply-adds of the net
    known: dict[tuple[tuple[str, float], ...], float] = {}
    for _ in range(ROUNDS):
        middle = (low * high) ** 0.5
        own = at(middle)
        key = tuple(own.items())
        if key not in known:
            known[key] = saved(prune(own))
        low, high = (low, middle) if known[key] >= target else (middle, high)
    return at(high)


def loss(bundle: Bundle, samples: Samples) -> float:
    """Mean cross-entropy of the net's answers, in nats."""
    return float(F.cross_entropy(incremental.logits(bundle, samples, keep=False)[0], samples.labels))
