"""Bytes of five recipes' integer weights under our coders, Huffman, xz and zstd; DeepCABAC if installed."""

from __future__ import annotations

import lzma
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

import engine.techniques  # noqa: F401
from engine.figures.coding import zstd
from engine.net import zoo
from engine.recipe import run, technique
from engine.tensor import codes
from engine.tensor.codes.context import CONTEXT
from engine.tensor.formats import AffineGrid
from engine.tensor.formats.numbers import row_length
from engine.types import Recipe, Step

RECIPES = (
    ("lenet-300-100", 0.9, 5),
    ("lenet-300-100", 0.95, 4),
    ("lenet-300-100", 0.98, 3),
    ("lenet-5", 0.9, 5),
    ("lenet-300-100", 0.0, 8),
)
# Code lengths of contexts mixed in floating point, where they are known.
IDEAL = {RECIPES[0]: 21_751, RECIPES[1]: 10_274, RECIPES[2]: 4_119}
MUTATIONS = 100_000

Matrices = list[NDArray[np.int32]]


def measure() -> list[dict[str, Any]]:
    rows = [row for recipe in RECIPES for row in of_recipe(recipe)]
    return [*rows, mutations(weights(RECIPES[2])[1])]


def weights(recipe: tuple[str, float, int]) -> Matrices:
    """The codes of each matrix, (outputs, everything else)."""
    name, sparsity, bits = recipe
    steps = [Step("prune_weights", {"sparsity": sparsity})] if sparsity else []
    bundle = zoo.load(name)
    for step in technique.complete(Recipe((*steps, Step("quantize", {"bits": bits})))):
        bundle, _ = run.apply(bundle, step, None)
    return [
        param.codes.numpy().reshape(-1, row_length(param.shape))
        for param in bundle.params.values()
        if isinstance(param, AffineGrid)
    ]


def of_recipe(recipe: tuple[str, float, int]) -> list[dict[str, Any]]:
    matrices = weights(recipe)
    codes.encode(matrices[0].reshape(-1), matrices[0].shape[1])  # compiled
    start = time.process_time()
    ours = [codes.encode(matrix.reshape(-1), matrix.shape[1]) for matrix in matrices]
    between = time.process_time()
    for (coder, data), matrix in zip(ours, matrices, strict=True):
        np.testing.assert_array_equal(codes.decode(coder, data, matrix.size), matrix.reshape(-1))
    end, count = time.process_time(), sum(matrix.size for matrix in matrices)
    size = sum(len(data) for _, data in ours)
    row = {"what": f"{recipe[0]}, sparsity {recipe[1]}, {recipe[2]} bits", "bytes": size}
    row |= {"bits per weight": round(8 * size / count, 4)}
    row |= {"encode MB/s": round(4e-6 * count / (between - start), 1)}
    row |= {"decode MB/s": round(4e-6 * count / (end - between), 1)}
    others = {"Huffman": huffman(matrices), "xz -9e": xz(matrices)}
    others |= {
        "relative index": relative(matrices),
        "zstd -19": sum(len(zstd(matrix.astype(np.int8).tobytes())) for matrix in matrices),
        "DeepCABAC": deep_cabac(matrices),
    }
    others["mixed contexts, ideal length"] = IDEAL.get(recipe)
    return [
        row
        | {"baseline": f"{name}: {f'{value:,} B' if value else 'not installed or not known'}"}
        | ({"ratio": round(size / value, 3)} if value else {})
        for name, value in others.items()
    ]


def huffman(matrices: Matrices) -> int:
    """Code lengths alone, without tables."""
    counts = [codes.counted(matrix.reshape(-1)).counts for matrix in matrices]
    return sum(-(-int((each * codes.huffman_lengths(each)).sum()) // 8) for each in counts)


def xz(matrices: Matrices) -> int:
    return sum(
        len(lzma.compress(matrix.astype(np.int8).tobytes(), preset=9 | lzma.PRESET_EXTREME))
        for matrix in matrices
    )


def relative(matrices: Matrices) -> int:
    """Deep Compression's own coding: distances with fillers, and values, in Huffman's code."""
    with codes.only("relative"):
        return sum(len(codes.encode(matrix.reshape(-1), matrix.shape[1])[1]) for matrix in matrices)


def deep_cabac(matrices: Matrices) -> int | None:
    """The shortest of its settings; None where nncodec is not installed."""
    try:
        from nncodec.extensions import deepCABAC as cabac  # noqa: N813
    except ImportError:
        return None
    off = (cabac.HdspMode.AlwaysOff, np.zeros(2, np.int8))
    sizes = []
    for unary in (4, 10, 15):
        total = 0
        for matrix in matrices:
            encoder = cabac.Encoder()
            encoder.initCtxModels(unary, 1)
            skipped = np.zeros(len(matrix), np.int32)
            encoder.encodeLayer(np.ascontiguousarray(matrix), 0, 0, 0, 0, 0, skipped, *off, 0, 0)
            total += len(encoder.finish().tobytes())
        sizes.append(total)
    return min(sizes)


def mutations(matrix: NDArray[np.int32], count: int = MUTATIONS) -> dict[str, Any]:
    """Damaged streams that ended in CodeError or in numbers; anything else ends the benchmark."""
    (_, _, make), rng = CONTEXT.options(codes.counted(matrix.reshape(-1), matrix.shape[1]))[0], np.random
    whole, chance, refused = make(), rng.default_rng(0), 0
    for _ in range(count):
        data = bytearray(whole)
        data[int(chance.integers(len(data)))] = int(chance.integers(256))
        try:
            CONTEXT.decode(bytes(data), matrix.size)
        except codes.CodeError:
            refused += 1
    return {"what": f"damaged streams refused, of {count:,}", "baseline": "all", "ratio": refused / count}
