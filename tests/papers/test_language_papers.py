"""GPTQ and Wanda run again on a language model: what one seed finds, and the verdicts."""

from pathlib import Path

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import perplexity
from engine.net import zoo
from engine.papers import frantar_gptq as gptq
from engine.papers import sun_wanda as sparse
from engine.types import Progress, SlimscopeError, weight_layers

MOST = [label for label in weight_layers(zoo.load("glass-en")) if label != "layers.3.up"]  # stay as they are


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sets.load("language")
    parts = (part.take(slice(0, count)) for part, count in ((whole.train, 60), (whole.validation, 2)))
    small = Data(whole.name, *parts, whole.test.take(slice(0, 6)), classes=whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: small)


def test_a_run_tells_how_much_of_the_loss_is_left(tmp_path: Path) -> None:
    steps = {**gptq.RECIPE["weight_only"], "samples": 50, "leave_out": MOST}
    outcome = gptq.run({**gptq.RECIPE, "weight_only": steps}, 0, Progress(), tmp_path)
    figures, table = outcome.figures, outcome.tables["models"].set_index(["model", "part"])
    assert {claim.name for claim in gptq.GPTQ.claims} == set(figures)
    assert len(table) == 2 * (1 + len(gptq.ROUNDED))
    for method in gptq.FITTED:
        lost = figures[gptq.ROUNDED[method]] - figures[gptq.FLOAT]
        of = figures[gptq.ROUNDED["rtn"]] - figures[gptq.FLOAT]
        assert figures[gptq.SHARE[method]] == pytest.approx(lost / of, rel=1e-3)
        assert figures[gptq.SHARE[method]] < figures[gptq.MOST[method]]
    sizes = [table.loc[(name, "test")]["bytes"] for name in (gptq.FLOAT, gptq.ROUNDED["gptq"])]
    assert sizes[1] < sizes[0]


@pytest.mark.parametrize(
    ("share", "most", "verdict"),
    [(0.5, 0.9, "reproduced"), (0.51, 0.9, "not reached"), (0.3, 1.0, "not reached")],
)
def test_the_verdict_on_three_bits(share: float, most: float, verdict: str) -> None:
    ours = {gptq.SHARE[gptq.JUDGED]: [9.0, share, -9.0], gptq.MOST[gptq.JUDGED]: [9.0, most, -9.0]}
    assert gptq.judge(ours) == verdict


def test_a_run_compares_both_ways_with_both_ranks_by_size(tmp_path: Path) -> None:
    steps = {
        way: [name, {**own, "samples": 50, "leave_out": MOST}]
        for way, (name, own) in sparse.RECIPE["steps"].items()
    }
    recipe = {**sparse.RECIPE, "steps": steps, "all": {"sparsity": 0.5}}
    outcome = sparse.run(recipe, 0, Progress(), tmp_path)
    figures = outcome.figures
    assert {claim.name for claim in sparse.WANDA.claims} == set(figures)
    for way, rival in sparse.PAIRS:
        change = 100 * (figures[sparse.PRUNED[way]] / figures[sparse.PRUNED[rival]] - 1)
        assert figures[sparse.CHANGE[way, rival]] == pytest.approx(change, rel=1e-3)
        assert figures[sparse.CHANGE[way, rival]] < figures[sparse.MOST[way, rival]]


@pytest.mark.parametrize(
    ("within", "over", "verdict"),
    [([-1.0, -5.0], [-2.0, -2.0], "reproduced"), ([-1.0, 0.0], [-2.0, -2.0], "not reached")],
)
def test_the_verdict_on_half_of_the_weights(within: list[float], over: list[float], verdict: str) -> None:
    ours = {sparse.MOST[sparse.JUDGED, "layer"]: within, sparse.MOST[sparse.JUDGED, "global"]: over}
    assert sparse.judge(ours) == verdict
    assert sparse.judge({**ours, sparse.MOST[sparse.JUDGED, "global"]: [0.1, -2.0]}) == "not reached"


def test_there_is_no_share_of_a_loss_that_is_none() -> None:
    before = torch.rand(5, 2, 8, generator=torch.Generator().manual_seed(0))
    with pytest.raises(SlimscopeError, match="the reference loses no perplexity"):
        perplexity.share_of_loss(before, before, before + 1)
    share = perplexity.share_of_loss(before, before + 1, before)
    assert (share.value, share.spread) == (0.0, (0.0, 0.0))
