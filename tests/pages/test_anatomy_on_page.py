"""The picture of the model on pages: its values are the engine's; a layer is chosen for all pages."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
from visiting import MODEL, STORY, Visit

from engine.jobs.job import Job
from engine.net import zoo
from pages.parts import cached, card, figures
from pages.parts.anatomy import colours, measures

pytestmark = pytest.mark.usefixtures("framed")


def told(visit: Visit) -> dict[str, Any]:
    """What a page tells its picture of the model."""
    (found,) = (
        json.loads(part.proto.json)
        for part in visit.at.get("bidi_component")
        if part.proto.component_name.endswith("slimscope.anatomy")
    )
    return dict(found)


def shown(visit: Visit) -> str:
    return str(next(box for box in visit.at.selectbox if str(box.key).startswith("layer-")).value)


def test_a_layer_that_is_chosen_in_the_picture_or_on_a_page_is_in_view_on_every_page() -> None:
    visit = Visit(m=MODEL, r="[]")
    assert (told(visit)["chosen"], told(visit)["turn"]) == ("fc1", 0)
    visit.open("prune")
    box = next(box for box in visit.at.selectbox if str(box.key).startswith("layer-"))
    visit.set("selectbox", str(box.key), "fc3")
    assert told(visit)["chosen"] == "fc3"
    for page in ("quantize", "low_rank", "overview"):
        visit.open(page)
        assert told(visit)["chosen"] == "fc3"
        assert page == "overview" or shown(visit) == "fc3"
    visit.open("channels")  # whose first layer reads the image
    assert [name for name, node in told(visit)["nodes"].items() if node["layer"] and not node["open"]] == [
        "fc1"
    ]


def test_boxes_say_bytes_and_errors_of_the_recipe_in_view() -> None:
    visit = Visit(m=MODEL, r=STORY)
    subject = cached.subject(MODEL, zoo.entry(MODEL).data)
    table = cached.layers(subject, STORY).set_index("layer")["packed bytes"]
    nodes = told(visit)["nodes"]
    assert f"{table['fc1'] / 1000:.1f} KB in the compressed file" in nodes["fc1"]["about"]
    assert told(visit)["scale"]["high"] == f"{table.max() / 1000:,.1f} KB"
    visit.set("segmented_control", "anatomy-colour", "Error")
    error = cached.relative_errors(subject, STORY)["fc2"]
    assert f"changed by {100 * error:.2f} % of its size" in told(visit)["nodes"]["fc2"]["about"]
    visit.set("segmented_control", "anatomy-colour", "Sensitivity")
    assert "Scan each layer by itself" in visit.words
    assert told(visit)["nodes"]["fc2"]["fill"] is None


def test_sensitivity_is_told_at_the_gentlest_value_that_costs_something(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changes = {0.5: (0.001, -0.002), 0.9: (-0.004, -0.03), 0.98: (-0.4, -0.8)}
    rows = tuple(
        {"layer": layer, "value": value, "change": change, "accuracy": 0.9}
        for value, both in changes.items()
        for layer, change in zip(("fc1", "fc2"), both, strict=True)
    )
    refused = {"layer": "fc3", "value": 0.98, "change": None}
    payload = {"technique": "prune_weights", "setting": "sparsity"}
    job = Job("1", "me", "sensitivity", "", payload, "done", series=(*rows, refused))
    monkeypatch.setattr(measures, "_newest_scan", lambda: job)
    found = measures.of("Sensitivity", "", "[]")
    assert found.values == {"fc1": 0.004, "fc2": 0.03}
    assert (
        found.sentence("fc2")
        == "3.00 points of validation accuracy lost at sparsity 90 % of this layer alone"
    )
    monkeypatch.setattr(measures, "_newest_scan", lambda: replace(job, series=(refused,)))
    assert "No layer could be scanned" in measures.of("Sensitivity", "", "[]").missing


def test_ink_is_read_on_every_colour() -> None:
    for (low, high), step in product((colours.LIGHT, colours.DARK), range(101)):
        fill = colours.between(low, high, step / 100)
        assert colours.contrast(fill, colours.ink(fill)) >= 4.5


@pytest.mark.parametrize("name", zoo.trained())
def test_a_model_card_is_a_table_in_words(name: str) -> None:
    rows = dict(card.told(zoo.card(name)))
    assert rows["Licence"].startswith("CC0-1.0" if zoo.entry(name).is_ours else "MIT")
    tested = zoo.tested(name)
    assert f"{figures.text(tested['value'], tested['unit'])} (" in rows[f"Test {tested['name']}"]
    assert "training" in rows["Data"]
    assert "{" not in "".join(rows.values())
