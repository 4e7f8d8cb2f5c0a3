"""A search over designs of a model: many trained for a short time, the better ones again for longer.

Optuna, which proposes them, is an extra: `why_not` says how to get it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.figures import latency
from engine.figures.latency.variants import ONNX
from engine.net.designing import PARTS, Blueprint, Choices, choices, drawn
from engine.tensor.compact import Design
from engine.types import Arch, Bundle, SlimscopeError

FACTOR = 3  # of the designs in a round one in so many is trained again, for so many times the epochs
DRAWS = 50  # proposals for each design that is trained: those over the budget, or known, are passed over
FIRST_DRAWS = 200  # until one keeps to the budget
DRAWN = 12  # of the first proposals, by chance alone
NARROWEST = 0.125  # share of a layer's channels, or half of the budget where that is less
BY_HAND = (  # what anyone would try first: as narrow everywhere, or MobileNet's convolutions everywhere
    (0.5, "standard"),
    (0.25, "standard"),
    (1.0, "separable"),
    (0.5, "separable"),
)
BY_HAND_ELSE = {  # which leaves all else as it is
    "groups": 2,
    "expansion": 1,
    "since": 0,
    "depth": 1.0,
    "resolution": 1.0,
    "smaller_kernels": False,
}
CONVOLUTIONS = ("standard", "separable", "grouped", "shuffled", "inverted")


@dataclass
class Tried:
    """A design, what it costs, and the validation accuracy after its last training of so many epochs.

    `by_hand`: it is one of BY_HAND, and was not proposed by the search.
    """

    number: int
    blueprint: Blueprint
    arch: Arch
    cost: float
    by_hand: bool = False
    epochs: int = 0
    accuracy: float = 0.0


def why_not() -> str:
    """How to install what is missing for a search; nothing where it is there."""
    if importlib.util.find_spec("optuna") is not None:
        return ""
    return "The search needs Optuna, which is not installed: `pip install 'slimscope[search]'` brings it."


def rounds(epochs: int) -> list[int]:
    """Epochs of each round of successive halving (Jamieson, Talwalkar 2016), the last as told.

    >>> rounds(9), rounds(2)
    ([1, 3, 9], [1, 2])
    """
    return sorted({max(1, epochs // FACTOR**2), max(1, epochs // FACTOR), epochs})


def passes(designs: int, epochs: int) -> list[float]:
    """Passes over the training samples that each round takes at most; those of BY_HAND are in all rounds.

    >>> passes(9, 9)
    [9.0, 21.0, 45.0]
    """
    kept = [designs, *(going_on(designs, number) + len(BY_HAND) for number in range(1, len(rounds(epochs))))]
    return [float(each * count) for each, count in zip(rounds(epochs), kept, strict=True)]


def going_on(designs: int, number: int) -> int:
    """How many of the better designs a round has; the first is number 0.

    >>> [going_on(40, number) for number in range(3)]
    [40, 13, 4]
    """
    count: int = round(designs / FACTOR**number)
    return max(1, count)


def next_round(left: Sequence[Tried], count: int) -> list[Tried]:
    """So many of the better ones, and all of BY_HAND, which the others are to be compared with."""
    best = ranked(left)[:count]
    return [one for one in left if one in best or one.by_hand]


def proposals(
    bundle: Bundle, count: int, share: float, cost: Callable[[Arch], float], seed: int
) -> Iterator[tuple[Tried, Callable[[float], None]]]:
    """Designs that cost a share of the model at most, one after the other, and whom to tell their accuracy.

    Those of BY_HAND come first. A tree-structured Parzen estimator of two goals draws the others: small, and
    right (Ozaki et al. 2020). Fewer than `count` come where no others are found. The same seed and answers
    give the same designs.
    """
    import optuna

    budget = share * cost(bundle.arch)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    samplers = (
        optuna.samplers.TPESampler(n_startup_trials=DRAWN, seed=seed),
        optuna.samplers.RandomSampler(seed=seed),
    )
    study = optuna.create_study(directions=["minimize", "maximize"])
    for width, kind in BY_HAND:
        same = dict.fromkeys(PARTS, width)
        study.enqueue_trial({**same, "convolutions": kind, **BY_HAND_ELSE})
    able, known, found, missed = choices(bundle), set[str](), 0, 0
    for draw in range(DRAWS * count):
        if found == count or (draw == FIRST_DRAWS and not found):
            return
        study.sampler = samplers[missed > 0]  # the estimator by itself would ask for the same ones again
        trial = study.ask()
        tried = _proposed(bundle, found, trial, able, min(NARROWEST, share / 2), cost)
        missed += 1
        if tried is None or tried.arch.key in known:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif tried.cost > budget:
            study.tell(trial, [tried.cost, 0.0])  # as good as never right
        else:
            known.add(tried.arch.key)
            found, missed = found + 1, 0
            yield tried, lambda right, trial=trial, tried=tried: study.tell(trial, [tried.cost, right])  # type: ignore[misc]


def _proposed(
    bundle: Bundle, number: int, trial: Any, able: Choices, narrowest: float, cost: Callable[[Arch], float]
) -> Tried | None:
    """The design of a trial; None where the model can't be as it wants."""
    first, middle, last = (trial.suggest_float(part, narrowest, 1.0, log=True) for part in PARTS)
    kind = trial.suggest_categorical("convolutions", CONVOLUTIONS)
    groups, expansion = trial.suggest_categorical("groups", (2, 4, 8)), trial.suggest_int("expansion", 1, 3)
    since = trial.suggest_int("since", 0, len(PARTS) - 1)
    wanted = Design(kind)
    if wanted.is_grouped:
        wanted = Design(kind, groups)
    elif kind == "inverted":
        wanted = Design(kind, expansion=expansion)
    depth = trial.suggest_categorical("depth", able.depths)
    resolution = trial.suggest_categorical("resolution", able.resolutions)
    smaller = trial.suggest_categorical("smaller_kernels", able.kernels)
    since = since if smaller or kind != "standard" else 0
    blueprint = Blueprint((first, middle, last), wanted, since, depth, resolution, smaller)
    try:
        arch = drawn(bundle, blueprint)
        if arch.key == bundle.arch.key:
            return None
        return Tried(number, blueprint, arch, cost(arch), trial.number < len(BY_HAND))
    except SlimscopeError:
        return None


def ranked(tried: Sequence[Tried]) -> list[Tried]:
    """The better ones first: those that none is both smaller and more often right than, then the next such.

    Among equals the more accurate is first.
    """
    left, order = list(tried), list[Tried]()
    while left:
        best = front(left)
        order += sorted(best, key=lambda one: (-one.accuracy, one.cost))
        left = [one for one in left if one not in best]
    return order


def front(tried: Sequence[Tried]) -> list[Tried]:
    """Those that none of the others is as small and as often right as, and better in one of both."""
    return [one for one in tried if not any(_beats(other, one) for other in tried)]


def _beats(one: Tried, other: Tried) -> bool:
    no_worse = one.cost <= other.cost and one.accuracy >= other.accuracy
    return no_worse and (one.cost, one.accuracy) != (other.cost, other.accuracy)


def timed(before: Bundle, now: Bundle) -> tuple[float, float]:
    """The time of a design over the model's, in ONNX Runtime in one run of both, and its milliseconds.

    Raises SlimscopeError where it can't be exported.
    """
    for row in latency.latency(before, now):
        if row.runtime == ONNX and row.form == latency.name_of(before, now):
            if row.time is None or row.speed_up is None:
                raise SlimscopeError(row.why)
            return 1 / row.speed_up.value, row.time.value
    raise SlimscopeError("this design has no time in ONNX Runtime")
