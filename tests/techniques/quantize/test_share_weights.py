"""Shared weights: the paper's example, zeros, tables for one layer or for all, and a dragged entry."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures import count
from engine.file import packfile
from engine.jobs import layerwise
from engine.net import zoo
from engine.recipe.run import apply
from engine.tensor import sharing
from engine.tensor.formats import Codebook, Dense
from engine.tensor.histogram import HistogramIndex
from engine.tensor.index import Index
from engine.tensor.kmeans import kmeans
from engine.tensor.sorted_index import SortedIndex
from engine.types import Arch, Bundle, Step, weight_layers

FIGURE_3 = torch.tensor(
    [
        [2.09, -0.98, 1.48, 0.09],
        [0.05, -0.14, -1.08, 2.12],
        [-0.91, 1.92, 0.0, -1.03],
        [1.87, 0.0, 1.53, 1.49],
    ]
)  # of Han 2016; its two zeros are no mask there


def bare(**weights: torch.Tensor) -> Bundle:
    return Bundle(Arch("bare"), {f"{name}.weight": Dense(w) for name, w in weights.items()})


def shared(bundle: Bundle, **settings: Any) -> tuple[dict[str, Codebook], Any]:
    after, report = apply(bundle, Step("share_weights", settings), None)
    return {label: after.params[name] for label, name in weight_layers(after).items()}, report


def drawn(seed: int, shape: tuple[int, ...] = (40, 30), sparsity: float = 0.0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    w = torch.randn(shape, generator=g)
    return w * (torch.rand(shape, generator=g) >= sparsity)


# ---------------------------------------------------------------- by hand


def test_the_papers_sixteen_weights_become_four_values_of_160_bits() -> None:
    w = FIGURE_3 + 1e-6 * (FIGURE_3 == 0)
    books, report = shared(bare(a=w), entries=4)
    book = books["a"]
    assert book.table.tolist() == pytest.approx([-1.0, 0.0, 1.5, 2.0], abs=1e-5)
    assert book.codes.tolist() == [[3, 0, 2, 1], [1, 1, 0, 3], [0, 3, 1, 0], [3, 1, 2, 2]]
    assert 32 * w.numel() == 512
    assert book.fixed_bits() == 160
    assert report.tables["layers"]["bits_per_weight"].item() * w.numel() == 160
    assert report.figures[0].value == 10.0


def test_zeros_stay_zero_and_take_no_entry() -> None:
    w = torch.tensor([[0.0, 1.0, -0.0, 2.0], [0.0, 3.0, 4.0, 0.0]])
    books, report = shared(bare(a=w), entries=4)
    row = report.tables["layers"].iloc[0]
    assert torch.equal(books["a"].decode(), w)
    assert (row["shared"], row["entries"], row["index_bits"]) == (4, 4, 2)
    assert row["bits_per_weight"] == (4 * 2 + 4 * 32 + 8) / 8  # indices, entries, mask
    assert report.figures[1].value == 16


def test_a_layer_of_zeros_alone_stays_one() -> None:
    books, report = shared(bare(a=torch.zeros(3, 2), b=drawn(0)), entries=4)
    assert not books["a"].decode().any()
    assert report.tables["layers"]["entries"].tolist() == [0, 4]


# ---------------------------------------------------------------- against k-means and the file


@pytest.mark.parametrize("start", ["best", "linear", "density", "random"])
def test_each_layer_gets_the_table_of_its_own_k_means(start: str) -> None:
    a, b = drawn(1), drawn(2, (5, 7, 3, 3), sparsity=0.6)
    books, report = shared(bare(a=a, b=b), entries=8, start=start, seed=3)
    for label, w in (("a", a), ("b", b)):
        best = kmeans(w[w != 0], 8, start, 3)
        book = books[label]
        assert book.table[book.table != 0].tolist() == best.table.tolist()
        assert float((book.decode() - w).double().square().sum()) == pytest.approx(best.sse)
        assert torch.equal(book.decode() == 0, w == 0)
    assert report.tables["layers"]["mse"].tolist()[0] * a.numel() == pytest.approx(kmeans(a, 8, start, 3).sse)


def test_one_table_for_all_layers_is_that_of_all_their_weights() -> None:
    a, b, c = drawn(1), 0.1 * drawn(2, sparsity=0.5), drawn(3)
    books, _ = shared(bare(a=a, b=b, c=c), entries=16, allocation="global", per_layer={"c": 4})
    everything = torch.cat([a.flatten(), b[b != 0]])
    common = set(kmeans(everything, 16).table.tolist())
    assert {v for label in "ab" for v in books[label].table.tolist() if v} == common
    assert len(books["b"].table) < len(books["a"].table)  # only what it uses is stored with it
    assert books["c"].table.tolist() == kmeans(c, 4).table.tolist()


def test_the_real_file_shrinks_with_the_table() -> None:
    net = zoo.load("mlp-32")
    sizes = [
        packfile.size(apply(net, Step("share_weights", {"entries": k}), None)[0]).value for k in (4, 16, 256)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < packfile.size(net).value / 8


# ---------------------------------------------------------------- an entry moved by hand


@given(st.integers(0, 5), st.floats(-3, 3, width=32), st.booleans())
def test_dragging_an_entry_equals_recomputing(number: int, value: float, everywhere: bool) -> None:
    a, b = drawn(4, sparsity=0.3), drawn(5)
    allocation = "global" if everywhere else "layer"
    before, _ = shared(bare(a=a, b=b), entries=6, allocation=allocation)
    after, report = shared(
        bare(a=a, b=b), entries=6, allocation=allocation, by_hand={"a": {str(number): value}}
    )
    value = float(f"{value:.10g}")
    entry = sorted(before["a"].table[before["a"].table != 0].tolist())[number]
    for label, w in (("a", a), ("b", b)):
        old, new = before[label].decode(), after[label].decode()
        goes = (old == entry) & (everywhere or label == "a")
        assert torch.equal(new, torch.where(goes, torch.tensor(value, dtype=torch.float32), old))
        mse = float((new - w).double().square().mean())
        assert report.tables["layers"].set_index("layer")["mse"][label] == pytest.approx(mse)


def test_an_entry_that_the_table_lacks_is_named() -> None:
    _, report = shared(bare(a=drawn(4)), entries=4, by_hand={"a": {"3": 1.0, "9": 1.0}})
    assert "Set by hand, but not in the table: 9 of a." in report.notes


# ---------------------------------------------------------------- large models: from an index, and by rows


def pool_of(bundle: Bundle, index: type[Index]) -> Any:
    weights = dict(count.weights(bundle))
    if index is SortedIndex:
        return lambda layers: SortedIndex(torch.cat([weights[x].flatten() for x in layers]))
    return lambda layers: HistogramIndex([weights[x] for x in layers])


@pytest.mark.parametrize("allocation", ["layer", "global"])
@pytest.mark.parametrize("sparsity", [0.0, 0.7])
def test_a_layer_alone_becomes_what_it_becomes_in_its_net(allocation: str, sparsity: float) -> None:
    net = bare(a=drawn(1, sparsity=sparsity), b=0.3 * drawn(2, sparsity=sparsity))
    step = Step("share_weights", {"entries": 12, "allocation": allocation, "by_hand": {"a": {"2": 0.5}}})
    whole, report = apply(net, step, None)
    pool = pool_of(net, SortedIndex)
    for label in "ab":
        alone, _ = layerwise.apply(layerwise.of_layer(net, label), step, ["a", "b"], pool)
        ours, theirs = (x.params[f"{label}.weight"].decode() for x in (alone, whole))
        assert (ours - theirs).abs().max() < 1e-6
    table = sharing.ranked_table(dict(whole.lineage.steps[-1].settings), ["a", "b"], pool)
    assert table["shared"].tolist() == report.tables["layers"]["shared"].tolist()
    np.testing.assert_allclose(table["mse"], report.tables["layers"]["mse"], rtol=1e-5)
    np.testing.assert_allclose(table["sqnr_db"], report.tables["layers"]["sqnr_db"], rtol=1e-5)


def test_a_coarse_index_gives_nearly_the_same_table() -> None:
    w = drawn(6, (300, 200), sparsity=0.5)
    fine, coarse = (sharing.table_of(each, 16, "best") for each in (w, HistogramIndex([w])))
    lost = [float((sharing.share(w, t).decode() - w).double().square().sum()) for t in (fine, coarse)]
    assert lost[1] <= 1.02 * lost[0]
