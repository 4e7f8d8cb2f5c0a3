"""Pages of models that read text: samples are sentences, and heads of attention stand in a grid."""

from __future__ import annotations

import json
import re
from html import unescape

import pytest
from visiting import Visit, assert_shows_the_truth

from engine.data import sets
from engine.figures import measure
from engine.net import heads, zoo
from pages.parts import cached, jobs

pytestmark = pytest.mark.usefixtures("framed")
MODEL, DATA = "transformer-topics", "debian-topics"


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def quotes(html: str) -> list[str]:
    return [unescape(text) for text in re.findall(r'<q class="sample">(.*?)</q>', html)]


def test_what_changed_shows_the_sentences_whose_answer_flipped() -> None:
    visit = Visit("prune", m=MODEL, r="[]", t=json.dumps([["prune_weights", {"sparsity": 0.8}]]))
    visit.at.session_state["footer"] = "What changed"
    visit.run()
    sample, before, now = cached.answers_so_far(cached.subject(MODEL, DATA), visit.view.live.key)
    flipped = measure.flips(before, now, sample.labels)
    shown = quotes(visit.html)
    assert 0 < len(shown) <= len(flipped)
    assert set(shown) <= {sample.texts[row] for row in flipped["sample"]}
    assert "are no images" not in visit.html


def test_the_overview_and_the_teacher_show_texts_as_texts() -> None:
    visit = Visit(m=MODEL, r="[]")
    test = sets.load(DATA).test
    assert len(quotes(visit.html)) == 16
    assert set(quotes(visit.html)) <= set(test.texts)
    visit.open("distill")
    (text,) = quotes(visit.html)
    topic = sets.load(DATA).classes[test.labels[test.texts.index(text)]]
    assert f"True class: {topic}." in visit.words
    assert "The student is BiLSTM on topics" in visit.words


def test_heads_that_go_are_struck_out_and_importance_is_the_engines() -> None:
    visit = Visit("heads", m=MODEL, r="[]")
    visit.edit("prune_heads", removed=0.5)
    assert visit.html.count('<span class="shade') == 16
    assert len(re.findall(r'class="shade gone"[^>]*><s>', visit.html)) == 8
    found = heads.importance(zoo.load(MODEL), sets.load(DATA).train, 200, 0)
    first = re.search(r'<span class="shade[^>]*>(?:<s>)?([\d.e-]+)', visit.html)
    assert first is not None
    assert float(first[1]) == pytest.approx(float(found["layers.0.attention"][0]), rel=0.06)
    assert_shows_the_truth(visit, MODEL)


def test_a_page_says_where_each_head_looks() -> None:
    visit = Visit("heads", m=MODEL, r="[]")
    label, test = "layers.0.attention", sets.load(DATA).test
    shares = heads.shares(zoo.load(MODEL), label, test.inputs(slice(1, 2)))
    assert shares.shape == (4, 24, 24)
    assert shares.sum(-1).allclose(shares.new_ones(()))
    assert quotes(visit.html) == [test.texts[1]]
    assert len(re.findall(r"head \d \((?:kept|removed)\): \d+ % on '", unescape(visit.html))) >= 4


def test_a_model_without_attention_gets_a_sentence() -> None:
    assert "MLP-32 has no attention: there are no heads to remove" in Visit("heads", m="mlp-32").words
