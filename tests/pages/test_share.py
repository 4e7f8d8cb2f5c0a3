"""The page of shared weights without a browser: what it draws, what it foresees, and an entry set by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from visiting import Visit

from engine.recipe import technique
from engine.tensor.kmeans import kmeans
from engine.types import Recipe, weight_layers
from pages.parts import cached, jobs, live, weight_maps

pytestmark = pytest.mark.usefixtures("framed")
MODEL = "mlp-32"
LAYER = "fc1"
SHARED = '[["share_weights",{"entries":6}]]'


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured on the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def told(visit: Visit, name: str) -> dict[str, Any]:
    parts = [
        p for p in visit.at.get("bidi_component") if p.proto.component_name.endswith(f"slimscope.{name}")
    ]
    return json.loads(parts[0].proto.json)


def table(pruned: bool = False) -> list[float]:
    steps = (technique.step("prune_weights", sparsity=0.5),) if pruned else ()
    bundle = cached.after(cached.subject(MODEL, "mnist"), Recipe(steps).key)[0]
    weight = bundle.params[f"{LAYER}.weight"].decode()
    return kmeans(weight[weight != 0], 6).table.tolist()


@pytest.mark.parametrize("pruned", [False, True])
def test_the_values_over_the_histogram_are_those_of_k_means(pruned: bool) -> None:
    before = '["prune_weights",{"sparsity":0.5}],' if pruned else ""
    visit = Visit("share", m=MODEL, r=f'[{before}["share_weights",{{"entries":6}}]]')
    stage = told(visit, "stage")
    levels, sticks = stage["marks"]["values"]
    assert levels["at"] == sticks["at"] == table(pruned)
    assert "6 values for" in stage["html"]["values"]
    assert ("zeros take no entry" in stage["html"]["values"]) == pruned
    assert stage["html"]["clusters"].count("<img") == 1
    assert told(visit, "drag") == {"chart": "values", "layer": LAYER, "name": "share_weights"}


def test_each_stop_of_the_slider_is_there_before_it_moves() -> None:
    visit = Visit("share", m=MODEL, r=SHARED)
    control = told(visit, "stage")["ask"]["controls"]["entries"]
    assert control["stops"][0] == 2
    assert control["stops"][-1] == 256
    drawn = [marks["values"][0]["at"] for marks in control["ahead"]["marks"]]
    assert len(drawn) == len(control["stops"])
    for stop, values in zip(control["stops"], drawn, strict=True):
        assert stop / 2 <= len(values) <= stop
        assert values == sorted(values)


def test_an_entry_is_set_by_hand_and_put_back() -> None:
    visit = Visit("share", m=MODEL, r=SHARED)
    whole, before = table(), visit.tiles
    visit.at.number_input(key=f"entry-{LAYER}").set_value(5)
    visit.run()
    assert visit.at.number_input(key=f"value-{LAYER}-5").value == pytest.approx(whole[5])
    visit.at.number_input(key=f"value-{LAYER}-5").set_value(3.0)
    visit.run()
    assert visit.view.steps[-1].settings["by_hand"] == {LAYER: {"5": 3.0}}
    marks = told(visit, "stage")["marks"]["values"]
    assert marks[0]["at"] == [*whole[:5], 3.0]
    assert marks[0]["hand"] == [5]
    assert visit.tiles["accuracy"] != before["accuracy"]
    visit.at.button(key=f"back-{LAYER}").click()
    visit.run()
    assert visit.view.steps[-1].settings["by_hand"] == {}
    assert visit.tiles == before


def test_what_is_asked_while_a_handle_is_held_is_what_the_recipe_gives() -> None:
    Visit("share", m=MODEL, r=SHARED)
    subject = cached.subject(MODEL, "mnist")
    step = technique.step("share_weights", entries=6, by_hand={LAYER: {"2": 0.25}})
    answer = live.answer(subject, Recipe((step,)), 0, LAYER)
    assert answer["marks"]["values"][0]["at"][2] == 0.25
    book = cached.after(subject, Recipe((step,)).key)[0].params[f"{LAYER}.weight"]
    assert float((book.decode() == 0.25).sum()) == answer["marks"]["values"][1]["heights"][2]


def test_a_layer_that_is_left_out_is_said_and_not_drawn() -> None:
    visit = Visit("share", m=MODEL, r='[["share_weights",{"leave_out":["fc1"]}]]')
    stage = told(visit, "stage")
    assert stage["marks"]["values"] == []
    assert "left out" in stage["html"]["layers"]


def test_a_table_for_all_layers_has_the_numbers_of_all_its_entries() -> None:
    visit = Visit("share", m=MODEL, r='[["share_weights",{"entries":40,"allocation":"global"}]]')
    levels, sticks = told(visit, "stage")["marks"]["values"]
    assert len(levels["at"]) == 40
    bundle = cached.original(cached.subject(MODEL, "mnist"))
    assert sum(sticks["heights"]) == bundle.params[weight_layers(bundle)[LAYER]].decode().numel()


def test_a_picture_has_a_colour_for_each_entry_and_white_for_zeros() -> None:
    numbers = torch.tensor([[-1.0, 0.0], [1.0, 2.0]])
    picture = weight_maps.cluster_map(numbers, 3)
    colours = [weight_maps.cluster_colour(i, 3) for i in range(3)]
    assert picture.numbers.tolist() == [[1, colours[0]], [colours[1], colours[2]]]
    assert picture.palette[1].tolist() == [255, 255, 255]
    assert len({tuple(picture.palette[c]) for c in colours}) == 3
    everything = weight_maps.cluster_map(torch.arange(256.0).reshape(16, 16), 256)
    assert int(everything.numbers.max()) == len(weight_maps.CLUSTER_COLOURS) - 1
