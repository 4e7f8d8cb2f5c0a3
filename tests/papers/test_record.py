"""Records: the stored files are what their results say, a run on a few images, and the verdict."""

import json
from pathlib import Path

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine import cli
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.file import packfile
from engine.jobs import shipped
from engine.net import zoo
from engine.papers import han, harness, record
from engine.papers.han_deep import RATIO
from engine.papers.harness import Paper
from engine.recipe import ready, technique
from engine.types import Progress, Recipe, Step

RECORDS = [paper for paper in record.RECORDS if 0 in harness.results(paper)]  # whose files are stored


@pytest.mark.parametrize("paper", RECORDS, ids=lambda paper: str(paper.name))
def test_the_stored_file_is_as_long_and_as_right_as_its_results_say(
    paper: Paper, capsys: pytest.CaptureFixture[str]
) -> None:
    """Decoded anew, it is asked for its class of all 10,000 test images."""
    net, stored = paper.recipe["net"], harness.results(paper)[0]["figures"]
    data, images = record.path(net).read_bytes(), sets.load("mnist").test
    assert len(data) == stored["bytes"]
    read = packfile.unpack(data)
    assert [step.technique for step in read.lineage] == [name for name, _ in paper.recipe["steps"]]
    assert len(images) == 10_000
    wrong = int((measure.predictions(read, images) != images.labels).sum())
    assert wrong / 100 == pytest.approx(stored[han.AFTER], abs=1e-9)
    cli.main(["inspect", str(record.path(net)), "--answers", "--take-for", net, "--json"])
    found = json.loads(capsys.readouterr().out)
    figures = {each["name"]: each["value"] for each in found["against the original"]}
    assert found["size"]["value"] == stored["bytes"]
    assert figures["ratio"] == pytest.approx(stored[RATIO], rel=1e-12)
    assert 100 * (1 - figures["accuracy"]) == pytest.approx(stored[han.AFTER], abs=1e-9)


@pytest.mark.parametrize("paper", RECORDS, ids=lambda paper: str(paper.name))
def test_the_waterfall_adds_up_to_the_file(paper: Paper) -> None:
    for seed in harness.results(paper).values():
        rows = seed["tables"]["steps"]
        assert rows[0]["step"] == "original"
        parts = record.waterfall(rows)
        assert sum(part for _, part in parts) == rows[-1]["bytes"] == seed["figures"]["bytes"]


def test_a_run_measures_the_file_of_each_step(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    whole = sets.load("mnist")
    parts = (p.stratified(n) for p, n in ((whole.train, 300), (whole.validation, 100), (whole.test, 100)))
    few = Data(whole.name, *parts, whole.classes)
    monkeypatch.setattr(sets, "load", lambda name: few)
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "papers")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "trained")
    steps = [
        [name, {**own, **({"epochs": 1} if "epochs" in own else {})}]
        for name, own in ready.RECORD["matrices"]
    ]
    steps[-1] = ["trim", {"samples": 100}]
    shares: list[float] = []
    told = Progress(lambda share, _: shares.append(share))
    outcome = record.run("mlp-32", {"net": "mlp-32", "steps": steps}, 0, told, tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    rows = outcome.tables["steps"].to_dict("records")
    assert [row["step"] for row in rows] == ["original", *(technique.get(name).title for name, _ in steps)]
    sizes = [row["bytes"] for row in rows]
    assert sizes[-1] < sizes[0] / 8
    assert outcome.figures["bytes"] == sizes[-1] == len(record.path("mlp-32").read_bytes())
    assert outcome.figures[RATIO] == pytest.approx(102_096 / sizes[-1], rel=0.02)
    read = packfile.unpack(record.path("mlp-32").read_bytes())
    assert outcome.figures[han.AFTER] == pytest.approx(100 * (1 - measure.accuracy(read, few.test).value))
    assert len(packfile.pack(zoo.load("mlp-32"))) == sizes[0]
    kept = shipped.get(zoo.load("mlp-32"), Recipe(read.lineage.steps[:-1]), few)
    assert kept is not None
    assert len(packfile.pack(kept[0])) == sizes[-2]


def test_a_seed_goes_to_the_steps_that_have_one() -> None:
    assert record.seeded(Step("prune_iteratively", {}), 3).settings["seed"] == 3
    assert "seed" not in record.seeded(Step("trim", {}), 3).settings
    assert "seed" in technique.get("prune_iteratively").knobs


@pytest.mark.parametrize(
    ("ratio", "error", "verdict"),
    [
        (100.0, 1.64, "reproduced"),
        (124.0, 1.6, "beaten"),
        (99.0, 1.0, "not reached"),
        (200.0, 1.65, "not reached"),
    ],
)
def test_the_verdict(ratio: float, error: float, verdict: str) -> None:
    ours = {RATIO: [ratio] * 3, han.AFTER: [error] * 3}
    assert record.LENET_300_100.judge(ours) == verdict
