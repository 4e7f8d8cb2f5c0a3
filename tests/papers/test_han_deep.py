"""Deep Compression again: relative indices by hand, the table of a layer, and a run on a few images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import engine.techniques  # noqa: F401  (fills the registry)
from engine.papers import han, han_deep
from engine.recipe import ready
from engine.tensor import sharing
from engine.tensor.formats import Codebook, Dense
from engine.tensor.relative import FILLER, Relative, huffman_bits, relative
from engine.types import Arch, Bundle, Progress


def test_the_papers_figure_of_relative_indices() -> None:
    """Figure 2: weights at 1, 4 and 15; with 3 bits, the span of 11 needs a filler at 8."""
    codes = torch.zeros(16, dtype=torch.int32)
    codes[1], codes[4], codes[15] = 1, 2, 3
    found = relative(Codebook(codes, torch.tensor([0.0, 3.4, 0.9, 1.7])), 3)
    assert found.distances.tolist() == [2, 3, 8, 3]
    assert found.numbers.tolist() == [1, 2, FILLER, 3]
    assert found.fillers == 1


@given(st.integers(1, 6), st.floats(0, 1), st.integers(0, 99))
def test_relative_indices_give_the_weights_back(bits: int, sparsity: float, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(9, 13, generator=g) * (torch.rand(9, 13, generator=g) >= sparsity)
    book = sharing.share(w, sharing.table_of(w, 4, "linear"))
    found = relative(book, bits)
    assert torch.equal(restored(found, book.table, (9, 13)), book.decode())
    assert not len(found.distances) or 1 <= found.distances.min() <= found.distances.max() <= 1 << bits


def restored(found: Relative, table: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The weights that the entries stand for."""
    flat = torch.zeros(int(np.prod(shape)))
    at, real = np.cumsum(found.distances) - 1, found.numbers != FILLER
    flat[torch.from_numpy(at[real])] = table[torch.from_numpy(found.numbers[real])]
    return flat.reshape(shape)


def test_a_layers_row_by_hand() -> None:
    # 64 weights, 4 of them kept at 0, 1, 2 and 63: the last needs one filler, 61 = 32 + 29.
    w = torch.zeros(8, 8)
    w.view(-1)[[0, 1, 2, 63]] = torch.tensor([1.0, 1.0, 2.0, 1.0])
    book = sharing.share(w, torch.tensor([1.0, 2.0]))
    row = han_deep.layer_table(Bundle(Arch("bare"), {"a.weight": book, "b.weight": Dense(w)})).iloc[0]
    assert len(han_deep.layer_table(Bundle(Arch("bare"), {"b.weight": Dense(w)}))) == 0
    assert (row["kept %"], row["fillers"], row["weight bits"], row["index bits"]) == (6.25, 1, 1, 5)
    assert row["rate %"] == pytest.approx(100 * (5 * 6 + 2 * 32) / (64 * 32))
    assert huffman_bits(np.array([1, 1, 2, -1, 1])) == 3 + 2 + 2
    assert row["weight bits, Huffman"] == 7 / 5
    assert row["index bits, Huffman"] == 7 / 5  # 1 three times, 32 and 29 once


def test_the_papers_rows_give_its_total() -> None:
    """Table 2: the layers' rates, weighted by their weights, are the 2.49 % that it is known for."""
    table = han_deep.published("lenet-300-100").set_index("layer")
    weights = {"fc1": 235_200, "fc2": 30_000, "fc3": 1_000}
    total = sum(table["rate %, Huffman"][x] * n for x, n in weights.items()) / sum(weights.values())
    assert total == pytest.approx(2.49, abs=0.1)
    assert list(table.columns) == list(han_deep.PUBLISHED)


@pytest.mark.usefixtures("few")
def test_a_run_reports_the_decoded_file_on_the_test_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(han_deep.TABLES, "mlp-32", han_deep.TABLES["lenet-300-100"])  # type: ignore[index]
    recipe = {
        "first training": {"epochs": 2, "learning_rate": 0.05},
        "prune_iteratively": {"sparsity": 0.9, "rounds": 1, "epochs": 1},
        "share_weights": {"entries": 16, "start": "linear"},
        "train_centroids": {"epochs": 1},
        "shares of the time": [0.3, 0.7],
        "coder": "relative",
    }
    shares: list[float] = []
    outcome = han_deep.run("mlp-32", recipe, 1, Progress(lambda share, _: shares.append(share)), tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    figures = outcome.figures
    assert figures[han_deep.RATIO] == pytest.approx(102_096 / figures["bytes"], rel=0.02)
    assert figures["bytes with the shortest coders"] < figures["bytes"]
    assert figures[han.CHANGE] == pytest.approx(figures[han.AFTER] - figures[han.BEFORE])
    table = outcome.tables["layers"]
    assert table["layer"].tolist() == ["fc1", "fc2"]
    assert float((table["kept %"] * table["weights"]).sum() / table["weights"].sum()) == pytest.approx(
        10, abs=0.1
    )
    assert (table["rate %, Huffman"] <= table["rate %"]).all()


@pytest.mark.parametrize(
    ("ratio", "error", "verdict"),
    [
        (40.0, 1.64, "reproduced"),
        (44.0, 1.57, "beaten"),
        (44.0, 1.6, "reproduced"),
        (39.9, 1.0, "not reached"),
        (50.0, 1.65, "not reached"),
    ],
)
def test_the_verdict(ratio: float, error: float, verdict: str) -> None:
    ours = {han_deep.RATIO: [ratio] * 3, han.BEFORE: [1.0] * 3, han.AFTER: [error] * 3, han.CHANGE: [0.0] * 3}
    assert han_deep.LENET_300_100.judge(ours) == verdict


def test_a_recipe_is_known_by_its_name_and_another_name_is_refused() -> None:
    bundle = Bundle(Arch("bare"), {"a.weight": Dense(torch.zeros(2, 2))})
    recipe = ready.recipe("deep_compression", bundle)
    assert recipe.steps[2].settings["entries"] == 64
    with pytest.raises(Exception, match="recipe 'shallow' is not known: there are deep_compression"):
        ready.recipe("shallow", bundle)
