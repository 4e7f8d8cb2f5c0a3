"""The page of distilled images: drawn step by step, and refused in words for a model without batch-norm."""

from __future__ import annotations

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

    from pages.parts.pictures import distilled

    columns = ("step", "image", "channels", "height", "width", "pixels")
    rows = [(step, image, 3, 2, 2, "00ff7f" * 4) for step in (0, 20) for image in range(2)]
    distilled.draw(pd.DataFrame(rows, columns=columns))
    distilled.draw(pd.DataFrame([], columns=columns))


def test_each_kept_step_is_a_row_of_images() -> None:
    at = AppTest.from_function(_drawn, default_timeout=60).run()
    assert not at.exception
    rows = [part.proto.body for part in at.html]
    assert [row.count('src="data:image/png') for row in rows] == [2, 2]
    assert "noise at first" in rows[0]
    assert "after 20 steps" in rows[1]


def test_a_model_without_batch_norm_is_told_why_it_can_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    visit = Visit("zeroq", m="mlp-32")
    assert any("has no batch-norm" in each.value for each in visit.at.info)
    assert [button for button in visit.at.button if button.key == "run-zeroq"] == []
    offered = Visit("zeroq", m="mlp-500-300")
    assert offered.at.button(key="run-zeroq").label.startswith("Train (about ")


def test_the_page_opens_with_images_that_came_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda owner, subject, key: None)
    visit = Visit("zeroq", m="resnet-8")
    assert [button for button in visit.at.button if button.key == "run-zeroq"] == []
    assert "after 200 steps" in visit.html


def test_a_distilled_model_shows_its_images_and_what_the_ranges_of_others_bring(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    recipe = technique.complete(Recipe((technique.step("zeroq", steps=10, images=16),)))
    tasks.perform(
        "apply", {"model": "mlp-500-300", "data": "mnist", "recipe": recipe.key, "samples": 500}, Progress()
    )
    html = Visit("zeroq", m="mlp-500-300", r=recipe.key).html
    assert html.count('alt="image 1"') == 4
    assert "after 10 steps" in html
    for source in ("training images", "noise"):
        assert f"Validation accuracy, ranges from {source}" in html
    assert "kl 4 bits" in html
