"""Records: the stored files are what their results say, a run on a few images, and the verdict."""

import json
from pathlib import Path
from typing import Any

import pytest

import engine.techniques  # noqa: F401  (fills the registry)
from engine import cli
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.file import packfile
from engine.jobs import shipped
from engine.net import zoo
from engine.papers import han, harness, ingredients, record, record_curve
from engine.papers.han_deep import RATIO
from engine.papers.harness import Paper
from engine.recipe import ready, technique
from engine.types import Progress, Recipe, Step


def short() -> list[tuple[str, dict[str, Any]]]:
    """The steps of a record, each trained for an epoch."""
    steps = ready.RECORD["matrices"]
    cut = [(name, {**own, **({"epochs": 1} if "epochs" in own else {})}) for name, own in steps]
    return [*cut[:-1], ("trim", {"samples": 100})]


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


def test_a_run_measures_the_file_of_each_step(
    few: Data, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "papers")
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "trained")
    steps = short()
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


# ---------------------------------------------------------------- ingredients, and the curve


def test_every_choice_of_ingredients_has_a_file_whose_steps_lead_back_to_the_original(
    few: Data, tmp_path: Path
) -> None:
    whole = short()
    shares: list[float] = []
    told = Progress(lambda share, _: shares.append(share))
    outcome = ingredients.run("mlp-32", whole, 0, told, tmp_path)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    stored = {"tables": {name: harness.rows_of(table) for name, table in outcome.tables.items()}}
    assert len(stored["tables"]["choices"]) == 64
    for chosen in ingredients.choices():
        rows = ingredients.files(stored, chosen)
        titles = [technique.get(step.technique).title for step in ingredients.steps(chosen, whole)]
        assert [row["step"] for row in rows] == ["original", *titles]
    everything = ingredients.files(stored, ingredients.OWN)
    assert [row["step"] for row in everything][1:] == [technique.get(name).title for name, _ in whole]
    assert outcome.figures["bytes"] == everything[-1]["bytes"]
    untrimmed = ingredients.files(stored, ingredients.OWN[:-1])
    assert outcome.figures["bytes without trim"] == untrimmed[-1]["bytes"] == everything[-2]["bytes"]
    *_, (last, _) = record.made(
        zoo.load("mlp-32"), ingredients.steps(ingredients.OWN, whole), 0, few, Progress(), tmp_path / "again"
    )
    assert len(packfile.pack(last)) == everything[-1]["bytes"]


def test_with_its_own_ingredients_the_file_is_the_record() -> None:
    stored, net = harness.results(ingredients.INGREDIENTS)[0], ingredients.NET
    assert len(stored["tables"]["choices"]) == 2 ** len(ingredients.ALL)
    rows = ingredients.files(stored, ingredients.OWN)
    assert rows[-1]["bytes"] == len(record.path(net).read_bytes())
    steps = harness.results(record.LENET_300_100)[0]["tables"]["steps"]
    assert [{name: row[name] for name in record.STEP_COLUMNS} for row in rows] == steps


def test_an_ingredient_that_changes_nothing_does_not_pay() -> None:
    paper = ingredients.INGREDIENTS
    ours = {claim.name: [2.0] for claim in paper.claims} | {"bytes": [1.0]}
    assert paper.judge(ours) == "reproduced"
    assert paper.judge(ours | {"bytes without trim": [1.0]}) == "not reached"
    assert paper.judge(ours | {"bytes without trim": [1.0], "validation error": [1.0]}) == "reproduced"
    assert (
        paper.judge(ours | {"bytes with a teacher": [0.5], "validation error with a teacher": [0.5]})
        == "reproduced"
    )


@pytest.mark.usefixtures("few")
def test_the_curve_has_a_decoded_file_at_each_share_of_zeros(tmp_path: Path) -> None:
    outcome = record_curve.run("mlp-32", short(), 0, Progress(), tmp_path)
    rows = outcome.tables["curve"].to_dict("records")
    assert [row["sparsity"] for row in rows] == list(record_curve.SPARSITIES)
    sizes = [row["bytes"] for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert outcome.figures["bytes at 97 % zeros"] == sizes[record_curve.SPARSITIES.index(0.97)]
    assert set(outcome.figures) == {claim.name for claim in record_curve.CURVE.claims}


def test_the_curve_is_below_a_published_file_or_not() -> None:
    errors = dict(zip(record_curve.SPARSITIES, (0.8, 1.0, 1.2, 1.8, 2.0), strict=True))

    def ours(size: float) -> dict[str, list[float]]:
        found = {record_curve.named("test error", x): [error] for x, error in errors.items()}
        return found | {record_curve.named("bytes", x): [size] for x in errors}

    assert record_curve.CURVE.judge(ours(8560)) == "reproduced"  # Oktay: 8,560 B at 1.9 %
    assert record_curve.CURVE.judge(ours(8561)) == "not reached"
    assert record_curve.between([(2.0, 10.0)], 1.9) == float("inf")
