"""Reproductions: seeds are run once and resumed, results say how, and verdicts follow their rule."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine import cli, papers
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure
from engine.net import zoo
from engine.net.train import Plan, fit
from engine.papers import esser, frankle, han, harness, li, liu, narrow, taught
from engine.papers.harness import Claim, Ours, Outcome, Paper
from engine.recipe import technique
from engine.recipe.run import apply
from engine.techniques.prune import prune_channels
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Cancelled, Figure, Progress, SlimscopeError

PAPERS = list(papers.PAPERS.values())


@pytest.fixture
def small() -> Data:
    whole = sets.load("mnist")
    parts = (
        part.stratified(n) for part, n in ((whole.train, 300), (whole.validation, 100), (whole.test, 100))
    )
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Runs of tests write to a folder of their own."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path / "results"


class Tiny:
    """A reproduction of a few hundred images; it notes how often it was run."""

    def __init__(self, images: Data) -> None:
        self.images, self.runs = images, 0

    def run(self, seed: int, progress: Progress, folder: Path) -> Outcome:
        self.runs += 1
        net = zoo.seeded("mlp-32", seed)
        plan = Plan(3, 0.05, seed=seed)
        rows = fit(net, self.images.train, plan, progress=progress, checkpoint=folder / "net.pt")
        error = 100 * (1 - measure.share_right(net, self.images.test))
        return Outcome({"error": error, "loss": rows[-1]["loss"]}, {"rows": pd.DataFrame(rows)})

    @property
    def paper(self) -> Paper:
        def judge(ours: Ours) -> str:
            return "beaten" if max(ours["error"]) < 100 else "not reached"

        claims = (Claim("error", 1.5, "%", "wrong of 100"), Claim("loss", None, "nat", "mean of an epoch"))
        return Paper(
            "tiny", "Nobody 2020", "It learns.", claims, {"epochs": 3}, (0, 1), "It does.", judge, self.run
        )


@pytest.fixture
def tiny(small: Data) -> Tiny:
    return Tiny(small)


def raw(tiny: Tiny) -> dict[str, Any]:
    return dict(json.loads(harness.results_path(tiny.paper).read_text()))


# ---------------------------------------------------------------- running


def test_a_seed_is_run_once_and_its_record_says_how(tiny: Tiny) -> None:
    record = harness.run(tiny.paper, 1, Progress())
    assert harness.run(tiny.paper, 1, Progress()) == record
    assert tiny.runs == 1
    assert raw(tiny)["seeds"] == {"1": record}
    assert raw(tiny)["recipe"] == {"epochs": 3}
    assert record["wall seconds"] > 0
    assert record["versions"]["torch"] == torch.__version__
    assert set(record["machine"]) == {"processor", "architecture", "cores", "threads", "instructions"}
    assert len(record["tables"]["rows"]) == 3
    assert not harness.working_folder(tiny.paper, 1).exists()


def test_a_half_done_seed_goes_on_and_ends_as_the_unbroken_one(tiny: Tiny, small: Data) -> None:
    seen: list[float] = []
    with pytest.raises(Cancelled):
        harness.run(tiny.paper, 0, Progress(lambda share, _: seen.append(share), lambda: len(seen) >= 4))
    folder = harness.working_folder(tiny.paper, 0)
    assert (folder / "net.pt").exists()
    assert harness.status(tiny.paper) == "unfinished (0 of 2 seeds)"
    spent = float((folder / "seconds").read_text())
    again: list[float] = []
    record = harness.run(tiny.paper, 0, Progress(lambda share, _: again.append(share)))
    assert again[0] >= 1 / 3  # the first epoch is not trained again
    assert record["wall seconds"] >= round(spent, 1)
    fresh = Tiny(small)
    harness.results_path(tiny.paper).unlink()
    whole = harness.run(fresh.paper, 0, Progress())
    assert (whole["figures"], whole["tables"]) == (record["figures"], record["tables"])


def test_results_of_another_recipe_do_not_count(tiny: Tiny) -> None:
    harness.run(tiny.paper, 0, Progress())
    other = replace(tiny.paper, recipe={"epochs": 4})
    assert harness.results(other) == {}
    assert harness.status(other) == "not run"
    harness.run(other, 1, Progress())
    assert list(raw(tiny)["seeds"]) == ["1"]


def test_what_is_not_known_of_a_layer_does_not_stop_its_seed_from_being_written(tiny: Tiny) -> None:
    def run(seed: int, progress: Progress, folder: Path) -> Outcome:
        layers = pd.DataFrame({"layer": ["fc1", "fc2"], "rank": [3, None], "applied": [True, False]})
        return Outcome({"error": 1.0, "loss": 0.5}, {"layers": layers})

    harness.run(replace(tiny.paper, run=run), 0, Progress())
    rows = raw(tiny)["seeds"]["0"]["tables"]["layers"]
    assert rows == [
        {"layer": "fc1", "rank": 3, "applied": True},
        {"layer": "fc2", "rank": None, "applied": False},
    ]


def test_one_process_at_a_time_runs_a_seed_and_it_shows(tiny: Tiny) -> None:
    said = []

    def run(seed: int, progress: Progress, folder: Path) -> Outcome:
        said.append(harness.status(tiny.paper))
        with pytest.raises(SlimscopeError, match="tiny-s0 is running in another process"):
            harness.run(tiny.paper, 0, Progress())
        return tiny.run(seed, progress, folder)

    harness.run(replace(tiny.paper, run=run), 0, Progress())
    assert said == ["running (0 of 2 seeds)"]
    assert not harness.is_running(tiny.paper)


def test_seeds_that_run_side_by_side_keep_each_others_records(tiny: Tiny) -> None:
    def run(seed: int, progress: Progress, folder: Path) -> Outcome:
        harness.run(tiny.paper, 1, Progress())  # it begins later, and is done first
        return tiny.run(seed, progress, folder)

    harness.run(replace(tiny.paper, run=run), 0, Progress())
    assert list(harness.results(tiny.paper)) == [0, 1]


def test_an_older_recipe_does_not_replace_the_results_of_a_newer(tiny: Tiny) -> None:
    newer = replace(tiny.paper, recipe={"epochs": 3, "newer": True})

    def run(seed: int, progress: Progress, folder: Path) -> Outcome:
        harness.run(newer, 1, Progress())
        return tiny.run(seed, progress, folder)

    with pytest.raises(SlimscopeError, match="got another recipe meanwhile: seed 0 is not written"):
        harness.run(replace(tiny.paper, run=run), 0, Progress())
    assert list(harness.results(newer)) == [1]
    assert harness.working_folder(tiny.paper, 0).exists()


@pytest.mark.parametrize(("recipe", "resumed"), [({"epochs": 3}, True), ({"epochs": 4}, False)])
def test_what_is_half_done_is_gone_on_with_by_the_same_recipe_only(
    recipe: dict[str, int], resumed: bool, tiny: Tiny
) -> None:
    found = []

    def stops(seed: int, progress: Progress, folder: Path) -> Outcome:
        found.append((folder / "net.pt").exists())
        tiny.run(seed, Progress(), folder)
        raise Cancelled("cancelled")

    for declared in (tiny.paper.recipe, recipe):
        with pytest.raises(Cancelled):
            harness.run(replace(tiny.paper, run=stops, recipe=declared), 0, Progress())
    assert found == [False, resumed]


def test_a_stranger_among_the_seeds_is_refused(tiny: Tiny) -> None:
    with pytest.raises(SlimscopeError, match="seed 7 is not one of tiny: allowed are 0, 1"):
        harness.run(tiny.paper, 7, Progress())


# ---------------------------------------------------------------- what it means


def test_the_status_goes_from_not_run_to_a_verdict(tiny: Tiny) -> None:
    stages = [harness.status(tiny.paper)]
    for seed in (0, 1):
        harness.run(tiny.paper, seed, Progress())
        stages.append(harness.status(tiny.paper))
    assert stages == ["not run", "unfinished (1 of 2 seeds)", "beaten"]


def test_the_description_has_median_and_range(tiny: Tiny) -> None:
    assert harness.describe(tiny.paper)["figures"][0]["median"] is None
    errors = [harness.run(tiny.paper, seed, Progress())["figures"]["error"] for seed in (0, 1)]
    described = harness.describe(tiny.paper)
    error, loss = described["figures"]
    assert error["median"] == pytest.approx(sum(errors) / 2)
    assert error["spread"] == [min(errors), max(errors)]
    assert (error["published"], loss["published"]) == (1.5, None)
    assert described["seeds"] == {"done": [0, 1], "needed": [0, 1]}


# ---------------------------------------------------------------- the command


def call(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    cli.main(("papers", *words))
    return capsys.readouterr().out


@pytest.fixture
def listed(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(papers, "PAPERS", {"tiny": tiny.paper})


@pytest.mark.usefixtures("listed")
def test_the_command_lists_runs_and_says_the_same_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert "tiny: not run" in call(capsys)
    assert "tiny: unfinished (1 of 2 seeds)" in call(capsys, "tiny", "--run", "--seed", "1")
    text = call(capsys, "tiny", "--run")
    assert "tiny: beaten" in text
    assert re.search(r"error +1\.5 +\d\S* +\[\S+, \S+\] +%  ", text)
    assert re.search(r"loss +not stated +\d", text)
    said = json.loads(call(capsys, "--json"))
    assert [paper["status"] for paper in said] == ["beaten"]
    assert said[0]["figures"][0]["unit"] == "%"


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("other",), "paper 'other' is unknown; there are tiny"),
        (("--run",), "--run needs a NAME: allowed is one of tiny"),
        (("tiny", "--seed", "1"), "--seed 1 says which seed to run: it goes with --run"),
        (("tiny", "--run", "--seed", "9"), "seed 9 is not one of tiny: allowed are 0, 1"),
    ],
)
def test_mistakes_are_one_line(words: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(("papers", *words))
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"slimscope: {text}\n"


# ---------------------------------------------------------------- the papers


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_every_paper_is_complete(paper: Paper) -> None:
    assert papers.get(paper.name) is paper
    if paper not in papers.STUDIES:
        assert re.search(r"(19|20)\d\d.*arXiv", paper.paper)
        least = 1 if paper is esser.VGG else 3
        assert len(paper.seeds) == len(set(paper.seeds)) >= least
        assert any(claim.value is not None for claim in paper.claims)
    assert all(claim.unit and claim.counted for claim in paper.claims)
    assert json.loads(json.dumps(dict(paper.recipe))) == dict(paper.recipe)


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_results_on_disk_have_every_figure_and_name_no_place(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", sets.ASSETS / "papers")
    for seed, record in harness.results(paper).items():
        assert seed in paper.seeds
        assert {claim.name for claim in paper.claims} <= set(record["figures"])
        assert "/" not in json.dumps(record["machine"])


@pytest.mark.parametrize("paper", PAPERS, ids=lambda paper: paper.name)
def test_test_errors_say_whether_they_were_seen_before_and_the_stored_words_are_those(
    paper: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", sets.ASSETS / "papers")
    counted = [claim.counted for claim in paper.claims if claim.counted.startswith("wrong answers")]
    words = harness.SEEN_ERRORS if "chosen after" in paper.recipe else harness.TEST_ERRORS
    assert all(said.startswith(words) for said in counted)
    if harness.results_path(paper).exists():
        stored = json.loads(harness.results_path(paper).read_text())
        assert stored["claims"] == [vars(claim) for claim in paper.claims]


def test_a_verdict_names_a_start_that_was_better_than_the_papers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "RESULTS", sets.ASSETS / "papers")
    cli.main(("papers", "han-lenet-300-100"))
    first = capsys.readouterr().out.splitlines()[0]
    assert first == (
        "han-lenet-300-100: beaten, from a better start: 0.89 % before compressing, in the paper 1.64 %"
    )
    paper = papers.get("han-lenet-300-100")
    assert harness._better_start(paper, ours_of_han(14.0, [0.0], 1.64)) == ""
    assert harness._better_start(paper, {han.BEFORE: []}) == ""


def test_a_seed_is_stored_with_the_instructions_it_ran_on() -> None:
    assert harness.machine()["instructions"] == torch.backends.cpu.get_cpu_capability() != ""


def test_han_counts_every_bias_as_kept() -> None:
    bundle = zoo.bundle_of("mlp-32", dict(zoo.seeded("mlp-32", 0).state_dict()))
    weights = bundle.params["fc1.weight"].decode().clone()
    weights[1:] = 0  # one of 32 rows is left: 784 weights; fc2 has 320, biases are 32 + 10
    pruned = bundle.become(
        {**bundle.params, "fc1.weight": Dense(weights), "fc1.bias": Dense(torch.zeros(32))}
    )
    assert count.parameters(pruned).value == 25_450
    assert han.ratio(pruned) == pytest.approx(25_450 / (784 + 320 + 42))


def test_han_trains_prunes_and_reports_on_test(
    monkeypatch: pytest.MonkeyPatch, small: Data, tmp_path: Path
) -> None:
    monkeypatch.setattr(sets, "load", lambda name: small)
    settings = {"sparsity": 0.9, "rounds": 2, "epochs": 1}
    shares: list[float] = []
    progress = Progress(lambda share, _: shares.append(share))
    outcome = han.run("mlp-32", {"epochs": 2, "learning_rate": 0.05}, settings, 0.5, 4, progress, tmp_path)
    figures = outcome.figures
    assert figures[han.RATIO] == pytest.approx(25_450 / (25_408 - round(0.9 * 25_408) + 42))
    net = zoo.seeded("mlp-32", 4)
    fit(net, small.train, Plan(2, 0.05, seed=4))
    assert figures[han.BEFORE] == pytest.approx(100 * (1 - measure.share_right(net, small.test)))
    assert figures[han.CHANGE] == pytest.approx(figures[han.AFTER] - figures[han.BEFORE])
    assert list(outcome.tables["rounds"]["round"]) == [1, 2]
    assert shares == sorted(shares)
    assert shares[-1] == 1


def test_a_net_teaches_itself_and_the_one_that_is_pruned(few: Data, tmp_path: Path) -> None:
    tuning = {"epochs": 1, "learning_rate": 0.05, **taught.TEACHER}
    whole = [("finetune", tuning)] * 2
    pruned = [("prune_iteratively", {"sparsity": 0.5, "rounds": 2, **tuning})]
    seen: list[float] = []
    outcome = taught.run(
        "mlp-32",
        {"epochs": 2, "learning_rate": 0.05},
        whole,
        pruned,
        lambda came, after: {"zeros": count.sparsity(after).value - count.sparsity(came).value},
        3,
        Progress(lambda share, _: seen.append(share)),
        tmp_path,
    )
    found = outcome.figures
    assert found["zeros"] == pytest.approx(0.5, abs=1e-3)
    net = zoo.seeded("mlp-32", 3)
    fit(net, few.train, Plan(2, 0.05, seed=3))
    came = zoo.bundle_of("mlp-32", dict(net.state_dict()))
    for claim, steps in ((taught.CAME, []), (han.BEFORE, whole), (han.AFTER, pruned)):
        after = came
        for number, (name, settings) in enumerate(steps):
            step = technique.step(name, **settings, seed=len(steps) * 3 + number)
            after, _ = apply(after, step, few)
        assert found[claim] == pytest.approx(100 * (1 - measure.accuracy(after, few.test).value))
    assert found[han.CHANGE] == pytest.approx(found[han.AFTER] - found[han.BEFORE])
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


def arguments(paper: Paper) -> tuple[Any, ...]:
    assert isinstance(paper.run, partial)
    return paper.run.args


@pytest.mark.parametrize("net", ["vgg-small", "resnet-20"])
def test_filters_with_a_teacher_are_pruned_as_without_one(net: str) -> None:
    *before, tuning, control = arguments(papers.get(f"filters-{net}"))
    *after, taught_so, controlled = arguments(papers.get(f"filters-{net}-taught"))
    assert after == before
    assert (taught_so, controlled) == ({**tuning, **taught.TEACHER}, control)


def test_the_perceptrons_with_a_teacher_are_pruned_as_without_one() -> None:
    _, _, settings, _ = arguments(papers.get("han-lenet-5"))
    _, first, whole, pruned, _ = arguments(papers.get("han-lenet-5-taught"))
    assert first == papers.get("han-lenet-5").recipe["first training"]
    assert pruned == [("prune_iteratively", {**settings, **taught.TEACHER})]
    assert [step["epochs"] for _, step in whole] == [settings["rounds"] * settings["epochs"]]
    _, first, whole, ((_, slim), last), _ = arguments(papers.get("slimming-mlp-taught"))
    assert {**slim, "tuning": liu.SLIM["tuning"]} == liu.SLIM
    assert (first["epochs"], slim["epochs"], last[1]["epochs"]) == liu.EPOCHS
    assert sum(step["epochs"] for _, step in whole) == slim["epochs"] + last[1]["epochs"]
    assert {first["learning_rate"], *(step["learning_rate"] for _, step in (*whole, last))} == {liu.RATE}


def ours_of_han(ratio: float, changes: list[float], after: float) -> dict[str, list[float]]:
    return {
        han.RATIO: [ratio] * 3,
        han.BEFORE: [after - change for change in changes],
        han.AFTER: [after] * 3,
        han.CHANGE: changes,
    }


@pytest.mark.parametrize(
    ("ratio", "changes", "after", "verdict"),
    [
        (12.3, [-0.1, 0.0, 0.2], 1.7, "reproduced"),
        (12.3, [-0.1, 0.01, 0.2], 1.0, "not reached"),
        (11.9, [-0.1, -0.1, -0.1], 1.0, "not reached"),
        (13.3, [0.0, 0.0, 0.0], 1.58, "beaten"),
        (13.3, [0.0, 0.0, 0.0], 1.60, "reproduced"),
        (13.1, [0.0, 0.0, 0.0], 1.0, "reproduced"),
    ],
)
def test_the_verdict_on_han(ratio: float, changes: list[float], after: float, verdict: str) -> None:
    assert papers.get("han-lenet-300-100").judge(ours_of_han(ratio, changes, after)) == verdict


def tickets(stops: dict[str, int], right: dict[str, float]) -> pd.DataFrame:
    """A table as `lottery_ticket` gives it: whole, ticket and both controls, rounds 7 and 9 alike."""
    rows = [{"round": 0, "run": "ticket", "early stop": stops["whole"], "test accuracy": right["whole"]}]
    rows += [
        {"round": number, "run": run, "early stop": stops[run], "test accuracy": right[run]}
        for number in (7, 9)
        for run in ("ticket", "re-init", "random mask")
    ]
    return pd.DataFrame(rows)


STOPS = {"whole": 3000, "ticket": 2000, "re-init": 6000, "random mask": 5000}
RIGHT = {"whole": 0.98, "ticket": 0.984, "re-init": 0.978, "random mask": 0.975}


def test_the_figures_of_a_lottery_by_hand() -> None:
    found = frankle.figures(tickets(STOPS, RIGHT))
    assert found["times as fast as re-init, 21.1 %"] == 3
    assert found["accuracy gain over re-init, 13.5 %"] == pytest.approx(0.6)
    assert found["accuracy gain over the whole net, 13.5 %"] == pytest.approx(0.4)
    assert found["latest early stop"] == 6000
    assert found["early stop, 13.5 % random mask"] == 5000
    assert found["test accuracy, 21.1 % random mask"] == 97.5
    assert set(found) == {claim.name for claim in frankle.CLAIMS}


@pytest.mark.parametrize(
    ("stops", "right", "verdict"),
    [
        ({}, {}, "beaten"),
        ({"re-init": 4000}, {}, "reproduced"),  # twice as fast, the paper says 2.51 times
        ({}, {"ticket": 0.981}, "reproduced"),  # 0.1 points over the whole net, the paper says 0.3
        ({"ticket": 3000}, {}, "not reached"),
        ({}, {"ticket": 0.98}, "not reached"),
        ({"re-init": 1900}, {}, "not reached"),
        ({}, {"re-init": 0.985}, "not reached"),
    ],
)
def test_the_verdict_on_the_lottery(stops: dict[str, int], right: dict[str, float], verdict: str) -> None:
    found = frankle.figures(tickets(STOPS | stops, RIGHT | right))
    assert frankle.judge({name: [value] * 5 for name, value in found.items()}) == verdict


def test_a_round_of_the_lottery_is_told_by_medians_and_range() -> None:
    rows = pd.concat([tickets(STOPS | {"ticket": stop}, RIGHT) for stop in (1000, 2000, 2600)])
    told = {figure.name: figure for figure in frankle.of_round(rows, 9)}
    assert len(told) == 2 * 4
    assert told["early stop of the ticket"].value == 2000
    assert told["early stop of the ticket"].spread == (1000, 2600)
    assert told["test accuracy of the random mask"].value == 0.975
    assert told["early stop of the whole net"].value == 3000


def test_the_lottery_is_played_with_the_declared_settings(
    monkeypatch: pytest.MonkeyPatch, small: Data, tmp_path: Path
) -> None:
    monkeypatch.setattr(sets, "load", lambda name: small)
    monkeypatch.setitem(frankle.SETTINGS, "epochs", 1)
    outcome = frankle.run(3, Progress(), tmp_path)
    table = outcome.tables["tickets"]
    assert len(table) == 1 + 9 * 3
    density = table.drop_duplicates("round").set_index("round")["density"]
    assert [round(100 * density[number], 1) for number in (7, 9)] == [21.1, 13.5]
    assert list(tmp_path.glob("ticket-9*"))


def test_the_command_passes_over_a_seed_that_another_process_runs(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(papers.PAPERS, "tiny", tiny.paper)
    with harness._locked(harness._lock(tiny.paper, 0), wait=False):
        cli.main(["papers", "tiny", "--run"])
        assert list(harness.results(tiny.paper)) == [1]
        assert "tiny-s0 is running in another process" in capsys.readouterr().err
        with pytest.raises(SystemExit):
            cli.main(["papers", "tiny", "--run", "--seed", "0"])


def test_a_processor_has_a_name() -> None:
    described = harness.machine()
    assert described["processor"]
    assert described["threads"] == torch.get_num_threads()


# ---------------------------------------------------------------- nets made narrower


def test_layers_give_what_costs_least_until_the_target_is_reached(
    monkeypatch: pytest.MonkeyPatch, small: Data
) -> None:
    """By hand: of three layers, b is free, c costs 0.2 nats for 30 % of the work, a 1.0 for 40 %."""
    harms = {"a": 1.0, "b": 0.0, "c": 0.2}
    worth = {"a": 40, "b": 10, "c": 30}
    whole = zoo.load("mlp-32")
    pruned: dict[str, frozenset[str]] = {whole.fingerprint: frozenset()}

    def prune(own: Mapping[str, float]) -> Bundle:
        bias = torch.full((32,), float(sum(2**i for i, name in enumerate("abc") if name in own)))
        after = whole.become({**whole.params, "fc1.bias": Dense(bias)})
        pruned[after.fingerprint] = frozenset(own)
        return after

    def macs(bundle: Bundle) -> Figure:
        left = 100 - sum(worth[name] for name in pruned[bundle.fingerprint])
        return Figure("multiply-adds", left, "MAC", Basis.COUNTED, "by hand")

    monkeypatch.setattr(count, "macs", macs)
    monkeypatch.setattr(
        narrow, "loss", lambda bundle, samples: sum(harms[name] for name in pruned[bundle.fingerprint])
    )

    def chosen(target: float) -> set[str]:
        return set(
            narrow.least_harm(whole, prune, ["a", "b", "c"], (0.5,), small.validation, target, Progress())
        )

    assert chosen(0.05) == {"b"}
    assert chosen(0.2) == {"b", "c"}
    assert chosen(0.5) == {"a", "b", "c"}
    assert chosen(0.9) == {"a", "b", "c"}  # out of reach: all give what they have


@pytest.mark.parametrize(
    ("how", "control"), [("prune_filters", True), ("prune_channels", False)], ids=["filters", "channels"]
)
def test_a_narrower_net_is_fine_tuned_and_compared(
    how: str, control: bool, monkeypatch: pytest.MonkeyPatch, small: Data, tmp_path: Path
) -> None:
    monkeypatch.setattr(sets, "load_full", lambda name: small)
    layers, fixed, shares, target = {
        "prune_filters": (li._free, {"removed": 0.0}, (0.25, 0.5), 0.3),
        "prune_channels": (prune_channels.prunable, {"removed": 0.0}, (0.25, 0.5), 0.3),
    }[how]
    tuning = {"epochs": 1, "learning_rate": 0.01}
    seen: list[float] = []
    progress = Progress(lambda share, _: seen.append(share))
    outcome = narrow.compare(
        "lenet-5-small", how, fixed, layers, shares, target, tuning, control, 5, progress, tmp_path
    )
    found, table = outcome.figures, outcome.tables["shares"]
    assert found[narrow.MACS] >= 30
    assert set(table["share"]) <= set(shares)
    assert found[narrow.CHANGE] == pytest.approx(found[narrow.AFTER] - found[narrow.BEFORE])
    assert found[narrow.UNTRAINED] == pytest.approx(
        100 * (1 - measure.accuracy(zoo.load("lenet-5-small"), small.test).value)
    )
    if not control:
        assert found[narrow.BEFORE] == found[narrow.UNTRAINED]
    assert seen == sorted(seen)
    assert seen[-1] == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "macs", "changes", "verdict"),
    [
        ("filters-vgg-small", 34.5, [0.1, 0.3, 0.9], "reproduced"),
        ("filters-vgg-small", 33.9, [0.0, 0.0, 0.0], "not reached"),
        ("filters-resnet-20", 27.1, [0.2, 0.31, 0.4], "not reached"),
        ("filters-resnet-20", 27.1, [-0.2, 0.0, 0.4], "reproduced"),
        ("filters-resnet-20", 27.1, [-0.2, -0.02, 0.4], "beaten"),
        ("channels-resnet-20", 50.0, [1.2, 1.5, 1.9], "reproduced"),
        ("channels-resnet-20", 49.9, [0.2, 0.2, 0.2], "not reached"),
    ],
)
def test_the_verdict_on_narrower_nets(name: str, macs: float, changes: list[float], verdict: str) -> None:
    assert papers.get(name).judge({narrow.MACS: [macs] * 3, narrow.CHANGE: changes}) == verdict
