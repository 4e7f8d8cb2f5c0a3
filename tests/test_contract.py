"""What every technique promises. A new one joins by being registered; nothing here names one's insides."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine import data, measure, packfile, zoo
from engine.data import Data
from engine.run import apply
from engine.technique import REGISTRY, Choice, PerLayer, SettingError, Slider, Technique
from engine.types import Bundle, Recipe, Report, Step

ALL = list(REGISTRY)
# Techniques that train do so for as little as their own knobs allow, unless named here.
TINY: Mapping[str, Mapping[str, Any]] = {}
PURE_NUMBERS = ("learning_rate", "temperature", "seed")


@pytest.fixture(scope="module")
def small() -> Data:
    whole = data.load("mnist")
    parts = (part.stratified(300) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def before() -> Bundle:
    return zoo.bundle_of("lenet-300-100", zoo.seeded("lenet-300-100", 0).state_dict())


@pytest.fixture(scope="module")
def results(small: Data, before: Bundle) -> dict[str, tuple[Bundle, Report, str]]:
    """Each technique applied once: (bundle, report, fingerprint of the input afterwards)."""
    return {name: (*apply(before, tiny(REGISTRY[name]), small), before.fingerprint) for name in ALL}


def tiny(spec: Technique) -> Step:
    """The default step; one that trains passes over its few samples as seldom as it can."""
    settings = dict(TINY.get(spec.name, {}))
    epochs = spec.knobs.get("epochs")
    if spec.trains and isinstance(epochs, Slider):
        settings.setdefault("epochs", epochs.bounds(None)[0])
    return Step(spec.name, settings)


@pytest.mark.parametrize("name", ALL)
def test_the_input_is_never_touched(name: str, results: Mapping[str, Any], before: Bundle) -> None:
    fresh = zoo.bundle_of("lenet-300-100", zoo.seeded("lenet-300-100", 0).state_dict())
    assert Bundle(before.arch, before.params).fingerprint == fresh.fingerprint
    assert results[name][0].fingerprint != fresh.fingerprint


@pytest.mark.parametrize("name", ALL)
def test_the_same_call_gives_the_same_result(
    name: str, results: Mapping[str, Any], before: Bundle, small: Data
) -> None:
    after, report = apply(before, tiny(REGISTRY[name]), small)
    assert after.fingerprint == results[name][0].fingerprint
    assert report.figures == results[name][1].figures or REGISTRY[name].trains
    assert report.notes == results[name][1].notes


@pytest.mark.parametrize("name", ALL)
def test_the_lineage_ends_in_the_step_and_its_key_reads_back(name: str, results: Mapping[str, Any]) -> None:
    after, report, _ = results[name]
    last = after.lineage.steps[-1]
    assert last == report.step
    assert (last.technique, set(last.settings)) == (name, set(REGISTRY[name].knobs))
    recipe = Recipe((last, Step(name, last.settings, on=False)))
    assert Recipe.from_key(recipe.key) == recipe


@pytest.mark.parametrize("name", ALL)
def test_the_origin_is_the_net_that_was_loaded(name: str, results: Mapping[str, Any], before: Bundle) -> None:
    assert results[name][0].origin is before


@pytest.mark.parametrize("name", ALL)
def test_the_packed_net_is_rebuilt_with_equal_answers(
    name: str, results: Mapping[str, Any], small: Data
) -> None:
    after = results[name][0]
    again = packfile.unpack(packfile.pack(after))
    assert again.arch == after.arch
    ours, theirs = (measure.logits(zoo.build(b), small.test) for b in (after, again))
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("name", ALL)
def test_every_figure_says_how_it_was_obtained(name: str, results: Mapping[str, Any]) -> None:
    report = results[name][1]
    assert report.figures
    for figure in report.figures:
        assert figure.how
        assert figure.unit
        assert figure.name
    assert all(len(table.columns) for table in report.tables.values())


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
