"""The page of factor transfer: what the factors keep as pictures, and a sentence where there are no maps."""

from __future__ import annotations

import re

import pytest
from streamlit.testing.v1 import AppTest
from visiting import Visit

from engine.jobs import tasks
from engine.recipe import technique
from engine.types import Progress, Recipe
from pages.parts import jobs

pytestmark = pytest.mark.usefixtures("framed")


def _drawn() -> None:
    import pandas as pd

    from engine.figures.feature_maps import COLUMNS, LEFT, WHOLE
    from pages.parts.pictures import factor_maps

    rows = [
        (image, channel, of, 1, 2, "00ff") for image in (0, 1) for channel in (4, 2) for of in (WHOLE, LEFT)
    ]
    factor_maps.draw(pd.DataFrame(rows, columns=COLUMNS))
    factor_maps.draw(pd.DataFrame([], columns=COLUMNS))


def test_each_image_has_a_row_of_maps_above_a_row_of_reconstructions() -> None:
    at = AppTest.from_function(_drawn, default_timeout=60).run()
    assert not at.exception
    (grid,) = [part.proto.body for part in at.html]
    said = re.findall(r'alt="([^"]*)"', grid)
    assert said[:3] == [
        "Image 1, channel 4: teacher&#x27;s map",
        "Image 1, channel 2: teacher&#x27;s map",
        "Image 1, channel 4: from its factors",
    ]
    assert len(said) == grid.count('src="data:image/png') == 8


def test_what_was_trained_is_shown_and_a_model_without_maps_is_told_why(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    refused = Visit("factor_transfer", m="lenet-300-100")
    assert any("has no feature maps" in each.value for each in refused.at.info)
    assert [button for button in refused.at.button if button.key == "run-factor_transfer"] == []
    step = technique.step("factor_transfer", epochs=1, paraphraser_epochs=1, subset=500, control=False)
    recipe = technique.complete(Recipe((step,)))
    tasks.perform("apply", {"model": "lenet-5", "data": "mnist", "recipe": recipe.key}, Progress())
    html = Visit("factor_transfer", m="lenet-5", r=recipe.key).html
    assert "Reconstruction error" in html
    assert html.count(": from its factors") == 18
    assert "it drowns the labels" in html
