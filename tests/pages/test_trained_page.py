"""The page of a technique that trains and has no file of its own: trained, and not yet trained."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from driving import panels
from streamlit.testing.v1 import AppTest
from streamlit.util import calc_hash

from engine.recipe import technique
from pages.parts import jobs
from pages.parts.pictures import step_sizes

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.usefixtures("framed")


def visit(page: str, model: str, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.query_params["m"] = model
    at._page_hash = calc_hash(page)
    at.run()
    assert [error.message for error in at.exception] == []
    return at


@pytest.mark.parametrize(
    "name", ["quantize_aware", "distill_quantized", "ternarize_trained", "learn_intervals"]
)
def test_it_opens_with_the_trained_defaults(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, list[float]]] = []

    def noting(steps: pd.DataFrame, key: str) -> None:
        drawn.append((key, sorted(set(steps["epoch"]))))

    monkeypatch.setattr(step_sizes, "draw", noting)
    at, known = visit(name, "lenet-300-100", monkeypatch), technique.get(name)
    html = "\n".join(part.proto.body for part in at.html)
    assert at.header[0].value == known.title
    assert panels(at)[name]["settings"] == known.defaults
    assert drawn == [(name, [0.0, 1.0, 2.0, 3.0, 4.0, 5.0])]
    assert "Validation accuracy, rounded and not trained" in html
    assert "Layer by layer" in [part.value for part in at.subheader]
    assert known.aha[:30] in html
    assert known.trap[:30] in html


def test_where_nothing_is_trained_it_offers_to(monkeypatch: pytest.MonkeyPatch) -> None:
    at = visit("quantize_aware", "mlp-32", monkeypatch)
    assert at.button("run-quantize_aware").label.startswith("Train (about ")
