"""Engine against peers: the index, the clip search, k-means, pruning and the file, over named baselines."""

from __future__ import annotations

import gzip
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

import kmeans1d
import numpy as np
import torch
from safetensors.torch import save
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn.utils import prune

import engine.techniques  # noqa: F401
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run, technique
from engine.tensor import masks
from engine.tensor.histogram import EXACT, HistogramIndex
from engine.tensor.kmeans import kmeans
from engine.tensor.sorted_index import SortedIndex
from engine.types import Recipe

WEIGHTS = 10_000_000
CLUSTERED = 1_000_000  # scikit-learn takes minutes for more
OPTIMAL = 100_000  # kmeans1d keeps a table of k times as many
ENTRIES = 64
BITS = 4


def seconds(call: Callable[[], Any], repeats: int = 7, calls: int = 1) -> float:
    """Median wall time of one call after one warm-up; `calls` of them are timed together."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        for _ in range(calls):
            call()
        taken.append((time.perf_counter() - start) / calls)
    return statistics.median(taken)


def once(call: Callable[[], Any]) -> tuple[float, Any]:
    """(wall time, result) of one call, for baselines that take seconds."""
    start = time.perf_counter()
    found = call()
    return time.perf_counter() - start, found


def row(what: str, baseline: str, ours: float, theirs: float) -> dict[str, Any]:
    """Times in seconds; the ratio is ours over theirs: below 1 is faster."""
    return {
        "what": what,
        "baseline": baseline,
        "p50 ms": round(1e3 * ours, 4),
        "baseline ms": round(1e3 * theirs, 4),
        "ratio": float(f"{ours / theirs:.3g}"),
    }


def size_row(what: str, baseline: str, ours: float, theirs: float) -> dict[str, Any]:
    """As `row`, for what is not a time."""
    return {"what": what, "baseline": baseline, "ratio": float(f"{ours / theirs:.5g}")}


def normal(count: int) -> Tensor:
    return torch.randn(count, generator=torch.Generator().manual_seed(0))


def measure() -> list[dict[str, Any]]:
    weights = normal(WEIGHTS)
    index = SortedIndex(weights)
    return [
        *indices(weights, index),
        *coarse(),
        *clips(weights, index),
        *clusters(),
        *pruning(weights),
        packing(),
    ]


# ---------------------------------------------------------------- the index


def indices(weights: Tensor, index: SortedIndex) -> list[dict[str, Any]]:
    copied = seconds(lambda: np.copy(weights.numpy()))
    one_pass = seconds(lambda: int((weights.abs() > 0.5).sum()))
    grid, top = index.affine(BITS, True), 2 ** (BITS - 1) - 1

    def rounded() -> float:
        lost = torch.fake_quantize_per_tensor_affine(weights, *grid, -top, top) - weights
        return float(lost.square_().sum())

    passed = "one pass over the weights"

    def asked(call: Callable[[], Any]) -> float:
        return seconds(call, calls=100)

    return [
        row("build the index, 10M", "one copy of the weights", seconds(lambda: SortedIndex(weights)), copied),
        size_row("memory of the index, 10M", "the weights", index.nbytes, weights.nbytes),
        row("threshold to count, 10M", passed, asked(lambda: index.count_removed(0.5)), one_pass),
        row("sparsity to threshold, 10M", passed, asked(lambda: index.threshold_for(0.6)), one_pass),
        row("threshold to energy, 10M", passed, asked(lambda: index.energy_removed(0.5)), one_pass),
        row(
            f"error and counts of {BITS} bits, 10M",
            "rounding every weight with torch",
            seconds(lambda: index.on_grid(*grid, BITS, True), 7, 20),
            seconds(rounded, 3),
        ),
    ]


def coarse() -> list[dict[str, Any]]:
    weights = normal(EXACT + 1)
    index = HistogramIndex([weights])
    copied = seconds(lambda: np.copy(weights.numpy()), 5)
    built = seconds(lambda: HistogramIndex([weights]), 3)
    return [
        row("build the histogram above 16M", "one copy of the weights", built, copied),
        size_row("memory of the histogram above 16M", "the weights", index.nbytes, weights.nbytes),
    ]


# ---------------------------------------------------------------- the clip of least squared error


def clips(weights: Tensor, index: SortedIndex) -> list[dict[str, Any]]:
    top = 2 ** (BITS - 1) - 1
    chosen = index.best_clip(BITS, True)
    ours = index.on_grid(*index.affine(BITS, True, chosen), BITS, True).sse
    observed, scale = once(lambda: observer_scale(weights, top))
    theirs = index.on_grid(scale, 0, BITS, True).sse
    brute, found = once(lambda: brute_force(weights, top))
    assert abs(found - chosen) < 1e-9, (found, chosen)
    asked = seconds(lambda: index.best_clip(BITS, True))
    whole = seconds(lambda: SortedIndex(weights).best_clip(BITS, True), 3)
    observer, passes = "torch.ao HistogramObserver", "100 clips, one pass each"
    return [
        row(f"best of 100 clips, {BITS} bits, 10M, index kept", observer, asked, observed),
        row(f"best of 100 clips, {BITS} bits, 10M, index kept", passes, asked, brute),
        row(f"best of 100 clips, {BITS} bits, 10M, index built for it", observer, whole, observed),
        row(f"best of 100 clips, {BITS} bits, 10M, index built for it", passes, whole, brute),
        size_row("squared error of that clip", observer, ours, theirs),
    ]


def observer_scale(weights: Tensor, top: int) -> float:
    """The scale that torch's observer of least squared error gives."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.ao is deprecated; its observer is still the known one
        from torch.ao.quantization.observer import HistogramObserver

        observer = HistogramObserver(
            dtype=torch.qint8, qscheme=torch.per_tensor_symmetric, quant_min=-top, quant_max=top
        )
        observer(weights)
        return float(observer.calculate_qparams()[0])


def brute_force(weights: Tensor, top: int) -> float:
    """The clip, in hundredths of the largest magnitude, whose rounding errors are least."""
    largest, errors = float(weights.abs().max()), {}
    for percent in range(100, 0, -1):
        scale = largest * percent / 100 / top
        lost = torch.fake_quantize_per_tensor_affine(weights, scale, 0, -top, top) - weights
        errors[percent / 100] = float(lost.square_().sum(dtype=torch.float64))
    return min(errors, key=lambda clip: errors[clip])


# ---------------------------------------------------------------- k-means


def clusters() -> list[dict[str, Any]]:
    weights, fewer = normal(CLUSTERED), normal(OPTIMAL)
    ours = seconds(lambda: kmeans(weights, ENTRIES), 3)
    other = KMeans(ENTRIES, init="k-means++", n_init=1, random_state=0)
    theirs, fitted = once(lambda: other.fit(weights.numpy()[:, None]))
    rounds = f"scikit-learn KMeans, k-means++, n_init=1, 1 thread, {fitted.n_iter_} rounds"
    exact, best = once(lambda: kmeans1d.cluster(fewer.numpy(), ENTRIES))
    optimum = squared_error(fewer, best.centroids)
    found, few = kmeans(weights, ENTRIES), kmeans(fewer, ENTRIES)
    peer, error = "kmeans1d (exact)", f"squared error, k={ENTRIES}"
    return [
        row(f"k-means, k={ENTRIES}, 1M, with its sort", rounds, ours, theirs),
        size_row(f"{error}, 1M", rounds, found.sse, fitted.inertia_),
        row(
            f"k-means, k={ENTRIES}, 100k, with its sort", peer, seconds(lambda: kmeans(fewer, ENTRIES)), exact
        ),
        size_row(f"{error}, 100k", peer, few.sse, optimum),
    ]


def squared_error(weights: Tensor, entries: list[float]) -> float:
    table, wide = np.sort(np.array(entries)), weights.double().numpy()
    nearest = np.searchsorted((table[1:] + table[:-1]) / 2, wide)
    return float(np.square(wide - table[nearest]).sum())


# ---------------------------------------------------------------- pruning and the file


def pruning(weights: Tensor) -> list[dict[str, Any]]:
    layers = [part.view(1000, -1) for part in weights.split(WEIGHTS // 10)]

    def one() -> None:
        prune.L1Unstructured(0.9).compute_mask(weights, torch.ones_like(weights))

    def all_of_torch() -> None:
        holders = [nn.Module() for _ in layers]
        for holder, layer in zip(holders, layers, strict=True):
            holder.register_parameter("weight", nn.Parameter(layer))
        prune.global_unstructured([(h, "weight") for h in holders], prune.L1Unstructured, amount=0.9)

    def all_of_ours() -> None:
        for layer, kept in zip(layers, masks.by_sparsity_over(layers, 0.9), strict=True):
            torch.where(kept, layer, 0.0)

    peer = "torch.nn.utils.prune"
    mask = seconds(lambda: masks.by_sparsity(weights, 0.9), 5)
    return [
        row("mask of 10M weights at 90 %", f"{peer}.L1Unstructured", mask, seconds(one, 3)),
        row(
            "prune 10 layers of 1M together to 90 %",
            f"{peer}.global_unstructured",
            seconds(all_of_ours, 5),
            seconds(all_of_torch, 3),
        ),
    ]


def packing() -> dict[str, Any]:
    recipe = Recipe((technique.step("prune_weights", sparsity=0.9), technique.step("quantize", bits=5)))
    bundle = run.run(zoo.load("lenet-300-100"), technique.complete(recipe), None)[0]
    dense = save(dict(bundle.state()))
    return row(
        "pack lenet-300-100, 90 % and 5 bits",
        "gzip of its dense file",
        seconds(lambda: packfile.pack(bundle)),
        seconds(lambda: gzip.compress(dense, 6)),
    )
