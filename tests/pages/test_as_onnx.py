"""The parts of "Ship it" that run the model as an ONNX file and on integers, when they are opened."""

from __future__ import annotations

import pytest
from visiting import Visit

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures.latency import stopwatch
from pages.parts import cached, jobs

pytestmark = pytest.mark.usefixtures("framed")
STATIC = '[["quantize",{"activations":"static"}]]'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "WARM_UP", 1)
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def shipped(page: str, link: str, model: str = "mlp-32") -> Visit:
    visit = Visit(page, m=model, r=link)
    visit.at.session_state["footer"] = "Ship it"
    return visit.run()


def labels(visit: Visit) -> list[str]:
    return [button.proto.label for button in visit.at.get("download_button")]


def test_the_onnx_file_is_made_run_and_offered_when_it_is_asked_for() -> None:
    visit = shipped("overview", STATIC)
    assert "ONNX file (.onnx)" not in labels(visit)
    visit.open_fold("onnx")
    assert "ONNX file (.onnx)" in labels(visit)
    found = cached.as_onnx("mlp-32|mnist", visit.view.key)
    for name in ("accuracy", "ONNX file", "largest output difference", "speed-up"):
        figure = found.figure(name)
        assert figure is not None
        assert f'data-figure="{name}" data-value="{figure.value!r}"' in visit.html
    assert found.why in visit.words
    assert "Layers that multiply 8-bit integers: fc1, fc2." in visit.words
    assert any(
        "slimscope export mlp-32" in block.value and "--onnx" in block.value for block in visit.at.code
    )
    visit.click("onnx-again")
    assert "ONNX file (.onnx)" in labels(visit)


def test_a_model_on_integers_stands_beside_the_simulated_one() -> None:
    visit = shipped("overview", STATIC).open_fold("integers")
    found = cached.on_integers("mlp-32|mnist", visit.view.key)
    assert found.first in visit.words
    assert "fits 32 bits" in visit.html
    for figure in found.figures:
        assert f'data-figure="{figure.name}" data-value="{figure.value!r}"' in visit.html


def test_where_nothing_is_rounded_on_fixed_grids_there_is_no_such_part() -> None:
    visit = shipped("overview", '[["prune_weights",{"sparsity":0.5}]]')
    assert [part.label for part in visit.at.expander if "integers" in part.label] == []


def test_what_does_not_run_on_integers_says_why() -> None:
    visit = shipped("overview", STATIC, "lstm-32").open_fold("integers")
    assert any("has a recurrent layer" in box.value for box in visit.at.info)
