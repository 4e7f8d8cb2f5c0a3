"""K-means for vectors of a few numbers, where an error may count more in one vector than in another.

`engine.tensor.kmeans` is for single numbers, which a sorted index serves better. An error is (v - c)^T M
(v - c), with a symmetric M of each vector's own, given by its diagonal alone (n, length), or by its upper
triangle (n, length (length + 1) / 2), row by row.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from engine.types import SlimscopeError

STEPS = 30  # of Lloyd's, on the vectors that are drawn
LAST_STEPS = 2  # on all vectors, where some were left out
PER_ENTRY = 128  # vectors that are drawn for each entry: more change its mean little
STILL = 1e-3  # share of the vectors that may still change their entry when Lloyd's steps end
CHUNK = 2**18  # distances at once: they stay in the processor's cache


def vector_kmeans(vectors: Tensor, k: int, metric: Tensor, seed: int = 0) -> Tensor:
    """At most `k` shared vectors (k, length), float32, of little error for vectors (n, length).

    The start is greedy k-means++ (Arthur 2007), drawn by `seed`; the method is Lloyd's (1982): each vector
    goes to the entry of least error, and each entry to where its vectors' error is least. It runs on 128
    vectors for each entry, if there are more, and takes its last two steps on all. Fewer entries come back
    where there are fewer different vectors. Deterministic. Raises SlimscopeError where k is below 1, the
    metric does not fit the vectors, or its diagonal is negative somewhere.

    >>> points = torch.tensor([[0.0, 0.0], [0.0, 1.0], [8.0, 8.0]])
    >>> table = vector_kmeans(points, 2, torch.ones(3, 2))
    >>> table[table[:, 0].argsort()].tolist()
    [[0.0, 0.5], [8.0, 8.0]]
    """
    if k < 1:
        raise SlimscopeError(f"k is {k}: allowed is 1 or more shared vectors")
    count, length = vectors.shape
    if metric.shape not in ((count, length), (count, length * (length + 1) // 2)):
        raise SlimscopeError(
            f"the metric of vectors {tuple(vectors.shape)} is {tuple(metric.shape)}: allowed are diagonals "
            "or upper triangles"
        )
    one, other = places(metric.shape[1], length)
    diagonal = metric[:, one == other]
    if bool((diagonal < 0).any()):
        raise SlimscopeError(f"an error counts {float(diagonal.min()):g}: allowed are numbers from 0")
    counting = diagonal.any(1)
    vectors, metric = vectors[counting].float(), metric[counting].float()
    if not len(vectors):
        return torch.zeros(1, length)
    random, most = np.random.default_rng(seed), PER_ENTRY * k
    if len(vectors) <= most:
        return _lloyd(vectors, metric, _start(vectors, metric, k, random), STEPS)
    drawn = torch.from_numpy(np.sort(random.choice(len(vectors), most, replace=False)))
    some = vectors[drawn], metric[drawn]
    return _lloyd(vectors, metric, _lloyd(*some, _start(*some, k, random), STEPS), LAST_STEPS)


def places(width: int, length: int) -> tuple[Tensor, Tensor]:
    """Rows and columns of the numbers of a metric: of a diagonal, or of an upper triangle.

    >>> [each.tolist() for each in places(3, 2)]
    [[0, 0, 1], [0, 1, 1]]
    """
    if width == length:
        return torch.arange(length), torch.arange(length)
    one, other = torch.triu_indices(length, length)
    return one, other


def nearest(vectors: Tensor, table: Tensor, metric: Tensor) -> Tensor:
    """The number of the entry of least error for each vector: (n,) int64.

    >>> table, diagonal, triangle = torch.tensor([[0.0, 0.0], [3.0, 1.0]]), [0.1, 1.0], [1.0, -0.9, 1.0]
    >>> [nearest(torch.tensor([[1.0, 1.0]]), table, torch.tensor([x])).item() for x in (diagonal, triangle)]
    [1, 0]
    """
    return _nearest(_pulls(vectors, metric), table, metric)


def _nearest(pulls: Tensor, table: Tensor, metric: Tensor) -> Tensor:
    splits = max(-(-len(pulls) * len(table) // CHUNK), 1)
    pieces = (torch.tensor_split(each, splits) for each in (pulls, metric))
    return torch.cat([_costs(pull, table, m).min(1).indices for pull, m in zip(*pieces, strict=True)])


def _costs(pulls: Tensor, table: Tensor, metric: Tensor) -> Tensor:
    """Of (v - c)^T M (v - c), what differs between the entries: c^T M c - 2 c^T M v, (n, k)."""
    return torch.addmm(metric @ _products(table, metric.shape[1]).T, pulls, table.T, alpha=-2)


def _products(vectors: Tensor, width: int) -> Tensor:
    """Products of a vector's numbers, so that with a metric's they add up to its error: (n, width)."""
    one, other = places(width, vectors.shape[1])
    return vectors[:, one] * vectors[:, other] * (1.0 + (one != other))


def _pulls(vectors: Tensor, metric: Tensor) -> Tensor:
    """M v for each vector: (n, length)."""
    one, other = places(metric.shape[1], vectors.shape[1])
    pulls = torch.zeros_like(vectors).index_add_(1, one, metric * vectors[:, other])
    off = one != other
    return pulls.index_add_(1, other[off], metric[:, off] * vectors[:, one[off]])


def _start(vectors: Tensor, metric: Tensor, k: int, random: np.random.Generator) -> Tensor:
    """Greedy k-means++: vectors are drawn in proportion to their error, and of a few the best is an entry."""
    one, other = places(metric.shape[1], vectors.shape[1])
    own, pulls = (_products(vectors, metric.shape[1]) * metric).sum(1), _pulls(vectors, metric)
    chosen: list[int] = []
    left, tries = metric[:, one == other].sum(1), 2 + int(np.log(k))
    for _ in range(k):
        sums = left.double().cumsum(0)
        if sums[-1] <= 0:  # every vector is an entry already
            break
        drawn = torch.searchsorted(sums, torch.from_numpy(random.random(tries)) * sums[-1], right=True)
        drawn = drawn.clamp(max=len(vectors) - 1)
        away = (own[:, None] + _costs(pulls, vectors[drawn], metric)).clamp_(min=0)
        away = torch.minimum(left[:, None], away) if chosen else away
        best = int(away.sum(0, dtype=torch.float64).argmin())
        chosen.append(int(drawn[best]))
        left = away[:, best]
    return vectors[chosen]


def _lloyd(vectors: Tensor, metric: Tensor, table: Tensor, steps: int) -> Tensor:
    """The table after as many steps, or when hardly a vector changes its entry, without unused entries."""
    pulls, before = _pulls(vectors, metric), torch.full((len(vectors),), -1)
    for _ in range(steps):
        entry = _nearest(pulls, table, metric)
        if int((entry != before).sum()) <= STILL * len(vectors):
            break
        before = entry
        table = _moved(table, entry, pulls, metric)
    return table[torch.unique(_nearest(pulls, table, metric))]


def _moved(table: Tensor, entry: Tensor, pulls: Tensor, metric: Tensor) -> Tensor:
    """Each entry c where sum M c = sum M v over its vectors; a number that no vector counts stays."""
    one, other = places(metric.shape[1], table.shape[1])
    mass = torch.zeros(len(table), metric.shape[1], dtype=torch.float64).index_add_(0, entry, metric.double())
    matrix = torch.zeros(len(table), *[table.shape[1]] * 2, dtype=torch.float64)
    matrix[:, one, other] = mass
    matrix[:, other, one] = mass
    wanted = torch.zeros(table.shape, dtype=torch.float64).index_add_(0, entry, pulls.double())
    idle = torch.diagonal(matrix, dim1=1, dim2=2) == 0
    matrix += torch.diag_embed(idle.double())
    solved: Tensor = torch.linalg.solve(matrix, torch.where(idle, table.double(), wanted))
    return solved.float()
