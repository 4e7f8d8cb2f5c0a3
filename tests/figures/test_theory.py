"""The ledger by hand on a tiny net, and the laws that hold between its rows on any net."""

from __future__ import annotations

import doctest
import gzip
import heapq
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import Tensor

from engine.figures import theory
from engine.file import packfile
from engine.net import zoo
from engine.tensor import codes
from engine.tensor.formats import AffineGrid, Codebook, Dense, bits
from engine.tensor.granularity import per_axis
from engine.types import Arch, Basis, Bundle, Figure

ROWS = {
    "dense file of the original": Basis.MEASURED,
    "dense file": Basis.MEASURED,
    "gzip of the dense file": Basis.MEASURED,
    "bitmask + values": Basis.MODELLED,
    "CSR": Basis.MODELLED,
    "zero rows and columns cut out": Basis.MODELLED,
    "packed bits + scales": Basis.MODELLED,
    "codebook + indices": Basis.MODELLED,
    "Huffman": Basis.MODELLED,
    "order-0 entropy": Basis.MODELLED,
    "file size": Basis.MEASURED,
}


def integers(rows: list[list[int]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.int32)


def grid(codes_: Tensor, bits: int, zero: int = 0) -> AffineGrid:
    return AffineGrid(codes_, torch.ones(1), torch.tensor([zero], dtype=torch.int32), bits)


def row_grid(rows: list[list[int]], bits: int) -> AffineGrid:
    n = len(rows)
    return AffineGrid(
        integers(rows), torch.arange(1, n + 1) / 2, torch.zeros(n, dtype=torch.int32), bits, per_axis(0)
    )


TINY = Bundle(
    Arch("bare"),
    {
        "a.weight": row_grid([[0, 0, 1, -1], [0, 0, 0, 0]], 3),
        "a.bias": Dense(torch.tensor([1.0, 2.0])),
        "b.weight": Dense(torch.tensor([[0.0, 3.0], [0.0, 4.0]])),
        "c.weight": Codebook(integers([[0, 1, 2, 0]]), torch.tensor([-1.0, 0.0, 2.0])),
    },
)


def by_name(figures: list[Figure]) -> dict[str, Figure]:
    return {figure.name: figure for figure in figures}


def test_docstring_examples_hold() -> None:
    failed, tried = doctest.testmod(theory)
    assert (failed, tried > 0) == (0, True)


@pytest.mark.parametrize(
    ("row", "a", "b", "c"),
    [
        # mask bytes + 4 B a survivor
        ("bitmask + values", 1 + 8, 1 + 8, 1 + 12),
        # 8 B a survivor + 4 B a pointer
        ("CSR", 16 + 12, 16 + 12, 24 + 8),
        # 1x2, 2x1 and 1x3 weights are left
        ("zero rows and columns cut out", 8, 8, 12),
        # 8 codes of 3 bits and 2 scales; floats; 4 indices of 2 bits and 3 values
        ("packed bits + scales", 3 + 8, 16, 1 + 12),
        # 3 different values in each, 2 bits an index
        ("codebook + indices", 12 + 2, 12 + 1, 12 + 1),
        # 6*1 + 2 + 2 bits, table 3 * (3 + 8) bits, 2 scales; mask; 2*1 + 2 + 2 bits, table 3 * (2 + 8) bits
        ("Huffman", 2 + 5 + 8, 1 + 8, 1 + 4 + 12),
        # gaps (2, 0) and survivors (1, -1) have 2 bits each; equal gaps have none; again 2 + 2 bits
        ("order-0 entropy", 0.5 + 8, 0 + 8, 0.5 + 12),
    ],
)
def test_ledger_of_a_tiny_net_by_hand(row: str, a: float, b: float, c: float) -> None:
    assert by_name(theory.ledger(TINY))[row].value == a + 8 + b + c  # 8: the bias, always


def test_ledger_has_its_rows_in_reading_order_each_with_unit_basis_and_how() -> None:
    figures = theory.ledger(TINY)
    assert {f.name: f.basis for f in figures} == ROWS
    assert [f.name for f in figures] == list(ROWS)
    assert {f.unit for f in figures} == {"B"}
    assert all(len(f.how) > 15 for f in figures)
    assert all("biases" in f.how for f in figures if f.basis is Basis.MODELLED)


def test_measured_rows_are_lengths_of_files() -> None:
    origin = Bundle(Arch("bare"), {"w": Dense(torch.randn(40, 50)), "b": Dense(torch.randn(40))})
    net = origin.become({"w": Dense(torch.zeros(40, 50)), "b": origin.params["b"]})
    rows = by_name(theory.ledger(net))
    original, dense = save(origin.state()), save(net.state())
    assert rows["dense file of the original"].value == len(original) > 2040 * 4
    assert rows["dense file"].value == len(dense)
    assert rows["gzip of the dense file"].value == len(gzip.compress(dense, 6)) < 1000
    assert rows["file size"].value == len(packfile.pack(net))


def test_zero_points_count_only_where_there_are_any() -> None:
    rows = integers([[0, 3], [1, 2]])
    assert grid(rows, 2).fixed_bits() == 8 + 32
    assert grid(rows, 2, zero=1).fixed_bits() == 8 + 32 + 8


def test_pruned_signs_need_a_second_bit() -> None:
    assert grid(integers([[-1, 1] * 4]), 1).fixed_bits() == 8 + 32
    assert grid(integers([[-1, 0, 1, 1] * 2]), 1).fixed_bits() == 16 + 32


def test_kernels_are_cut_by_output_and_input_channel() -> None:
    kernels = torch.zeros(4, 3, 5, 5)
    kernels[0, 0, 2, 2] = kernels[3, 1, 0, 0] = 1.0
    assert theory.cut_bits(kernels) == 2 * 2 * 25 * 32


def test_a_net_without_zeros_or_grids_is_not_made_larger_by_codebooks() -> None:
    net = Bundle(Arch("bare"), {"w": Dense(torch.randn(50, 50))})
    rows = by_name(theory.ledger(net))
    for name in ("codebook + indices", "packed bits + scales", "Huffman", "order-0 entropy"):
        assert rows[name].value == 10_000
    assert rows["bitmask + values"].value == 10_000 + 313
    assert 2500 * 23 / 8 < rows["file size"].value < 10_000  # exponents are few, mantissas are noise


def test_negative_zeros_are_zeros_that_keep_their_sign() -> None:
    weight = torch.randn(100, 100)
    weight[:, :90] *= 0.0
    net = Bundle(Arch("bare"), {"w": Dense(weight)})
    bound, size = theory.entropy_bound(net).value, packfile.size(net).value
    assert 1000 * 23 / 8 < size < bound < 4000 + 2500  # which columns are zero is told by the rows above


# ---------------------------------------------------------------- laws


def heap_bits(symbols: list[int]) -> int:
    """Bits of a stream under Huffman, by the textbook heap."""
    heap = list(Counter(symbols).values())
    heapq.heapify(heap)
    total = heap[0] if len(heap) == 1 else 0
    while len(heap) > 1:
        merged = heapq.heappop(heap) + heapq.heappop(heap)
        total += merged
        heapq.heappush(heap, merged)
    return total


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=200))
def test_huffman_lies_between_entropy_and_one_bit_more(symbols: list[int]) -> None:
    body = heap_bits(symbols)
    k, n = len(set(symbols)), len(symbols)
    stream = torch.tensor(symbols, dtype=torch.int32)
    assert bits.huffman_stream_bits(stream, 6) == -(-body // 8) * 8 + -(-k * 14 // 8) * 8
    entropy = codes.entropy_bits(codes.counted(stream.numpy()).counts)
    assert entropy - 1e-6 <= body <= entropy + n
    assert body <= n * max(codes.width(k), 1)


def random_bundle(seed: int, bits: int, share: float) -> Bundle:
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(1, 30)), int(rng.integers(1, 30)))
    top = 2**bits - 1
    zero = torch.from_numpy(rng.integers(0, top + 1, shape[0])).to(torch.int32)
    mask = torch.from_numpy(rng.random(shape) < share)
    raw = torch.from_numpy(rng.integers(0, top + 1, shape)).to(torch.int32)
    kept = torch.where(mask, torch.from_numpy(rng.normal(size=shape)).float(), 0.0)
    table = torch.from_numpy(rng.normal(size=5)).float()
    return Bundle(
        Arch("bare"),
        {
            "grid": AffineGrid(
                torch.where(mask, raw, zero[:, None]), torch.ones(shape[0]), zero, bits, per_axis(0)
            ),
            "dense": Dense(kept),
            "book": Codebook(torch.from_numpy(rng.integers(0, 5, shape)).to(torch.int32) * mask, table),
            "bias": Dense(torch.ones(shape[0])),
        },
    )


@given(st.integers(0, 10**6), st.integers(1, 16), st.sampled_from([0.0, 0.03, 0.3, 1.0]))
@settings(max_examples=100, deadline=None)
def test_no_huffman_code_is_smaller_than_the_entropy_and_no_width_than_its_symbols(
    seed: int, bits: int, share: float
) -> None:
    net = random_bundle(seed, bits, share)
    rows = by_name(theory.ledger(net))
    assert rows["Huffman"].value >= rows["order-0 entropy"].value - 1e-9
    assert rows["packed bits + scales"].value >= rows["order-0 entropy"].value - 1e-9
    assert rows["zero rows and columns cut out"].value <= rows["dense file"].value
    for name in ("grid", "book"):
        param = net.params[name]
        stream = param.tensors()["codes"]
        assert param.fixed_bits() >= stream.numel() * codes.width(len(stream.unique()))


def test_the_file_of_a_real_net_comes_within_three_percent_of_its_bound() -> None:
    state = zoo.seeded("lenet-300-100", 0).state_dict()
    bundle = zoo.bundle_of("lenet-300-100", dict(state))
    top = 15

    def rounded(values: Tensor) -> AffineGrid:
        scale = values.abs().amax(1) / top
        integers_ = torch.round(values / scale[:, None]).to(torch.int32)
        return AffineGrid(integers_, scale, torch.zeros(len(scale), dtype=torch.int32), 5, per_axis(0))

    net = bundle.become(
        {n: rounded(t) if t.dim() == 2 else bundle.params[n] for n, t in bundle.state().items()}
    )
    rows = by_name(theory.ledger(net))
    bound = rows["order-0 entropy"].value
    assert bound - 4 * 820 / 4 <= rows["file size"].value <= 1.03 * bound  # 820 scales and biases, shortened
    assert rows["file size"].value < rows["packed bits + scales"].value + 1000
    assert rows["dense file of the original"].value / rows["file size"].value > 6
