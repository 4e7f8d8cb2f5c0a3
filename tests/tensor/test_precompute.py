"""What a slider shows ahead of the server is what the technique then says, to the last digit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.techniques  # noqa: F401  (fills the registry)
from engine.net import zoo
from engine.recipe import run, technique
from engine.tensor import masks, precompute
from engine.tensor.sorted_index import SortedIndex
from engine.types import weight_layers

NET = zoo.load("mlp-32")
WEIGHTS = {label: NET.params[name].decode() for label, name in weight_layers(NET).items()}
STOPS = {
    "sparsity": [0.0, 0.25, 0.5, 0.9, 0.995],
    "threshold": [0.001, 0.01, 0.1, 0.9],
    "quality": [0.0, 0.5, 2.0],
}


@pytest.mark.parametrize("allocation", ["layer", "global"])
@pytest.mark.parametrize("by", list(STOPS))
@pytest.mark.parametrize("layer", list(WEIGHTS))
def test_removals_are_the_rows_of_the_technique(by: str, allocation: str, layer: str) -> None:
    ranked = SortedIndex([WEIGHTS[layer]] if allocation == "layer" else list(WEIGHTS.values()))
    deviation = masks.quality_threshold(WEIGHTS[layer], 1.0)
    table = precompute.removals(SortedIndex(WEIGHTS[layer]), ranked, by, STOPS[by], deviation)
    for stop, row in zip(STOPS[by], table.itertuples(), strict=True):
        step = technique.step("prune_weights", by=by, allocation=allocation, **{by: stop})
        report = run.apply(NET, step, None)[1].tables["layers"].set_index("layer").loc[layer]
        assert row.sparsity == report["sparsity"]
        assert row.threshold == report["threshold"]


@given(
    st.lists(st.floats(0, 2, width=32), min_size=1, max_size=30),
    st.lists(st.floats(0, 2, width=32), min_size=1, max_size=20).map(sorted),
)
def test_a_weight_goes_at_the_first_cut_that_reaches_it(sizes: list[float], cuts: list[float]) -> None:
    found = precompute.stop_of_removal(np.array(sizes, np.float32), cuts)
    for size, stop in zip(sizes, found.tolist(), strict=True):
        reached = [i for i, cut in enumerate(cuts) if size <= cut]
        assert stop == (reached[0] if reached else 254)


def test_gaps_between_kernels_never_go() -> None:
    assert precompute.stop_of_removal(np.array([np.nan, 0.0], np.float32), [0.0]).tolist() == [255, 0]
