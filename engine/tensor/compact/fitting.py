"""Fit a compact design to the outputs of a convolution: in closed form, then part by part by least squares.

All that is needed of the data are second moments of what the kernel reads, since the design's kernel is
linear in each of its parts. The starts are truncated singular value decompositions: per input channel for
depthwise filters (Guo 2018, Network Decoupling, arXiv 1808.05517), per pair of groups for a shuffle (Dao
2022, Monarch, arXiv 2204.00595). Each least squares step takes the error down, or leaves it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.tensor.compact.wiring import Design, stages

DAMPING = 1e-6  # of the mean second moment: what no input ever moved stays as it is


@dataclass(frozen=True)
class Moments:
    """Second moments of what a kernel reads (n, n), of outputs with that (outputs, n), of all outputs."""

    reads: Tensor
    cross: Tensor
    outputs: float


@dataclass(frozen=True)
class Factors:
    """A design as two matrices: kernels of the channels in the middle (middle, inputs, area), and how they
    are mixed (outputs, middle). An inverted bottleneck's kernels have rank one."""

    reads: Tensor
    mixes: Tensor

    @property
    def kernel(self) -> Tensor:
        """The one kernel (outputs, inputs, area) that the chain is."""
        return (self.mixes @ self.reads.flatten(1)).view(len(self.mixes), *self.reads.shape[1:])


# (kernel, its number, what is wanted of it (n,), moments) -> what is added to it
Fit = Callable[[Tensor, int, Tensor, Moments], Tensor]


def error(kernel: Tensor, moments: Moments) -> float:
    """The squared error of the outputs that a kernel (outputs, inputs, area) makes, over that of none.

    >>> one = Moments(torch.eye(2), torch.tensor([[3.0, 4.0]]), 25.0)
    >>> error(torch.tensor([[[3.0], [0.0]]]), one)
    0.64
    """
    flat = kernel.flatten(1)
    gained = 2 * (flat * moments.cross).sum() - (flat @ moments.reads * flat).sum()
    return max(0.0, 1 - float(gained) / moments.outputs) if moments.outputs > 0 else 0.0


# ---------------------------------------------------------------- the closed form


def start(weight: Tensor, design: Design) -> Factors:
    """The factors of a design near to a kernel (outputs, inputs, area): leading terms of its decompositions.

    An inverted bottleneck begins as the sum of as many separable ones as its expansion says.
    """
    weight = weight.double()
    outputs, inputs, _ = weight.shape
    match design.name:
        case "separable" | "inverted":
            terms = design.expansion if design.name == "inverted" else 1
            return _depthwise(weight, terms)
        case "shuffled":
            first, second = stages(design, inputs, outputs)
            return _in_groups(weight, first, second, design.groups)
    reads = weight * stages(design, inputs, outputs)[0][:, :, None]
    return Factors(reads, torch.eye(outputs, dtype=weight.dtype))


def _depthwise(weight: Tensor, terms: int) -> Factors:
    """The leading terms of each input channel's matrix (outputs, area)."""
    left, values, right = torch.linalg.svd(weight.movedim(1, 0), full_matrices=False)
    sizes = values[:, :terms].sqrt()
    filters, points = (right[:, :terms] * sizes[:, :, None]), (left[:, :, :terms] * sizes[:, None, :])
    inputs = weight.shape[1]
    reads = torch.zeros(inputs, terms, inputs, weight.shape[2], dtype=weight.dtype)
    for channel in range(inputs):
        reads[channel, :, channel] = filters[channel]
    return Factors(reads.flatten(0, 1), points.movedim(0, 1).flatten(1))


def _in_groups(weight: Tensor, first: Tensor, second: Tensor, groups: int) -> Factors:
    """The leading terms of each block between a group of outputs and one of inputs, by as many channels."""
    outputs, inputs, area = weight.shape
    reads, mixes = torch.zeros_like(weight), torch.zeros(outputs, outputs, dtype=weight.dtype)
    for rows in torch.arange(outputs).chunk(groups):
        for columns in torch.arange(inputs).chunk(groups):
            between = (second[rows[0]] & first[:, columns[0]]).nonzero().flatten()
            left, values, right = torch.linalg.svd(weight[rows][:, columns].flatten(1), full_matrices=False)
            between = between[: len(values)]
            sizes = values[: len(between)].sqrt()
            terms = (right[: len(between)] * sizes[:, None]).view(len(between), len(columns), area)
            reads[between[:, None], columns] = terms
            mixes[rows[:, None], between] = left[:, : len(between)] * sizes
    return Factors(reads, mixes)


# ---------------------------------------------------------------- least squares


def refitted(factors: Factors, moments: Moments, design: Design) -> Factors:
    """Each channel of the middle, then the mixing, fitted to the outputs with all else as it is."""
    reads, mixes = factors.reads.clone(), factors.mixes.clone()
    outputs, (_, inputs, area) = len(mixes), reads.shape
    wiring = stages(design, inputs, outputs)
    left = moments.cross - mixes @ reads.flatten(1) @ moments.reads  # not explained yet
    fit: Fit = _rank_one if design.name == "inverted" else _Supported(wiring[0], area, moments)
    for channel in range(len(reads)):
        size = float(mixes[:, channel] @ mixes[:, channel])
        if size > 0:
            step = fit(reads[channel], channel, (mixes[:, channel] @ left) / size, moments)
            reads[channel] += step
            left -= torch.outer(mixes[:, channel], step.flatten() @ moments.reads)
    if len(wiring) > 1:
        mixes += _mixing(reads, left, moments, wiring[-1])
    return Factors(reads, mixes)


class _Supported:
    """Steps of kernels that read a few inputs each; what is solved for one serves all that read the same."""

    def __init__(self, support: Tensor, area: int, moments: Moments) -> None:
        kinds, self.kind = support.unique(dim=0, return_inverse=True)  # type: ignore[no-untyped-call]
        self.places = [kind.repeat_interleave(area).nonzero().flatten() for kind in kinds]
        self.solvers = [
            _damped(moments.reads[places][:, places], moments.reads.diagonal().mean())
            for places in self.places
        ]

    def __call__(self, kernel: Tensor, channel: int, wanted: Tensor, moments: Moments) -> Tensor:
        kind = int(self.kind[channel])
        step, places = torch.zeros_like(wanted), self.places[kind]
        step[places] = torch.cholesky_solve(wanted[places][:, None], self.solvers[kind]).flatten()
        return step.view_as(kernel)


def _rank_one(kernel: Tensor, channel: int, wanted: Tensor, moments: Moments) -> Tensor:
    """A step of a kernel (inputs, area) that is a column times a row, and stays one: both in turn."""
    inputs, area = kernel.shape
    four, goal = moments.reads.view(inputs, area, inputs, area), wanted.view(inputs, area)
    column, row = outer(kernel)
    scale = moments.reads.diagonal().mean()
    mixed = torch.einsum("iajb,a,b->ij", four, row, row)
    new = column + _solved(mixed, goal @ row, scale * (row @ row))
    goal = goal - (torch.outer(new - column, row).flatten() @ moments.reads).view(inputs, area)
    mixed = torch.einsum("iajb,i,j->ab", four, new, new)
    return torch.outer(new, row + _solved(mixed, new @ goal, scale * (new @ new))) - kernel


def outer(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """(inputs,) and (area,) whose outer product is this kernel of rank one; the row has the length 1."""
    row = kernel[kernel.norm(dim=1).argmax()]
    length = row.norm()
    row = row / length if float(length) > 0 else torch.ones_like(row) / len(row) ** 0.5
    return kernel @ row, row


def _mixing(reads: Tensor, left: Tensor, moments: Moments, support: Tensor) -> Tensor:
    """The step of the mixing: each output by the channels that it may read."""
    flat, step = reads.flatten(1), torch.zeros(support.shape, dtype=reads.dtype)
    between, wanted = flat @ moments.reads @ flat.t(), left @ flat.t()
    scale = between.diagonal().mean()
    for kind in support.unique(dim=0):  # type: ignore[no-untyped-call]
        rows, places = (support == kind).all(1).nonzero().flatten(), kind.nonzero().flatten()
        solved = _solved(between[places][:, places], wanted[rows][:, places].t(), scale)
        step[rows[:, None], places] = solved.t()
    return step


def _solved(matrix: Tensor, wanted: Tensor, scale: Tensor) -> Tensor:
    goal = wanted[:, None] if wanted.dim() == 1 else wanted
    solved: Tensor = torch.cholesky_solve(goal, _damped(matrix, scale))
    return solved.reshape(wanted.shape)


def _damped(matrix: Tensor, scale: Tensor) -> Tensor:
    """The Cholesky factor of a matrix of moments that may have no inverse."""
    damping = DAMPING * scale.clamp(min=1e-30)
    root: Tensor = torch.linalg.cholesky(matrix + damping * torch.eye(len(matrix), dtype=matrix.dtype))
    return root
