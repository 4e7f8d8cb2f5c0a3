"""How much is pruned when: at once, in rounds, or while the net trains. Pure arithmetic on shares."""

from __future__ import annotations


def geometric(final: float, rounds: int, initial: float = 0.0) -> list[float]:
    """Sparsity after each round, where every round removes the same share of what is left.

    From `initial` to `final`, both shares of all weights in 0..1; one round is one-shot pruning.
    Where `initial` is beyond `final` already, it stays. (Han et al. 2015, arXiv 1506.02626;
    the equal shares are those of Frankle 2019, arXiv 1803.03635)

    >>> [round(share, 3) for share in geometric(0.875, 3)]
    [0.5, 0.75, 0.875]
    """
    start, end = 1 - initial, 1 - max(final, initial)
    if start == 0:
        return [initial] * rounds
    left = [start * (end / start) ** (number / rounds) for number in range(1, rounds)]
    return [*(1 - share for share in left), 1 - end]


def cubic(done: float, final: float, initial: float = 0.0) -> float:
    """Sparsity when the share `done` (0..1) of gradual pruning is over: fast at first, then slower.

    final + (initial - final) (1 - done)^3  (Zhu and Gupta 2017, arXiv 1710.01878, equation 1)

    >>> round(cubic(0.5, 0.8), 12)
    0.7
    """
    return final + (initial - final) * (1 - done) ** 3


def gradual(steps: int, interval: int, over: float, final: float, initial: float = 0.0) -> dict[int, float]:
    """Training step -> sparsity to prune to before it, every `interval` steps along the cubic curve.

    Of `steps` in all, the last pruning comes at or before the share `over` (0..1), so that the
    rest trains at the final sparsity. A training shorter than one interval is pruned once, at its start.

    >>> gradual(1000, 100, 0.3, 0.8, 0.0)
    {100: 0.56296..., 200: 0.77037..., 300: 0.8}
    """
    events = int(over * steps) // interval
    if events == 0:
        return {0: max(final, initial)}
    return {n * interval: cubic(n / events, max(final, initial), initial) for n in range(1, events + 1)}
