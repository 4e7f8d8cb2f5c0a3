"""Curves as jobs and files: real bytes and accuracy at each point, worked out once, and never out of date."""

from __future__ import annotations

import dataclasses
import json

import job_worker
import pytest

from engine import cli
from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.jobs import curves, scans, tasks
from engine.jobs.job import UNASKED
from engine.net import zoo
from engine.recipe import curve, run, technique
from engine.types import Cancelled, Progress, Recipe, SlimscopeError, Step

MODEL, DATA = "mlp-32", "mnist"
FEW = 5


@pytest.fixture(autouse=True)
def _world(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(curves, "MOST_POINTS", FEW)
    with job_worker.registered():
        yield


def payload(*steps: Step, number: int = 1, setting: str = "share") -> dict:
    task = {"model": MODEL, "recipe": Recipe(steps).key, "data": DATA, "step": number, "setting": setting}
    return json.loads(json.dumps(task))


def shrinking(share: float) -> Step:
    return Step("shrink", {"share": share})


def of(*steps: Step, number: int = 1, setting: str = "share") -> curves.Course:
    return curves.course(MODEL, technique.complete(Recipe(steps)), DATA, number, setting)


def test_a_point_is_the_real_file_and_the_accuracy_on_validation():
    tasks.perform("curve", payload(shrinking(0.7)), Progress())
    rows = {row["value"]: row for row in curves.known(of(shrinking(0.7)), 0.7)}
    assert {None, 0.7, 0.0, 0.999} <= set(rows)
    bundle, _ = run.run(zoo.load(MODEL), Recipe((shrinking(0.7),)), sets.load(DATA))
    truth = measure.accuracy(bundle, sets.load(DATA).validation)
    assert rows[0.7]["bytes"] == packfile.size(bundle).value
    assert (rows[0.7]["accuracy"], (rows[0.7]["low"], rows[0.7]["high"])) == (truth.value, truth.spread)
    assert rows[0.7]["n"] == 5000
    assert rows[None]["bytes"] == packfile.size(zoo.load(MODEL)).value


def test_the_present_value_comes_first_and_then_coarse_to_fine(monkeypatch):
    asked, real = [], scans.measuring

    def watched(*given):
        point = real(*given)

        def noted(recipe, part):
            asked.append(recipe.steps[0].settings["share"] if len(recipe) else None)
            return point(recipe, part)

        return noted

    monkeypatch.setattr(scans, "measuring", watched)
    tasks.perform("curve", payload(shrinking(0.7)), Progress())
    values = of(shrinking(0.7)).values
    assert asked[:4] == [None, 0.7, values[0], values[-1]]
    assert len(asked) == 2 + FEW  # 0.7 is no stop of the slider


def test_no_point_is_worked_out_twice_and_a_sweep_shares_them(monkeypatch):
    whole = {"model": MODEL, "recipe": Recipe((shrinking(0.5),)).key, "data": DATA, "step": 1}
    tasks.perform("sweep", {**whole, "vary": {"share": [0.0, 0.999]}, "samples": 5000}, Progress())
    assert [row["value"] for row in curves.known(of(shrinking(0.2)), 0.2)] == [None, 0.0, 0.999]
    tasks.perform("curve", payload(shrinking(0.2)), Progress())

    def nothing(*given):
        return lambda recipe, part: pytest.fail(f"measured again: {recipe.key}")

    monkeypatch.setattr(scans, "measuring", nothing)
    tasks.perform("curve", payload(shrinking(0.2)), Progress())


def test_what_was_found_before_a_curve_was_stopped_is_kept():
    rows: list = []
    stop = Progress(lambda share, row: rows.append(row) if row else None, lambda: len(rows) >= 3)
    with pytest.raises(Cancelled):
        tasks.perform("curve", payload(shrinking(0.7)), stop)
    assert len(curves.known(of(shrinking(0.7)), 0.7)) == 3


def test_later_steps_belong_to_the_curve_and_earlier_ones_are_followed_once():
    steps = (Step("quantize", {"bits": 4}), shrinking(0.5), Step("quantize", {"bits": 8}))
    tasks.perform("curve", payload(*steps, number=2), Progress())
    rows = {row["value"]: row for row in curves.known(of(*steps, number=2), 0.5)}
    bundle, _ = run.run(zoo.load(MODEL), technique.complete(Recipe(steps)), sets.load(DATA))
    assert rows[0.5]["bytes"] == packfile.size(bundle).value


def test_nothing_is_trained_for_a_curve():
    steps = (shrinking(0.5), Step("learn"))
    tasks.perform("curve", payload(*steps), Progress())
    course = of(*steps)
    assert [row["value"] for row in curves.known(course, 0.5)] == [None]
    tasks.perform("apply", {"model": MODEL, "recipe": Recipe(steps).key, "data": DATA}, Progress())
    assert curves.missing(course, curves.known(course, 0.5), 0.5) == [0.5]
    tasks.perform("curve", payload(*steps), Progress())
    assert [row["value"] for row in curves.known(course, 0.5)] == [None, 0.5]
    untrained = payload(Step("learn", {"epochs": 3}), shrinking(0.5), number=2)
    with pytest.raises(SlimscopeError, match=r"step 1 \(learn\) is not trained yet"):
        tasks.perform("curve", untrained, Progress())


def test_a_curve_of_a_setting_that_is_not_there_is_refused():
    with pytest.raises(SlimscopeError, match="setting 'depth' is not one of step 1"):
        tasks.perform("curve", payload(shrinking(0.5), setting="depth"), Progress())
    with pytest.raises(SlimscopeError, match="accuracy needs data"):
        tasks.perform("curve", {**payload(shrinking(0.5)), "data": ""}, Progress())


def test_a_large_model_has_few_points_and_a_very_large_one_says_why_it_has_none(monkeypatch):
    course = of(shrinking(0.5))
    assert curves.why_not(course) == ""
    monkeypatch.setattr(curves, "LARGEST", 1000)
    assert curves.why_not(course).startswith("With 25,450 weights")
    monkeypatch.setattr(curves.layerwise, "LARGE", 1000)
    assert of(shrinking(0.5)).most == curves.FEW_POINTS


# ---------------------------------------------------------------- stored


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the stored curve of one technique, which is where curves are looked for."""
    monkeypatch.setattr(curves, "FOLDER", tmp_path / "curves")
    cli.main(["curves", MODEL, "--technique", "shrink", "--out", str(tmp_path / "curves"), "--json"])
    return tmp_path / "curves"


def test_a_stored_curve_is_there_without_a_job(folder):
    alone = curves.alone(MODEL, DATA, "shrink")
    rows = curves.known(alone, 0.5)
    assert curves.missing(alone, rows, 0.5) == []
    again = curves.made(alone, Progress())
    assert [{**row, "refused": ""} for row in again["rows"]] == rows


def test_a_stored_curve_of_other_settings_formats_or_weights_is_out_of_date(folder, monkeypatch):
    alone, known = curves.alone(MODEL, DATA, "shrink"), technique.get("shrink")
    assert curves.stored(alone)
    assert curves.stored(of(Step("shrink", {"keep_sign": False}))) == []
    assert curves.stored(of(shrinking(0.5), shrinking(0.5))) == []
    assert curves.stored(dataclasses.replace(alone, model=zoo.load("lenet-5-small"))) == []
    with monkeypatch.context() as patch:
        patch.setattr(packfile, "BYTES", packfile.BYTES + 1)
        assert curves.stored(alone) == []
    with monkeypatch.context() as patch:
        patch.setattr(curves.keys, "VERSION", curves.keys.VERSION + 1)
        assert curves.stored(alone) == []
    with monkeypatch.context() as patch:
        changed = dataclasses.replace(known, defaults={**known.defaults, "keep_sign": False})
        patch.setitem(technique.REGISTRY, "shrink", changed)
        assert curves.stored(curves.alone(MODEL, DATA, "shrink")) == []
    monkeypatch.setattr(curves, "VERSION", curves.VERSION + 1)
    assert curves.stored(alone) == []


def test_what_is_up_to_date_is_not_measured_again_unless_told(folder, capsys):
    told = ["curves", MODEL, "--technique", "shrink", "--out", str(folder), "--json"]
    capsys.readouterr()
    cli.main(told)
    assert json.loads(capsys.readouterr().out) == {MODEL: 0}
    cli.main([*told, "--again"])
    assert json.loads(capsys.readouterr().out) == {MODEL: 2 + FEW}
    assert len(json.loads((folder / f"{MODEL}.json").read_text())["curves"]) == 1


def test_fewer_points_are_measured_when_told(folder, capsys):
    told = ["curves", MODEL, "--technique", "shrink", "--out", str(folder), "--again", "--json"]
    capsys.readouterr()
    cli.main([*told, "--points", "3"])
    assert json.loads(capsys.readouterr().out) == {MODEL: 2 + 3}
    with pytest.raises(SystemExit):
        cli.main([*told, "--points", "2"])
    assert "--points 2: allowed are 3 or more" in capsys.readouterr().err


def test_what_is_not_trained_is_not_written(capsys):
    with pytest.raises(SystemExit):
        cli.main(["curves", MODEL, "--technique", "learn"])
    assert "learn trains" in capsys.readouterr().err


FILES = sorted(curves.FOLDER.glob("*.json"))


def test_the_model_that_greets_a_visitor_has_its_curves():
    names = [
        name for name, known in technique.REGISTRY.items() if known.runs == "instant" and name != "shrink"
    ]
    along_a_slider = {name: curves.alone("lenet-300-100", DATA, name) for name in names}
    assert "quantize" in along_a_slider
    for name, course in along_a_slider.items():
        assert course is None or curves.stored(course), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_stored_curves_are_of_the_zoo_and_ordered(path):
    assert path.stem in zoo.trained()
    for one in json.loads(path.read_text())["curves"]:
        values = [row["value"] for row in one["rows"]]
        assert values[0] is None
        assert values[1:] == sorted(set(values[1:]))
        stops = curve.values_of(one["technique"], one["setting"], zoo.load(path.stem))
        default = technique.get(one["technique"]).defaults[one["setting"]]  # it may lie between two stops
        assert set(values[1:]) <= {*stops, default}


@pytest.mark.parametrize("name", ["prune_weights", "quantize", "low_rank"])
def test_a_few_stored_points_are_what_is_measured_today(name):
    """Bytes exactly; accuracy but for the few samples that another order of additions may tip over."""
    alone = curves.alone("lenet-300-100", DATA, name)
    rows, point = curves.stored(alone), curves.measuring(alone, Progress())
    for row in (rows[0], rows[len(rows) // 2], rows[-2]):
        today = point(alone.at(row["value"]), Progress())
        assert today["bytes"] == row["bytes"]
        assert abs(today["accuracy"] - row["accuracy"]) <= 3 / row["n"]


def test_a_curve_is_a_job_that_nobody_asked_for():
    assert set(UNASKED) <= set(tasks.KINDS)


def test_a_model_that_can_not_be_measured_says_why_and_ends(monkeypatch):
    def fails(*given):
        raise SlimscopeError("outputs are not numbers")

    monkeypatch.setattr(scans.testset, "predicted", fails)
    answer = tasks.perform("curve", payload(shrinking(0.5)), Progress())
    assert answer["refused"] == "outputs are not numbers"
    assert curves.known(of(shrinking(0.5)), 0.5) == []
