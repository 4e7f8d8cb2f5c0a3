"""Pages of models that read text: samples are sentences, and heads of attention stand in a grid."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape

import pytest
import torch
from streamlit.testing.v1 import AppTest
from visiting import Visit, assert_shows_the_truth

from engine.data import sets
from engine.figures import measure
from engine.net import heads, zoo
from engine.types import SlimscopeError
from pages.parts import cached, jobs

pytestmark = pytest.mark.usefixtures("framed")
TRIED = json.dumps([["prune_weights", {"sparsity": 0.8}]])
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


def of_changed(text: str | None = None, recipe: str = TRIED) -> Visit:
    visit = Visit("prune", m=MODEL, r="[]", t=recipe)
    visit.at.session_state["footer"] = "What changed"
    if text is not None:
        visit.at.session_state[f"typed-{DATA}"] = text
    return visit.run()


def test_a_typed_text_is_answered_by_both_models() -> None:
    text = "text editor for source code in Python"
    visit = of_changed(text)
    data = sets.load(DATA)
    inputs = torch.tensor([data.pieces.padded(text, 24)])
    after = cached.after(cached.subject(MODEL, DATA), visit.view.live.key)[0]
    before, now = (zoo.build(bundle)(inputs).softmax(1)[0] for bundle in (zoo.load(MODEL), after))
    best = torch.maximum(before, now).argsort(descending=True)[:5].tolist()
    rows = re.findall(
        r"<tr class=\"\"><td class=\"text\">([^<]+)</td><td>.*?([\d.]+) %</td><td>.*?([\d.]+) %</td></tr>",
        visit.html,
    )
    assert [name for name, *_ in rows[:5]] == [data.classes[place] for place in best]
    for place, (_, was, is_now) in zip(best, rows, strict=False):
        assert float(was) == pytest.approx(100 * float(before[place]), rel=0.01, abs=0.01)
        assert float(is_now) == pytest.approx(100 * float(now[place]), rel=0.01, abs=0.01)
    assert "Read in pieces: text editor for source code in p" in visit.html


def test_a_typed_text_stays_while_another_tab_is_open() -> None:
    visit = of_changed("a chess program")
    visit.at.session_state["footer"] = "Ship it"
    assert "chess program" not in visit.run().html
    visit.at.session_state["footer"] = "What changed"
    assert "Read in pieces: a chess program." in visit.run().html


def test_a_class_without_a_name_has_its_number() -> None:
    held = replace(sets.load(DATA), classes=("one", "two"))
    at = AppTest.from_function(_typed, args=(held,), default_timeout=60).run()
    assert not at.exception
    assert re.search(r"Both models answer \*\*\d+\*\*", at.markdown[-1].value)


def _typed(held):  # type: ignore[no-untyped-def]
    from pages.parts import cached, typed

    typed.draw(cached.subject("transformer-topics", "debian-topics"), "[]", held)


def test_empty_long_and_foreign_texts_get_a_sentence() -> None:
    assert "An empty text has no class: type a few words." in of_changed("  ").words
    long = of_changed("a library of many words that goes on and on " * 5).html
    assert "The model reads 24 at once: the text has 60, and its end is left out." in long
    assert "It does not know 3 of them" in of_changed("日本語 の 道具箱").html


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


def test_the_card_of_a_small_model_says_how_to_make_the_large_one() -> None:
    html = Visit(m=MODEL, r="[]").html
    assert "Larger, not bundled" in html
    assert (
        "MiniLM on topics: make its file by python -m engine.net.zoo tune minilm-topics.safetensors" in html
    )
    assert "Larger, not bundled" not in Visit(m="glass-en", r="[]").html
    with pytest.raises(SlimscopeError, match=r"bring a file of its weights, which `python -m .* makes"):
        zoo.load("minilm-topics")


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
    looks = re.findall(
        r"<figcaption[^>]*>head (\d)( after| \(removed\))?: (\d+) % on '", unescape(visit.html)
    )
    assert [int(head) for head, when, _ in looks if when != " after"] == [0, 1, 2, 3]
    removed = {head for head, when, _ in looks if when == " (removed)"}
    assert {head for head, when, _ in looks if when == " after"} == {*"0123"} - removed
    shown = {(head, when): int(share) for head, when, share in looks}
    for head in {*"0123"} - removed:  # the first attention reads what it read before
        assert shown[head, " after"] == shown[head, ""]


def test_heads_behind_others_that_went_look_elsewhere() -> None:
    visit = Visit("heads", m=MODEL, r="[]")
    visit.edit("prune_heads", removed=0.5)
    visit.set("selectbox", f"layer-prune_heads-{MODEL}|{DATA}", "layers.3.attention.out")
    subject, test = cached.subject(MODEL, DATA), sets.load(DATA).test
    after, reports = cached.after(subject, visit.view.live.key)
    rows = reports[-1].tables["heads"]
    kept = rows[(rows["layer"] == "layers.3.attention") & rows["kept"]]["head"].tolist()
    words = int((test.images[1] > 0).sum())
    shares = heads.shares(after, "layers.3.attention", test.inputs(slice(1, 2)))[:, :words, :words]
    for head, own in zip(kept, shares, strict=True):
        most = 100 * float(own.mean(0).max())
        assert f">head {head} after: {most:.0f} % on '" in unescape(visit.html)


def test_a_model_without_attention_gets_a_sentence() -> None:
    assert "MLP-32 has no attention: there are no heads to remove" in Visit("heads", m="mlp-32").words
