"""The language model: a text goes on at five widths, any beginning, and perplexity on every page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_pages import Visit

from engine.net import zoo
from pages.parts import cached, figures, jobs
from pages.parts.writing import coarse
from pages.parts.writing.page import FIRST, NAME, SUBJECT

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


@pytest.fixture(autouse=True)
def few_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coarse, "WINDOWS", 3)


def test_five_rows_go_on_and_every_kind_of_beginning_gets_a_sentence() -> None:
    visit = Visit("language", m="mlp-32", r="[]")
    assert visit.html.count('<div class="writing">') == 5
    assert f'<span class="given">{FIRST}</span>' in visit.html
    for bits in coarse.BITS:
        size = cached.size(SUBJECT, coarse.key_of(bits, False))
        assert figures.text(size.value, size.unit) in visit.html
    assert "read two books by Lewis Carroll" in visit.words
    visit.set("text_input", "beginning", "")
    assert "An empty beginning gives the model nothing to go on from" in visit.words
    visit.set("text_input", "beginning", "她 wörld " + "and then she said " * 60)
    assert "not in its vocabulary" in visit.html
    assert "她" in visit.html
    assert "what is struck out was cut off" in visit.html


def test_it_is_opened_on_every_page_and_is_judged_by_perplexity_there() -> None:
    visit = Visit("language", m="mlp-32", r="[]")
    visit.click("open-glass")
    assert visit.work.model == NAME
    visit = Visit("quantize", m=NAME, r="[]", t=json.dumps([["quantize", {"bits": 3}]]))
    n = cached.sample_size(SUBJECT)
    change = cached.accuracy(SUBJECT, visit.view.key, n)[1]
    assert visit.tiles["perplexity"] == pytest.approx(zoo.tested(NAME)["value"] * (1 + change.value))
    visit.at.session_state["footer"] = "What changed"
    visit.run()
    assert "Perplexity of this window" in visit.words
    assert visit.html.count('<p class="passage">') == 4


def test_its_overview_shows_windows_and_their_perplexity() -> None:
    visit = Visit(m=NAME, r="[]")
    assert visit.tiles["perplexity"] == zoo.tested(NAME)["value"]
    assert visit.html.count('<p class="passage">') == 4
    assert "Trained elsewhere" in visit.words


def test_perplexity_is_of_all_windows_once_each_width_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(jobs, "measure_all", lambda owner, subject, key, title: asked.append(key))
    visit = Visit("language", m="mlp-32", r="[]")
    assert asked[-1] == coarse.key_of(8, False)
    assert "the first 3 windows (all 256 follow)" in visit.words
    now, change = cached.accuracy(SUBJECT, coarse.key_of(2, True), 3)
    known = (replace(now, value=777.7), change)
    monkeypatch.setattr(cached, "full_accuracy", lambda subject, key: known if subject == SUBJECT else None)
    asked.clear()
    visit.run()
    assert asked == []
    assert "on all 256 windows" in visit.words
    assert visit.html.count("777.7") == 4 + 8
    assert figures.text(zoo.tested(NAME)["value"], "perplexity") in visit.html
