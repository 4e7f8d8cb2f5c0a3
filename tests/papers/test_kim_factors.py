"""Factor transfer run again: three students of one seed on a few images, and the verdict over all."""

from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data.sets import Data
from engine.figures import measure
from engine.net import zoo
from engine.net.narrower import fresh
from engine.net.train import Plan, fit
from engine.papers import kim_factors as paper
from engine.types import Arch, Progress


def test_a_run_trains_the_same_student_three_times(few: Data, tmp_path: Path) -> None:
    recipe = {**paper.RECIPE, "net": "lenet-5", "students": {"epochs": 2, "learning_rate": 0.01}}
    recipe["factor_transfer"] = {"paraphraser_epochs": 1}
    shares: list[float] = []
    outcome = paper.run(recipe, 3, Progress(lambda share, _: shares.append(share)), tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    figures = outcome.figures
    assert {claim.name for claim in paper.FACTORS.claims} == set(figures)
    for way in paper.WAYS:
        assert figures[paper.GAIN[way]] == pytest.approx(figures[paper.PLAIN] - figures[paper.ERROR[way]])
    assert len(outcome.tables["validation"]) == 4
    net = fresh(Arch("lenet-5-small"), 3)
    fit(net, few.train, Plan(2, 0.01, optimizer="adam", weight_decay=0.0, seed=3))
    assert figures[paper.PLAIN] == pytest.approx(100 * (1 - measure.share_right(net, few.test)))
    taught = 100 * (1 - measure.accuracy(zoo.load("lenet-5"), few.test).value)
    assert figures[paper.TEACHER] == pytest.approx(taught)


@pytest.mark.parametrize(
    ("factors", "answers", "verdict"),
    [
        ((0.1, 0.4, 0.9), (0.1, 0.4, 0.9), "reproduced"),
        ((0.1, 0.39, 0.9), (0.5, 0.5, 0.5), "not reached"),
        ((0.5, 0.5, 0.5), (0.0, 0.5, 0.9), "not reached"),
        ((0.5, 0.64, 0.7), (0.4, 0.45, 0.7), "beaten"),
    ],
)
def test_the_verdict(factors: tuple[float, ...], answers: tuple[float, ...], verdict: str) -> None:
    ways = {"factor_transfer": list(factors), "distill": list(answers)}
    assert paper.judge({paper.GAIN[way]: gains for way, gains in ways.items()}) == verdict
