"""What jobs do: trained once, kept, and read back as if it had just been computed."""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from pathlib import Path

import job_worker
import pytest
import torch

from engine.data import sets as datasets
from engine.data.sets import Samples
from engine.figures import measure
from engine.file import packfile
from engine.jobs import as_json, keys, recipes, tasks, testset
from engine.net import zoo
from engine.recipe import run
from engine.types import Cancelled, Progress, Recipe, SlimscopeError, Step

MODEL, DATA = "mlp-32", "mnist"
SHRINK, LEARN = Step("shrink", {"share": 0.6}), Step("learn")


@pytest.fixture(autouse=True, scope="module")
def _world(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, job_worker.registered():
        patch.setenv("SLIMSCOPE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


class Watch:
    """Collects what a computation reports, and cancels it once it has seen `until` rows."""

    def __init__(self, until: float = float("inf")) -> None:
        self.shares: list[float] = []
        self.rows: list[dict] = []
        self.progress = Progress(self._hear, lambda: len(self.rows) >= until)

    def _hear(self, share, row):
        self.shares.append(share)
        self.rows += [] if row is None else [dict(row)]


def task(*steps: Step, **more) -> dict:
    """A payload as it arrives in a worker: through JSON."""
    return json.loads(json.dumps({"model": MODEL, "recipe": Recipe(steps).key, "data": DATA, **more}))


@pytest.fixture(scope="module")
def applied() -> Watch:
    """An `apply` job of two trained steps."""
    watch = Watch()
    tasks.perform("apply", task(LEARN, SHRINK, LEARN), watch.progress)
    return watch


def test_before_training_the_missing_step_is_named():
    recipe = Recipe((SHRINK, Step("shrink", {}, False), Step("learn", {"epochs": 9}), SHRINK))
    missing = recipes.after(MODEL, recipe, DATA)
    assert isinstance(missing, recipes.Missing)
    assert (missing.number, len(missing.recipe)) == (2, 2)
    assert recipes.trained(MODEL, missing.recipe, DATA) is None
    with pytest.raises(SlimscopeError, match=r"step 2 \(learn\) is not trained yet"):
        tasks.perform("accuracy", task(*recipe), Progress())


def test_apply_trains_every_step_and_says_how_far_it_is(applied):
    assert {row["step"] for row in applied.rows} == {1, 3}
    assert applied.shares == sorted(applied.shares)
    assert applied.shares[-1] == 1.0


def test_what_was_trained_is_what_the_engine_gives(applied):
    recipe = Recipe((LEARN, SHRINK, LEARN))
    bundle, reports = recipes.after(MODEL, recipe, DATA)
    expected, said = run.run(zoo.load(MODEL), recipe, datasets.load(DATA))
    assert bundle.fingerprint == expected.fingerprint
    assert bundle.lineage == expected.lineage
    assert bundle.origin.fingerprint == zoo.load(MODEL).fingerprint
    assert [(r.figures, r.notes, r.step) for r in reports] == [(r.figures, r.notes, r.step) for r in said]
    kept = recipes.trained(MODEL, recipe, DATA)
    assert kept is not None
    assert kept[0].fingerprint == expected.fingerprint
    assert kept[1].figures == said[-1].figures


def test_nothing_is_trained_twice(applied):
    again = Watch()
    tasks.perform("apply", task(LEARN, SHRINK, LEARN), again.progress)
    assert again.rows == []
    longer = Watch()
    tasks.perform("apply", task(LEARN, SHRINK, Step("learn", {"epochs": 2})), longer.progress)
    assert {row["step"] for row in longer.rows} == {3}


def test_defaults_left_unsaid_are_the_same_recipe(applied):
    said = Recipe((Step("learn", {"epochs": 1}), SHRINK, LEARN))
    assert recipes.trained(MODEL, said, DATA) is not None
    assert recipes.trained(MODEL, said, keys.data_spec(DATA, (0.5,), (0.5,))) is None


def test_a_cancelled_training_leaves_nothing_half_done():
    watch = Watch(until=1)
    with pytest.raises(Cancelled):
        tasks.perform("apply", task(Step("learn", {"epochs": 5})), watch.progress)
    assert recipes.trained(MODEL, Recipe((Step("learn", {"epochs": 5}),)), DATA) is None


LONG = (SHRINK, Step("learn", {"epochs": 3}))


@pytest.mark.parametrize("until", [1, 5, 8])  # in the first epoch, between two, in the second
def test_a_training_that_was_broken_off_goes_on_and_gives_the_same_net(until):
    steps = (Step("shrink", {"share": until / 10}), *LONG[1:])
    first, second = Watch(until), Watch()
    before = checkpoints()
    with pytest.raises(Cancelled):
        tasks.perform("apply", task(*steps), first.progress)
    assert len(checkpoints() - before) == 1
    tasks.perform("apply", task(*steps), second.progress)
    epochs = [row["epoch"] for row in second.rows]
    broken_off = first.rows[-1]["epoch"]
    assert [e for e in epochs if e <= broken_off] == [e for e in (1.0, 2.0) if e <= broken_off]
    assert epochs[-1] == 3.0
    unbroken, reports = run.run(zoo.load(MODEL), Recipe(steps), datasets.load(DATA))
    bundle, said = recipes.after(MODEL, Recipe(steps), DATA)
    assert bundle.fingerprint == unbroken.fingerprint
    assert (said[-1].figures, said[-1].notes) == (reports[-1].figures, reports[-1].notes)
    assert checkpoints() == before


def checkpoints() -> set[Path]:
    return set((datasets.cache_folder() / "checkpoints").glob("*/*"))


def test_a_checkpoint_serves_its_own_training_alone():
    def seen(steps: tuple[Step, ...], data: str = DATA, until: float = float("inf")) -> list[float]:
        watch = Watch(until)
        with suppress(Cancelled):
            tasks.perform("apply", {**task(*steps), "data": data}, watch.progress)
        return [row["epoch"] for row in watch.rows]

    start = Step("shrink", {"share": 0.35})
    seen((start, LONG[1]), until=7)
    for others, data in (
        ((start, Step("learn", {"epochs": 4})), DATA),
        ((Step("shrink", {"share": 0.36}), LONG[1]), DATA),
        ((start, LONG[1]), keys.data_spec(DATA, (0.3,), (0.3,))),
    ):
        assert seen(others, data)[0] == 0.2  # the first batch of five
    assert seen((start, LONG[1]))[0] == 1.0


def test_a_lost_file_is_missing_not_an_error():
    recipe = Recipe((Step("shrink", {"share": 0.1}), LEARN))
    tasks.perform("apply", task(*recipe), Progress())
    assert not isinstance(recipes.after(MODEL, recipe, DATA), recipes.Missing)
    for path in (datasets.cache_folder() / "nets").iterdir():
        hidden = path.rename(path.with_suffix(".away"))
        gone = isinstance(recipes.after(MODEL, recipe, DATA), recipes.Missing)
        hidden.rename(path)
        if gone:
            return
    pytest.fail("no file of the store holds the trained step")


def test_accuracy_is_the_full_test_and_its_paired_difference():
    recipe = Recipe((Step("shrink", {"share": 0.9}),))
    assert testset.full_accuracy(zoo.load(MODEL), recipe, keys.read_data(DATA)) is None
    result = tasks.perform("accuracy", task(*recipe), Progress())
    test, bundle = datasets.load(DATA).test, recipes.after(MODEL, recipe, DATA)[0]
    accuracy, change = (as_json.figure_of(figure) for figure in result["figures"])
    before, now = measure.predictions(zoo.load(MODEL), test), measure.predictions(bundle, test)
    assert accuracy == measure.accuracy_of(now, test.labels)
    assert change == measure.paired_difference(before, now, test.labels)
    assert change.value == pytest.approx(accuracy.value - measure.accuracy(zoo.load(MODEL), test).value)
    assert testset.full_accuracy(zoo.load(MODEL), recipe, keys.read_data(DATA)) == result
    assert torch.equal(testset.answers(zoo.load(MODEL), recipe, keys.read_data(DATA)), now)
    assert torch.equal(testset.answers(zoo.load(MODEL), Recipe(), keys.read_data(DATA)), before)


def test_accuracy_of_a_recipe_keeps_that_of_the_original_too():
    spec = keys.data_spec(DATA, (0.25,), (0.5,))  # a standardisation that no other test asks for
    assert testset.full_accuracy(zoo.load(MODEL), Recipe(), keys.read_data(spec)) is None
    tasks.perform("accuracy", {**task(SHRINK), "data": spec}, Progress())
    kept = testset.full_accuracy(zoo.load(MODEL), Recipe(), keys.read_data(spec))
    accuracy, change = (as_json.figure_of(figure) for figure in kept["figures"])
    assert accuracy == measure.accuracy(zoo.load(MODEL), keys.read_data(spec).test)
    assert change.value == 0.0
    assert change.how.startswith("0 won, 0 lost of the same")
    half = measure.Z95 / (len(keys.read_data(spec).test) + 2)
    assert change.spread == pytest.approx((-half, half))
    assert kept == tasks.perform("accuracy", {**task(), "data": spec}, Watch(until=0).progress)


def test_accuracy_is_asked_once():
    tasks.perform("accuracy", task(), Progress())
    watch = Watch(until=0)  # whatever asks whether to go on is told to stop
    assert tasks.perform("accuracy", task(), watch.progress)["figures"][1]["value"] == 0.0


def batches_run(monkeypatch):
    """A list that grows by the number of samples of each batch that a net is asked about."""
    asked, inputs = [], Samples.inputs

    def counted(self, rows=slice(None)):
        found = inputs(self, rows)
        asked.append(len(found))
        return found

    monkeypatch.setattr(Samples, "inputs", counted)
    return asked


def test_accuracy_goes_on_where_it_was_broken_off(monkeypatch):
    recipe = Recipe((Step("shrink", {"share": 0.95}),))
    tasks.perform("accuracy", task(), Progress())  # the original's own answers are there
    asked = batches_run(monkeypatch)
    broken = Progress(cancelled=lambda: sum(asked) >= 4500)
    with pytest.raises(Cancelled):
        tasks.perform("accuracy", task(*recipe), broken)
    assert sum(asked) == 4500
    assert testset.answers(zoo.load(MODEL), recipe, keys.read_data(DATA)) is None
    asked.clear()
    again = Watch()
    tasks.perform("accuracy", task(*recipe), again.progress)
    assert sum(asked) == 6000  # four parts of a thousand were kept
    assert again.shares == sorted(again.shares)
    expected = measure.predictions(recipes.after(MODEL, recipe, DATA)[0], datasets.load(DATA).test)
    assert torch.equal(testset.answers(zoo.load(MODEL), recipe, keys.read_data(DATA)), expected)


# ---------------------------------------------------------------- sweeps and scans

SWEEP = task(Step("shrink", {}, False), SHRINK, LEARN, step=2, vary={"share": [0.5, 0.99]}, samples=200)


def test_sweep_rows_are_measured_on_validation():
    rows = tasks.perform("sweep", SWEEP, Progress())["rows"]
    sample = datasets.load(DATA).validation.stratified(200)
    assert [row["baseline"] for row in rows] == [True, False, False]
    assert [row.get("share") for row in rows] == [None, 0.5, 0.99]
    for row in rows:
        bundle, _ = recipes.after(MODEL, Recipe.from_key(row["recipe"]), DATA)
        figure = measure.accuracy(bundle, sample)
        assert (row["accuracy"], row["low"], row["high"]) == (figure.value, *figure.spread)
        assert row["bytes"] == len(packfile.pack(bundle))
        assert row["change"] == pytest.approx(row["accuracy"] - rows[0]["accuracy"])
        assert (row["n"], row["refused"]) == (200, "")


def test_a_sweep_goes_on_where_it_was_cancelled(monkeypatch):
    payload = task(SHRINK, step=1, vary={"share": [0.2, 0.3, 0.4]}, samples=100)
    first = Watch(until=2)
    with pytest.raises(Cancelled):
        tasks.perform("sweep", payload, first.progress)
    assert len(first.rows) == 2
    asked = []
    size = packfile.size
    monkeypatch.setattr(packfile, "size", lambda bundle: asked.append(bundle.lineage.key) or size(bundle))
    second = Watch()
    rows = tasks.perform("sweep", payload, second.progress)["rows"]
    assert second.rows == rows
    assert second.rows[:2] == first.rows
    assert len(asked) == 2  # four rows, two of them from the store
    assert second.shares[-1] == 1.0


def test_a_scan_goes_on_where_it_was_cancelled(monkeypatch):
    payload = task(**SCAN | {"values": [0.15, 0.25]})
    first, second, third = Watch(until=3), Watch(), Watch()
    with pytest.raises(Cancelled):
        tasks.perform("sensitivity", payload, first.progress)
    asked = batches_run(monkeypatch)
    rows = tasks.perform("sensitivity", payload, second.progress)["rows"]
    assert second.rows == rows
    assert rows[:3] == first.rows
    assert asked == [200, 200]  # the start, and the row that was missing
    assert tasks.perform("sensitivity", payload, third.progress)["rows"] == rows
    assert asked == [200, 200]  # all from the store: not even the start is asked


def twice_at_once(kind: str, payload: dict) -> list[Watch]:
    """What two that do the same job at the same time say; each last row of theirs is the result's list."""
    watches, results = [Watch(), Watch()], []
    threads = [
        threading.Thread(target=lambda w=w: results.append(tasks.perform(kind, payload, w.progress)["rows"]))
        for w in watches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0] == results[1]
    for watch in watches:
        assert watch.shares[-1] == 1.0
        assert sorted(map(json.dumps, watch.rows)) == sorted(map(json.dumps, results[0]))
    return watches


def test_two_at_the_same_sweep_share_its_rows_and_compute_none_twice(monkeypatch):
    both, asked = threading.Barrier(2), []
    size = packfile.size

    def slow(bundle):
        asked.append(bundle.lineage.key)
        if len(asked) <= 2:
            both.wait(60)  # a row of each: neither waits for the other's
        return size(bundle)

    monkeypatch.setattr(packfile, "size", slow)
    shares = [0.21, 0.31, 0.41, 0.51, 0.61]  # and the original, whose row of 110 samples nobody asked for
    twice_at_once("sweep", task(SHRINK, step=1, vary={"share": shares}, samples=110))
    assert len(asked) == len(set(asked)) == 6


def test_two_at_the_same_scan_say_its_rows_in_order_and_compute_none_twice(monkeypatch):
    asked = []
    figure = measure.paired_difference
    monkeypatch.setattr(measure, "paired_difference", lambda *a: asked.append(1) or figure(*a))
    watches = twice_at_once("sensitivity", task(**SCAN | {"values": [0.11, 0.12, 0.13]}))
    expected = [(layer, value) for layer in ("fc1", "fc2") for value in (0.11, 0.12, 0.13)]
    for watch in watches:
        assert [(row["layer"], row["value"]) for row in watch.rows] == expected
    assert len(asked) == 6


def test_a_recipe_that_cannot_be_followed_is_a_row_with_its_reason():
    steps = (Step("shrink", {"leave_out": ["conv9"]}),)
    rows = tasks.perform("sweep", task(*steps, step=1, vary={"share": [0.5]}, samples=50), Progress())["rows"]
    assert rows[1]["accuracy"] is None
    assert "step 1 (shrink): leave_out names layer 'conv9': this model has fc1, fc2" in rows[1]["refused"]


SCAN = {"technique": "shrink", "setting": "share", "values": [0.0, 0.9], "samples": 200}


def test_sensitivity_touches_one_layer_at_a_time():
    rows = tasks.perform("sensitivity", task(**SCAN), Progress())["rows"]
    assert [(row["layer"], row["value"]) for row in rows] == [
        ("fc1", 0.0),
        ("fc1", 0.9),
        ("fc2", 0.0),
        ("fc2", 0.9),
    ]
    assert [row["change"] for row in rows if row["value"] == 0.0] == [0.0, 0.0]
    for row in rows:
        bundle, _ = recipes.after(MODEL, Recipe.from_key(row["recipe"]), DATA)
        for label, name in (("fc1", "fc1.weight"), ("fc2", "fc2.weight")):
            zeros = float((bundle.params[name].decode() == 0).float().mean())
            assert zeros == pytest.approx(row["value"] if label == row["layer"] else 0.0, abs=0.005)


def test_sensitivity_of_all_layers_but_one():
    rows = tasks.perform("sensitivity", task(**SCAN | {"values": [0.9], "all_but": True}), Progress())["rows"]
    alone = tasks.perform("sensitivity", task(**SCAN | {"values": [0.9]}), Progress())["rows"]
    assert [row["layer"] for row in rows] == ["fc1", "fc2"]
    spared = [Recipe.from_key(row["recipe"]).steps[0].settings["leave_out"] for row in rows]
    assert spared == [["fc1"], ["fc2"]]
    # Of two layers, all but one is the other.
    assert [row["accuracy"] for row in rows] == [row["accuracy"] for row in reversed(alone)]


def test_sensitivity_of_one_layer_after_a_recipe():
    payload = task(SHRINK, **SCAN | {"layers": ["fc2"], "values": [0.5], "settings": {"keep_sign": False}})
    rows = tasks.perform("sensitivity", payload, Progress())["rows"]
    steps = Recipe.from_key(rows[0]["recipe"]).steps
    assert steps[0].settings["share"] == 0.6
    assert dict(steps[1].settings) == {"share": 0.5, "keep_sign": False, "leave_out": ["fc1"]}
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("kind", "payload", "says"),
    [
        ("dance", {}, "job kind 'dance' is unknown; there are apply, accuracy, sensitivity, sweep"),
        ("apply", task(SHRINK), "no step of this recipe trains"),
        ("apply", task(LEARN, model="vgg"), "model 'vgg' is not in the zoo"),
        ("sweep", {**SWEEP, "samples": 0}, "samples is 0: allowed is 1 to 5000"),
        ("sweep", {**SWEEP, "data": ""}, "accuracy needs data"),
        ("sensitivity", task(**{**SCAN, "technique": "learn"}), "learn lacks a setting for layers"),
        ("sensitivity", task(**{**SCAN, "setting": "bits"}), "shrink lacks setting 'bits'"),
        ("sensitivity", task(**{**SCAN, "layers": ["fc7"]}), "layers names layer 'fc7'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(kind, payload, says):
    with pytest.raises(SlimscopeError, match=says):
        tasks.perform(kind, payload, Progress())


# ---------------------------------------------------------------- names
