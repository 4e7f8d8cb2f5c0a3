"""What every technique promises. A new one joins by being registered; nothing here names one's insides."""

import functools
from collections.abc import Mapping
from typing import Any

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe.knobs import Choice, Entries, Knob, PerLayer, Picks, SettingError, Slider
from engine.recipe.run import apply
from engine.recipe.technique import REGISTRY, Technique, complete
from engine.types import Bundle, Recipe, Report, SlimscopeError, Step

ALL = list(REGISTRY)
# Techniques that train do so for as little as their own knobs allow, unless named here.
TINY: Mapping[str, Mapping[str, Any]] = {
    "adaround": {"steps": 100},
    "zeroq": {"steps": 10, "images": 16},
    "search_design": {"designs": 2},
}
# For techniques that have nothing to do on a perceptron.
NETS = {
    "condense": "resnet-8",
    "replace_convs": "lenet-5-small",
    "search_design": "lenet-5-small",
    "factor_transfer": "lenet-5",
    "low_rank_rnn": "lstm-32",
    "prune_heads": "transformer-topics",
}
# Settings that say how long it takes.
SHORT = ("epochs", "paraphraser_epochs", "rounds", "steps", "tuning", "samples", "images", "designs")
LSTMS = ("lstm-mnist", "lstm-32")
RECURRENT = (*LSTMS, "bilstm-topics")
TEXT = "transformer-topics"
PLAIN = ("lenet-300-100", "lenet-5", "mlp-32", "lenet-5-small", TEXT)  # without batch-norm
STUDENTS = ("vgg-small", "mlp-32", "lenet-5-small", "resnet-8", "lstm-32", "bilstm-topics")
REFUSED: Mapping[str, tuple[str, ...]] = {
    "prune_filters": RECURRENT,
    "prune_channels": RECURRENT,
    "prune_heads": tuple(net for net in zoo.ENTRIES if net != TEXT),
    "slim": (*RECURRENT, *PLAIN),
    "condense": (
        *RECURRENT,
        "lenet-300-100",
        "lenet-5",
        "mlp-500-300",
        "mlp-32",
        TEXT,
    ),  # no equal groups
    "replace_convs": (*RECURRENT, "lenet-300-100", "mlp-500-300", "mlp-32", TEXT),  # no convolutions
    "search_design": (*RECURRENT, TEXT),  # most of whose weights are in no group of channels
    "equalize": RECURRENT,
    "smoothquant": RECURRENT,
    "low_rank_rnn": tuple(net for net in zoo.ENTRIES if net not in LSTMS),
    "zeroq": (*RECURRENT, *PLAIN),
    "distill": STUDENTS,  # nobody learns from these
    "factor_transfer": (*STUDENTS, "mlp-500-300", TEXT),  # which have no feature maps
}
# Wider or deeper, of the same kinds of layers; test_matrix has more nets with batch-norm.
LIKE_OTHERS = ("lenet-300-100", "lenet-5", "resnet-20", "vgg-small", "lstm-mnist", "bilstm-topics")
READ_ON = "glass-en"  # in test_language_model
PURE_NUMBERS = ("learning_rate", "weight_decay", "temperature", "seed")


@functools.cache
def given(technique: str) -> tuple[Bundle, Data]:
    """A fresh net that the technique can work on, and a few of its images."""
    net = NETS.get(technique, "mlp-500-300")
    whole = sets.load(zoo.entry(net).data)
    parts = (part.stratified(300) for part in (whole.train, whole.validation, whole.test))
    return fresh(net), Data(whole.name, *parts, classes=whole.classes)


def fresh(net: str) -> Bundle:
    return zoo.bundle_of(net, zoo.seeded(net, 0).state_dict())


@pytest.fixture(scope="module")
def before() -> Bundle:
    return given("prune_weights")[0]


@pytest.fixture(scope="module")
def results() -> dict[str, tuple[Bundle, Report]]:
    """Each technique applied once."""
    return {name: apply(given(name)[0], tiny(REGISTRY[name]), given(name)[1]) for name in ALL}


def tiny(spec: Technique) -> Step:
    """The default step; one that trains passes over its few samples as seldom as it can."""
    settings = dict(TINY.get(spec.name, {}))
    for name in ("epochs", "paraphraser_epochs"):
        epochs = spec.knobs.get(name)
        if spec.trains and isinstance(epochs, Slider):
            settings.setdefault(name, epochs.bounds(None)[0])
    return Step(spec.name, settings)


@pytest.mark.parametrize("name", ALL)
def test_the_input_is_never_touched(name: str, results: Mapping[str, Any]) -> None:
    before, _ = given(name)
    untouched = fresh(before.arch.name).fingerprint
    assert Bundle(before.arch, before.params).fingerprint == untouched
    assert results[name][0].fingerprint != untouched


@pytest.mark.parametrize("name", ALL)
def test_the_same_call_gives_the_same_result(name: str, results: Mapping[str, Any]) -> None:
    bundle, images = given(name)
    after, report = apply(bundle, tiny(REGISTRY[name]), images)
    assert after.fingerprint == results[name][0].fingerprint
    assert report.figures == results[name][1].figures or REGISTRY[name].trains
    assert report.notes == results[name][1].notes


@pytest.mark.parametrize("name", ALL)
def test_the_lineage_ends_in_the_step_and_its_key_reads_back(name: str, results: Mapping[str, Any]) -> None:
    after, report = results[name]
    last = after.lineage.steps[-1]
    assert last == report.step
    assert (last.technique, set(last.settings)) == (name, set(REGISTRY[name].knobs))
    recipe = Recipe((last, Step(name, last.settings, on=False)))
    assert Recipe.from_key(recipe.key) == recipe


@pytest.mark.parametrize("name", ALL)
def test_the_origin_is_the_net_that_was_loaded(name: str, results: Mapping[str, Any]) -> None:
    assert results[name][0].origin is given(name)[0]


@pytest.mark.parametrize("name", ALL)
def test_the_packed_net_is_rebuilt_with_equal_answers(name: str, results: Mapping[str, Any]) -> None:
    after = results[name][0]
    again = packfile.unpack(packfile.pack(after))
    assert again.arch == after.arch
    ours, theirs = (measure.logits(zoo.build(b), given(name)[1].test) for b in (after, again))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("net", [net for net in zoo.ENTRIES if net not in (*LIKE_OTHERS, READ_ON)])
@pytest.mark.parametrize("name", ALL)
def test_on_a_net_of_each_kind_it_works_or_says_in_a_sentence_why_not(name: str, net: str) -> None:
    bundle, images = fresh(net), few(zoo.entry(net).data)
    spec = REGISTRY[name]
    shortest = {k: knob.bounds(None)[0] for k, knob in spec.knobs.items() if k in SHORT}
    if net in REFUSED.get(name, ()):
        with pytest.raises(SlimscopeError, match=r"(\S+ ){4}"):
            apply(bundle, Step(name, shortest), images)
        return
    after, report = apply(bundle, Step(name, shortest), images)
    assert report.figures
    answers = measure.logits(zoo.build(packfile.unpack(packfile.pack(after))), images.test)
    assert answers.shape == (len(images.test), len(images.classes))
    assert bool(answers.isfinite().all())


@functools.cache
def few(name: str) -> Data:
    """So few images that every technique is through at once."""
    whole = sets.load(name)
    parts = (part.stratified(40) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.mark.parametrize("name", ALL)
def test_every_figure_says_how_it_was_obtained(name: str, results: Mapping[str, Any]) -> None:
    report = results[name][1]
    assert report.figures
    for figure in report.figures:
        assert figure.how
        assert figure.unit
        assert figure.name


@pytest.mark.parametrize("name", ALL)
def test_tables_have_the_columns_that_are_declared(name: str, results: Mapping[str, Any]) -> None:
    declared = REGISTRY[name].tables
    assert declared
    for table, rows in results[name][1].tables.items():
        assert len(rows.columns)
        assert list(rows.columns) == [column for column in declared[table] if column in rows]


@pytest.mark.parametrize("name", ALL)
def test_the_cost_of_a_training_is_known_beforehand(name: str) -> None:
    spec = REGISTRY[name]
    assert spec.trains == (spec.cost is not None)
    if spec.cost is not None:
        assert spec.cost(spec.check(tiny(spec).settings)).epochs >= 1


@pytest.mark.parametrize("name", ALL)
def test_reference_help_and_units_are_there(name: str) -> None:
    spec = REGISTRY[name]
    assert len(spec.about) > 20
    assert any(character.isdigit() for character in spec.reference)
    assert spec.title
    assert spec.family
    assert spec.page
    for key, knob in spec.knobs.items():
        assert knob.help.endswith(".")
        assert knob.label
        if isinstance(knob, Slider | PerLayer):
            assert knob.unit or key in PURE_NUMBERS
        if isinstance(knob, Choice):
            assert all(knob.options.values())
        for other, values in knob.when:
            assert other in spec.knobs
            allowed = spec.knobs[other]
            assert not isinstance(allowed, Choice) or set(values) <= set(allowed.options)


@pytest.mark.parametrize("name", ALL)
def test_presets_are_allowed_settings(name: str, before: Bundle) -> None:
    presets = REGISTRY[name].presets
    assert set(presets) == {"gentle", "balanced", "extreme"}
    for settings in presets.values():
        checked = REGISTRY[name].check(settings, before)
        assert all(checked[key] == value for key, value in settings.items())


def forbidden() -> list[tuple[str, str, Any, str]]:
    """(technique, setting, value, what the message must name) for every bounded setting."""
    cases: list[tuple[str, str, Any, str]] = []
    for name, spec in REGISTRY.items():
        for key, knob in spec.knobs.items():
            if isinstance(knob, Slider):
                cases += [(name, key, value, "from") for value in (-1e9, 1e9, "many", float("nan"))]
            elif isinstance(knob, Choice):
                cases.append((name, key, "no such option", next(iter(knob.options))))
            elif isinstance(knob, PerLayer):
                cases.append((name, key, {"fc1": 1e9}, "from"))
                cases.append((name, key, {"no such layer": 1}, "fc1, fc2, fc3"))
            elif isinstance(knob, Picks):
                cases.append((name, key, {"fc1": [-1]}, "whole numbers"))
                cases.append((name, key, {"fc1": [0.5]}, "whole numbers"))
                cases.append((name, key, {"no such layer": [1]}, "fc1, fc2, fc3"))
            elif isinstance(knob, Entries):
                last = f"from 0 to {knob.most - 1}"
                cases.append((name, key, {"fc1": {str(knob.most): 0.5}}, last))
                cases.append((name, key, {"fc1": {"0": float("nan")}}, last))
                cases.append((name, key, {"no such layer": {"0": 0.5}}, "fc1, fc2, fc3"))
    return cases


@pytest.mark.parametrize(("name", "key", "value", "allowed"), forbidden())
def test_what_is_out_of_range_is_refused_with_name_value_and_range(
    name: str, key: str, value: Any, allowed: str, before: Bundle
) -> None:
    with pytest.raises(SettingError) as caught:
        REGISTRY[name].check({key: value}, before)
    text = str(caught.value)
    shown = next(iter(value.items())) if isinstance(value, dict) else (value,)
    assert key in text
    assert allowed in text
    assert any(repr(part) in text for part in shown)


@pytest.mark.parametrize("name", ALL)
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(SettingError, match="no setting 'colour'"):
        REGISTRY[name].check({"colour": 1})


# ---------------------------------------------------------------- recipes from strangers


@pytest.mark.parametrize(
    ("knob", "value"),
    [
        (Choice(help="", options={"a": ""}), ["a"]),
        (Choice(help="", options={"a": ""}), {"a": "a" * 999}),
        (Slider(help="", low=0, high=1), 10**400),
        (Slider(help="", low=0, high=lambda bundle: 9.0, whole=True), 10**400),
        (Slider(help="", low=0, high=1), -(10**5000)),
    ],
    ids=["list", "table", "400 digits", "400 digits without an end", "5001 digits"],
)
def test_values_of_any_kind_and_length_are_refused_in_short(knob: Knob, value: Any) -> None:
    with pytest.raises(SettingError, match=r"^size is .*: allowed is ") as caught:
        knob.check("size", value, None)
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("1" * 5001, "too long"),
        ("1e999", "not finite"),
        ("NaN", "NaN: allowed are finite numbers"),
        ("-Infinity", "-Infinity: allowed are finite numbers"),
        (r'"\ud800"', "surrogate"),
        (r'{"\udfff": 1}', "surrogate"),
        ("[" * 100_000, "is not JSON"),
        ('"open', "is not JSON"),
    ],
    ids=["digits", "1e999", "nan", "infinity", "surrogate", "surrogate key", "depth", "open"],
)
def test_text_that_no_setting_may_be_is_refused(setting: str, says: str) -> None:
    with pytest.raises(SlimscopeError, match=says) as caught:
        Recipe.from_key(f'[["prune_weights",{{"sparsity":{setting}}}]]')
    assert len(str(caught.value)) < 250


def test_a_surrogate_in_a_name_is_refused_and_a_whole_pair_is_text() -> None:
    with pytest.raises(SlimscopeError, match="surrogate"):
        Recipe.from_key(r'[["\ud800",{}]]')
    assert Recipe.from_key(r'[["\ud83d\ude00",{}]]').steps[0].technique == "\U0001f600"


def test_no_depth_of_nesting_gets_through_as_another_error() -> None:
    refused = []
    for depth in (50, *range(600, 1100, 3), 100_000):
        try:
            Recipe.from_key(f'[["prune_weights",{{"sparsity":{"[" * depth}{"]" * depth}}}]]')
        except SlimscopeError:
            refused.append(depth)
    assert 50 not in refused
    assert 100_000 in refused


def test_a_recipe_has_at_most_fifty_steps() -> None:
    step = Step("prune_weights")
    assert len(complete(Recipe((step,) * 50))) == 50
    with pytest.raises(SlimscopeError, match="has 51 steps: allowed are at most 50"):
        complete(Recipe((step,) * 51))
