"""Sorted sizes and the two ways to share a sparsity out, against the weights themselves."""

from __future__ import annotations

from typing import Any

import torch

from engine.tensor import masks, ranking
from engine.tensor.sorted_index import SortedIndex

GENERATOR = torch.Generator().manual_seed(2)
WEIGHTS = {
    "wide": torch.randn(400, generator=GENERATOR),
    "narrow": 0.1 * torch.randn(300, generator=GENERATOR),
}
SETTINGS: dict[str, Any] = {
    "by": "sparsity",
    "sparsity": 0.6,
    "allocation": "layer",
    "per_layer": {},
    "leave_out": [],
    "score": "magnitude",
    "granularity": "element",
}


def pool(names: tuple[str, ...]) -> SortedIndex:
    return SortedIndex(torch.cat([WEIGHTS[name] for name in names]))


def test_one_threshold_takes_what_ranking_all_weights_together_does() -> None:
    table = {
        way: ranking.shares_removed({**SETTINGS, "allocation": way}, list(WEIGHTS), pool)
        for way in ("global", "layer")
    }
    kept = masks.by_sparsity(torch.cat([*WEIGHTS.values()]), 0.6)
    for name, mask in zip(WEIGHTS, kept.split([400, 300]), strict=True):
        removed = int((~mask).sum())
        assert round(table["global"][name] * mask.numel()) == removed
        assert table["layer"][name] == 0.6
    assert table["global"]["narrow"] > 0.9 > 0.5 > table["global"]["wide"]
    rows = ranking.removals({**SETTINGS, "allocation": "global"}, list(WEIGHTS), pool).set_index("layer")
    assert dict(rows["sparsity"]) == table["global"]
    assert ranking.shares_removed({**SETTINGS, "leave_out": ["wide"]}, list(WEIGHTS), pool).keys() == {
        "narrow"
    }


def test_sorted_sizes_are_the_sorted_magnitudes() -> None:
    curve = ranking.sorted_sizes(SortedIndex(WEIGHTS["wide"]), 400)
    assert torch.equal(torch.tensor(curve["size"], dtype=torch.float32), WEIGHTS["wide"].abs().sort().values)
    few = ranking.sorted_sizes(SortedIndex(WEIGHTS["wide"]), 10)
    assert len(few) == 10
    assert few["size"].iloc[-1] == curve["size"].iloc[-1]
