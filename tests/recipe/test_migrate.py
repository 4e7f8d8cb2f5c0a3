"""Old words are read, what was kept under them is found, and a setting that came later changes no key."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any

import pytest

import engine.techniques  # noqa: F401
from engine.data import sets
from engine.data.sets import Data
from engine.file import packfile
from engine.jobs import as_json, recipes, tasks
from engine.net import zoo
from engine.recipe import migrate, run, technique
from engine.recipe.knobs import Toggle
from engine.types import Bundle, Progress, Recipe, Report, SlimscopeError, Step

OLD: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "prune_weights",
        {"scope": "model", "shape": "block", "score": "random"},
        {"allocation": "global", "granularity": "block", "score": "random"},
    ),
    ("prune_weights", {"scope": "erk"}, {"allocation": "erk"}),
    ("optimal_brain_damage", {"scope": "model"}, {"allocation": "global"}),
    ("prune_iteratively", {"by": "model"}, {"allocation": "global"}),
    ("prune_iteratively", {"by": "sensitivity"}, {"allocation": "sensitivity"}),
    (
        "prune_filters",
        {"sparsity": 0.3, "allocation": "model", "streams": True},
        {"removed": 0.3, "allocation": "global", "residual": True},
    ),
    ("slim", {"sparsity": 0.7, "allocation": "model"}, {"removed": 0.7, "allocation": "global"}),
    (
        "prune_channels",
        {"kept": 0.3, "by": "largest", "per_layer": {"conv2": 0.45}},
        {"removed": 0.7, "selection": "largest", "removed_per_layer": {"conv2": 0.55}},
    ),
    ("quantize", {"bits": 5}, {"bits": 5}),
]


@pytest.mark.parametrize(("name", "old", "new"), OLD)
def test_old_words_are_read_as_those_of_today(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    recipe = migrate.read(Recipe((Step(name, old, on=False),)).key)
    assert recipe == technique.complete(Recipe((Step(name, new, on=False),)))
    assert migrate.read(recipe.key) == recipe, "today's words are left alone"


@pytest.mark.parametrize(("name", "old", "new"), OLD)
def test_results_keep_the_key_that_they_had(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    kept = json.loads(migrate.kept_as(migrate.read(Recipe((Step(name, old),)).key)))[0][1]
    assert old.items() <= kept.items()
    renamed = {change.new for change in migrate.RENAMED.get(name, ()) if change.new != change.old}
    assert not renamed & kept.keys()


# The complete text of each technique's defaults, as results were kept before its settings were renamed.
KEPT = {
    "prune_weights": '{"block":4,"by":"sparsity","leave_out":[],"m":4,"n":2,"norm":"l1","per_layer":{},'
    '"quality":1.0,"samples":200,"scope":"model","score":"magnitude","seed":0,"shape":"element",'
    '"sparsity":0.9,"threshold":0.02}',
    "optimal_brain_damage": '{"samples":200,"scope":"model","seed":0,"sparsity":0.6}',
    "prune_filters": '{"allocation":"layer","by_hand":{},"leave_out":[],"per_layer":{},"score":"l1",'
    '"seed":0,"sparsity":0.25,"streams":false}',
    "prune_channels": '{"by":"lasso","kept":0.5,"leave_out":[],"per_layer":{},"refit":true,"samples":2000,'
    '"seed":0}',
    "slim": '{"allocation":"model","epochs":5,"learning_rate":0.02,"leave_out":[],"seed":0,"sparsity":0.5,'
    '"strength":0.001,"tuning":3,"weight_decay":0.0001}',
    "prune_iteratively": '{"by":"model","epochs":2,"learning_rate":0.01,"leave_out":[],"rounds":5,'
    '"schedule":"rounds","seed":0,"sparsity":0.92,"weight_decay":0.0001}',
}


@pytest.mark.parametrize("name", list(KEPT))
def test_the_defaults_are_kept_under_the_very_text_of_before(name: str) -> None:
    assert migrate.kept_as(Recipe((technique.step(name),))) == f'[["{name}",{KEPT[name]}]]'


def test_both_words_at_once_are_refused() -> None:
    with pytest.raises(SlimscopeError, match="prune_weights has no setting 'scope'"):
        migrate.read('[["prune_weights",{"scope":"layer","allocation":"erk"}]]')
    with pytest.raises(SlimscopeError, match="removed is 'half'"):
        migrate.read('[["prune_channels",{"kept":"half"}]]')


@pytest.mark.parametrize(
    ("name", "change"), [(name, change) for name, changes in migrate.RENAMED.items() for change in changes]
)
def test_the_table_names_settings_and_values_that_there_are(name: str, change: migrate.Renamed) -> None:
    knob = technique.get(name).knobs[change.new]
    for value in change.values.values():
        knob.check(change.new, value, None)
    assert change.old not in technique.get(name).knobs or change.old == change.new


# ---------------------------------------------------------------- a setting that comes later


AVERAGED = Toggle(help="Takes the mean of the last weights.", added=True)


def finetune_with_more(
    bundle: Bundle, data: Data, *, progress: Progress, **settings: object
) -> tuple[Bundle, Report]:
    """Fine-tuning of a later day."""
    raise AssertionError("what is kept is not trained again")


@pytest.fixture
def later() -> Iterator[None]:
    """Call it when fine-tuning is to have one setting more, from then on."""
    known = technique.get("finetune")
    yield
    technique.REGISTRY["finetune"] = known


def test_a_setting_that_comes_later_keeps_links_results_and_trained_models(later: None) -> None:
    digits = sets.load("mnist")
    link = '[["prune_weights",{"sparsity":0.5}],["finetune",{"epochs":1}]]'
    before, payload = migrate.read(link), {"model": "mlp-32", "recipe": link, "data": "mnist"}
    kept = migrate.kept_as(before)
    trained = tasks.perform("apply", payload, Progress())
    known = technique.get("finetune")
    technique.REGISTRY["finetune"] = replace(
        known,
        function=finetune_with_more,
        knobs={**known.knobs, "averaged": AVERAGED},
        defaults={**known.defaults, "averaged": False},
    )
    after = migrate.read(link)
    assert after.steps[1].settings["averaged"] is False
    assert before.key != after.key
    assert migrate.kept_as(after) == kept
    found = recipes.trained("mlp-32", after, "mnist")
    assert found is not None
    assert [figure.to_dict() for figure in found[1].figures] == trained["figures"]
    other = Recipe((before.steps[0], technique.step("finetune", epochs=1, averaged=True)))
    with pytest.raises(AssertionError, match="not trained again"):
        recipes.make(zoo.load("mlp-32"), other, digits, Progress())
    assert recipes.after("mlp-32", before, "mnist")[1][1].step == found[1].step


def test_a_report_kept_in_old_words_says_todays() -> None:
    bundle = zoo.load("mlp-32")
    _, report = run.apply(bundle, technique.step("prune_weights"), None)
    data = as_json.report_data(report)
    data["step"][1] = {"scope": "model", "sparsity": 0.9}
    told = as_json.report_of(data).step
    assert told is not None
    assert told.settings == {"allocation": "global", "sparsity": 0.9}


# ---------------------------------------------------------------- the recipe in a file


def quantize_with_more(
    bundle: Bundle,
    data: Data | None,
    *,
    bits: Annotated[int, technique.get("quantize").knobs["bits"]] = 8,
    leave_out: Annotated[list[str], technique.get("quantize").knobs["leave_out"]] = (),  # type: ignore[assignment]
    hadamard_rotated: Annotated[bool, Toggle(help="A setting of a later day.", added=True)] = False,
) -> tuple[Bundle, Report]:
    """Quantize of a later day."""
    raise AssertionError("only read")


def test_a_file_says_a_setting_that_came_later_only_where_it_is_not_at_its_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = technique.get("quantize")
    knobs, defaults = technique._read_signature(quantize_with_more)

    def packed(**settings: Any) -> bytes:
        recipe = technique.complete(Recipe((Step("quantize", settings),)))
        return packfile.pack(replace(zoo.load("mlp-32"), lineage=recipe))

    less = {name: knob for name, knob in knobs.items() if not knob.added}
    monkeypatch.setitem(
        technique.REGISTRY,
        "quantize",
        replace(known, knobs=less, defaults={name: defaults[name] for name in less}),
    )
    before = packed(bits=5)
    monkeypatch.setitem(technique.REGISTRY, "quantize", replace(known, knobs=knobs, defaults=defaults))
    assert packed(bits=5) == before
    assert packfile.unpack(before).lineage == technique.complete(Recipe((Step("quantize", {"bits": 5}),)))
    other = packed(bits=5, hadamard_rotated=True)
    assert len(other) > len(before)
    assert packfile.unpack(other).lineage.steps[0].settings["hadamard_rotated"] is True
    incomplete = replace(zoo.load("mlp-32"), lineage=Recipe((Step("quantize", {"hadamard_rotated": False}),)))
    assert packfile.unpack(packfile.pack(incomplete)).lineage == incomplete.lineage
