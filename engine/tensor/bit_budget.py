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
    for before, option in reversed(steps):
        places.append(int(option[at]))
        at = int(before[at])
    return Choice(tuple(reversed(places)), int(cost[-1]), float(loss[-1]))


def undominated(cost: Ints, loss: Floats, rows: Ints) -> Ints:
    """Of these rows those that lose less than all that cost no more, by rising cost."""
    rows = rows[np.lexsort((loss[rows], cost[rows]))]
    best = np.minimum.accumulate(loss[rows])
    first = np.ones(len(rows), bool)
    first[1:] = loss[rows][1:] < best[:-1]
    return rows[first]


def _relaxed(options: Sequence[tuple[Ints, Floats]], budget: int) -> tuple[float, float]:
    """A price of one unit of cost at which the choice of each layer by itself fits the budget, and its loss.

    The lowest that bisection finds: then the bound that it gives is close.
    """

    def at(price: float) -> tuple[int, float]:
        places = [int(np.lexsort((c, x + price * c))[0]) for c, x in options]
        chosen = [(int(c[i]), float(x[i])) for (c, x), i in zip(options, places, strict=True)]
        return sum(c for c, _ in chosen), sum(x for _, x in chosen)

    if at(0.0)[0] <= budget:
        return 0.0, at(0.0)[1]
    low, high = 0.0, 1.0 + max(float(np.ptp(x)) for _, x in options)  # costs are whole: the cheapest wins
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle)[0] <= budget else (middle, high)
    return high, at(high)[1]
