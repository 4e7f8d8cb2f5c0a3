"""The page of low rank of an LSTM: what it shows of one, and what it says where there is none."""

from __future__ import annotations

import pytest
from visiting import Visit, assert_shows_the_truth

from engine.net import projecting, zoo
from engine.recipe import technique
from engine.recipe.run import apply
from pages.parts import jobs
from pages.parts.pictures import projected

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured on the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def test_its_page_shows_the_matrices_and_follows_its_settings() -> None:
    visit = Visit("low_rank_rnn", m="lstm-32", r="[]", t='[["low_rank_rnn",{}]]')
    assert_shows_the_truth(visit, "lstm-32")
    assert "All that an LSTM passes on are its states" in visit.html
    assert "lstm.weight_hr_l0" in visit.html
    assert "128 x 12 + 10 x 12 and once 12 x 32 for P = 2,040" in visit.html, "the matrices that share P"
    before = visit.tiles
    visit.edit("low_rank_rnn", by="rank", rank=4)
    assert_shows_the_truth(visit, "lstm-32")
    assert visit.tiles != before
    assert "128 x 4 + 10 x 4 and once 4 x 32 for P = 680" in visit.html


def test_the_marks_are_what_each_matrix_keeps_at_the_rank() -> None:
    level = projecting.level_of(zoo.load("lstm-32"), "fc.weight", False)
    assert level is not None
    assert level.names == ("lstm.weight_hh_l0", "fc.weight")
    step = technique.step("low_rank_rnn", by="rank", rank=4)
    table = apply(zoo.load("lstm-32"), step, None)[1].tables["layers"]
    kept = table.set_index("layer").loc[["lstm.weight_hh_l0", "fc"], "energy_kept"].tolist()
    line, *dots = projected.marks(level, 4)
    assert [dot["y"] for dot in dots] == pytest.approx(kept, abs=1e-6)
    assert line["text"] == f"rank 4: {100 * kept[0]:.1f} % and {100 * kept[1]:.1f} %"
    curves = projected.kept(level)["data"]
    assert [len(curve["x"]) for curve in curves] == [31, 31]
    assert projecting.level_of(zoo.load("mlp-32"), "fc1.weight", False) is None


def test_a_model_without_an_lstm_is_told_so() -> None:
    assert "has no LSTM to factorize" in Visit("low_rank_rnn", m="mlp-32").words
