"""Engine against peers: pruning over torch.nn.utils.prune, the index over one pass, packing over gzip."""

from __future__ import annotations

import gzip
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch.nn.utils import prune

import engine.techniques  # noqa: F401
from engine import masks, packfile, run, technique, zoo
from engine.index import TensorIndex

WEIGHTS = 10_000_000


def seconds(call: Callable[[], Any], repeats: int = 7) -> float:
    """Median wall time after one warm-up."""
    call()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _row(what: str, baseline: str, ours: float, theirs: float) -> dict[str, Any]:
    return {
        "what": what,
        "baseline": baseline,
        "p50 ms": round(1e3 * ours, 4),
        "ratio": round(ours / theirs, 5),
    }


def measure() -> list[dict[str, Any]]:
    weights = torch.randn(WEIGHTS, generator=torch.Generator().manual_seed(0))
    holder = torch.nn.Module()
    holder.register_parameter("weight", torch.nn.Parameter(weights))
    index = TensorIndex(weights)
    one_pass = seconds(lambda: int((weights.abs() > 0.5).sum()))
    bundle = run.run(
        zoo.load("lenet-300-100"),
        technique.complete(zoo_recipe()),
        None,
    )[0]
    dense = save(dict(bundle.state()))

    def torch_prune() -> None:
        prune.L1Unstructured(0.9).compute_mask(weights, torch.ones_like(weights))

    return [
        _row(
            "prune 10M weights to 90 %",
            "torch.nn.utils.prune.L1Unstructured",
            seconds(lambda: masks.by_sparsity(weights, 0.9), 3),
            seconds(torch_prune, 3),
        ),
        _row(
            "threshold query on the index, 10M",
            "one pass over the weights",
            seconds(lambda: index.count_removed(0.5)),
            one_pass,
        ),
        _row(
            "build the index, 10M",
            "one copy of the weights",
            seconds(lambda: TensorIndex(weights), 1),
            seconds(lambda: np.copy(weights.numpy())),
        ),
        _row(
            "pack lenet-300-100, 90 % and 5 bits",
            "gzip of its dense file",
            seconds(lambda: packfile.pack(bundle)),
            seconds(lambda: gzip.compress(dense, 6)),
        ),
    ]


def zoo_recipe() -> Any:
    from engine.types import Recipe

    return Recipe((technique.step("prune_weights", sparsity=0.9), technique.step("quantize", bits=5)))
