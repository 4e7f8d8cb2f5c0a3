"""Which option each layer gets under a budget, exactly, where what they lose and what they cost add up.

An option may be a width of its codes, or a rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.types import SlimscopeError

HALVINGS = 100  # of the price of a byte
MARGIN = 1e-9  # of all losses: what sums of floats may be off
MANY, MOST_COSTS = 10_000, 10  # rows, and numbers of costs for each of them, that are looked at cost by cost
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Choice:
    """The place of each layer's option, and what all of them cost and lose together."""

    places: tuple[int, ...]
    cost: int
    loss: float


def least_loss(costs: Sequence[Sequence[int]], losses: Sequence[Sequence[float]], budget: int) -> Choice:
    """One option for each layer, so that losses add up to the least at costs within the budget.

    `costs` and `losses` have the options of each layer in the same order; losses may be negative. Of choices
    that lose the same it is one that costs least. Dynamic programming over layers: after each, a sum of costs
    is kept where no smaller one loses as little, unless a bound says that it cannot become the best choice
    (by the price that a unit of cost has under this budget; Everett 1963). So the choice is exact: trying all
    gives the same. Raises SlimscopeError where no choice fits the budget.

    >>> least_loss([[10, 20], [10, 20]], [[5.0, 1.0], [3.0, 2.0]], 30)
    Choice(places=(1, 0), cost=30, loss=4.0)
    """
    options = [
        (np.asarray(c, np.int64), np.asarray(x, np.float64)) for c, x in zip(costs, losses, strict=True)
    ]
    least = sum(int(c.min()) for c, _ in options)
    if least > budget:
        raise SlimscopeError(f"the budget is {budget:,}: the cheapest choice costs {least:,}")
    price, known = _relaxed(options, budget)
    slack = MARGIN * sum(float(np.abs(x).max()) for _, x in options)
    may_lose = known + slack + price * budget - sum(float((x + price * c).min()) for c, x in options)
    candidates = [np.flatnonzero(x + price * c <= (x + price * c).min() + may_lose) for c, x in options]
    options = [(c[own], x[own]) for (c, x), own in zip(options, candidates, strict=True)]
    rests = [sum(int(c.min()) for c, _ in options[i + 1 :]) for i in range(len(options))]
    bounds = [sum(float((x + price * c).min()) for c, x in options[i + 1 :]) for i in range(len(options))]
    cost, loss = np.zeros(1, np.int64), np.zeros(1)
    steps: list[tuple[Ints, Ints]] = []
    for (own_cost, own_loss), rest, bound in zip(options, rests, bounds, strict=True):
        costs_now = (cost[:, None] + own_cost).ravel()
        losses_now = (loss[:, None] + own_loss).ravel()
        may = costs_now + rest <= budget
        may &= losses_now + price * (costs_now - budget) + bound <= known + slack
        kept = undominated(costs_now, losses_now, np.flatnonzero(may))
        steps.append(np.divmod(kept, len(own_cost)))
        cost, loss = costs_now[kept], losses_now[kept]
    places, at = [], len(cost) - 1
    for (before, option), own in zip(reversed(steps), reversed(candidates), strict=True):
        places.append(int(own[option[at]]))
        at = int(before[at])
    return Choice(tuple(reversed(places)), int(cost[-1]), float(loss[-1]))


def undominated(cost: Ints, loss: Floats, rows: Ints) -> Ints:
    """Of these rows those that lose less than all that cost no more, by rising cost."""
    if len(rows) > MANY and cost[rows].max() < MOST_COSTS * len(rows):  # sorting them all would take long
        least = np.full(int(cost[rows].max()) + 1, np.inf)  # at each cost
        np.minimum.at(least, cost[rows], loss[rows])
        rows = rows[loss[rows] <= np.minimum.accumulate(least)[cost[rows]]]
    rows = rows[np.lexsort((loss[rows], cost[rows]))]
    best = np.minimum.accumulate(loss[rows])
    first = np.ones(len(rows), bool)
    first[1:] = loss[rows][1:] < best[:-1]
    return rows[first]


def _relaxed(options: Sequence[tuple[Ints, Floats]], budget: int) -> tuple[float, float]:
    """A price of one unit of cost at which the choice of each layer by itself fits the budget, and a loss.

    The price is the lowest that bisection finds: then the bound that it gives is close. The loss is that of
    these choices once what they leave of the budget is spent.
    """
    by_cost = [np.lexsort((x, c)) for c, x in options]  # of equals, the cheapest is the first
    rising = [(c[own], x[own]) for (c, x), own in zip(options, by_cost, strict=True)]

    def at(price: float) -> list[int]:
        first = [int((x + price * c).argmin()) for c, x in rising]
        return [int(own[i]) for own, i in zip(by_cost, first, strict=True)]

    def cost(places: list[int]) -> int:
        return sum(int(c[i]) for (c, _), i in zip(options, places, strict=True))

    if cost(at(0.0)) <= budget:
        return 0.0, sum(float(x.min()) for _, x in options)
    low, high = 0.0, 1.0 + max(float(np.ptp(x)) for _, x in options)  # costs are whole: the cheapest wins
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if cost(at(middle)) <= budget else (middle, high)
    places = at(high)
    return high, _spent(options, places, budget - cost(places))


def _spent(options: Sequence[tuple[Ints, Floats]], places: list[int], left: int) -> float:
    """The loss of these places after the layer that gains most takes an option that fits, again and again."""
    while True:
        tried = [
            int(np.where(c <= c[i] + left, x, np.inf).argmin())
            for (c, x), i in zip(options, places, strict=True)
        ]
        gains = [float(x[i] - x[j]) for (_, x), i, j in zip(options, places, tried, strict=True)]
        if max(gains) <= 0:
            return sum(float(x[i]) for (_, x), i in zip(options, places, strict=True))
        layer = gains.index(max(gains))
        cost = options[layer][0]
        left -= int(cost[tried[layer]] - cost[places[layer]])
        places = [*places[:layer], tried[layer], *places[layer + 1 :]]
