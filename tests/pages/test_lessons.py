"""What the pages teach: their aha and trap, and the pictures beside them, without a browser."""

from __future__ import annotations

import re

import pytest
import torch
from visiting import Visit

import engine.techniques  # noqa: F401  (fills the registry)
from engine.recipe import technique
from engine.tensor import factors
from pages.parts import jobs, spoken
from pages.parts.lesson import NONE, Lesson
from pages.parts.pictures import alike, rank_one, softened, to_scale

pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured on the whole test set behind a test."""
    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


def test_a_lesson_has_both_sentences_and_marks_the_trap_that_is_sprung() -> None:
    assert NONE.html() == ""
    html = Lesson("small < large", "it is bigger", caught=True).html()
    assert html.count("<p class=") == 2
    assert "small &lt; large" in html
    assert 'class="trap caught"' in html


@pytest.mark.parametrize(
    "name",
    [
        *("aciq", "binarize", "ternarize", "product_quantize", "low_rank_rnn"),
        *("ternarize_trained", "quantize_aware", "distill_quantized", "learn_intervals", "factor_transfer"),
    ],
)
def test_techniques_without_a_page_of_their_own_say_theirs(name: str) -> None:
    known = technique.get(name)
    assert min(len(known.aha), len(known.trap)) > 40


def test_thin_matrices_are_to_scale_and_say_when_they_are_bigger() -> None:
    small, large = to_scale.drawn((300, 784), 78, "fc1"), to_scale.drawn((300, 784), 250, "fc1")
    assert "300 x 78 + 78 x 784 = 84,552" in small
    assert "bigger by 35,800" in large
    boxes = [tuple(map(float, found)) for found in re.findall(r'width="([\d.]+)" height="([\d.]+)"', small)]
    whole, *thin = (width * height for width, height in boxes)
    assert sum(thin) / whole == pytest.approx(84_552 / 235_200, rel=0.02)


def test_pieces_of_a_matrix_add_up() -> None:
    weight = torch.randn(7, 5, generator=torch.Generator().manual_seed(1))
    parts = factors.decompose(weight, "linear")
    pieces = [factors.piece(parts, number) for number in range(1, 6)]
    assert torch.allclose(torch.stack(pieces).sum(0), weight, atol=1e-5)
    for rank in (1, 3):
        near = factors.join(*factors.halves(parts, rank), "linear")
        assert torch.allclose(torch.stack(pieces[:rank]).sum(0), near, atol=1e-5)
    html = rank_one.drawn(parts, weight, 1.0)
    assert html.count("<img") == 2 * 5
    assert "100.0%" in html


def test_softened_numbers_follow_the_temperature_and_never_have_a_negative_zero() -> None:
    scores = [torch.tensor([2.0, 0.0, -0.01]), torch.tensor([0.0, 1.0, 2.0])]
    one, ten = softened.texts(scores, 1.0), softened.texts(scores, 10.0)
    assert (one["0/0"], ten["0/0"], ten["0/2"]) == ("2.0", "0.2", "0.0")
    assert float(ten["ratio/0"].removesuffix("x")) < float(one["ratio/0"].removesuffix("x"))
    assert softened.lesson(scores, 20.0).caught
    assert not softened.lesson(scores, 1.0).caught


def test_classes_that_are_alike_are_drawn_and_foreseen_at_each_temperature() -> None:
    matrix = torch.tensor([[0.81, 0.19], [0.25, 0.75]])
    html = alike.drawn(["<cat>", "dog"], matrix)
    assert html.count('class="shade"') == 4
    assert "&lt;cat&gt;" in html
    assert 'data-share="alike/2" style="--share:50.0%">25.0<' in html
    found = alike.ahead(["cat", "dog"], matrix, 4.0)
    assert found["shares"]["alike"] == [0.81, 0.19, 0.25, 0.75]
    assert found["texts"]["alike"].startswith("At temperature 4 the largest share of a wrong class is 25")
    assert "for cat where the truth is dog" in found["texts"]["alike"]


def test_a_model_without_a_student_in_the_zoo_can_teach_a_narrower_copy_of_itself() -> None:
    visit = Visit("distill", m="mlp-32", r="[]")
    assert any("Or choose a narrower copy under More" in each.value for each in visit.at.info)
    visit.edit("distill", student="narrow", width=0.25, loss="logits")
    assert "alike" in visit.html
    assert "The student is MLP-32 with 25% of its channels." in visit.words


def test_an_ensemble_answers_with_the_mean_shares_of_its_teachers_at_every_temperature() -> None:
    scores = [torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([1.0, 0.0])]
    mean = torch.stack([torch.softmax(own / 4.0, 0) for own in scores[0]]).mean(0)
    assert softened.ahead(scores, 4.0)["shares"]["0"] == pytest.approx(mean.tolist())
    html = softened.drawn(["a", "b"], scores, 0, 4.0)
    assert "<b>2 teachers</b>" in html
    assert "<b>T log share</b>" in html
    assert {"logit/0/0", "0/0", "1/1"} <= {*softened.texts(scores, 4.0)}
    visit = Visit("distill", m="lenet-5", r='[["distill",{"teachers":"zoo"}]]')
    names = "LeNet-5, LeNet-300-100, LSTM on rows, MLP-500-300"
    assert f"The teachers are {names}: their shares are averaged." in visit.words
    visit.edit("distill", loss="logits")
    assert "<b>teacher</b>" in visit.html


def test_why_one_bit_is_larger_than_two_is_said_with_the_measured_bytes() -> None:
    visit = Visit("quantize", m="lenet-300-100", r='[["quantize",{"bits":1}]]')
    assert "1 bit is larger than 2: 29.8 KB against" in visit.html
    assert "trap caught" in visit.html
    assert "1 bit is larger" not in Visit("quantize", m="lenet-300-100", r='[["quantize",{"bits":2}]]').html


def test_a_preset_says_what_it_sets_and_a_number_format_its_name() -> None:
    visit = Visit("quantize", m="mlp-32")
    shorts = {title: preset["short"] for title, preset in visit.panel("quantize")["presets"].items()}
    assert shorts == {"gentle": "8 bits", "balanced": "5 bits", "extreme": "3 bits"}
    assert spoken.title(technique.step("number_format")) == "Number format nf4"


def test_a_ticket_shows_its_masks_and_what_another_seed_shares_with_it() -> None:
    visit = Visit("tickets", m="lenet-300-100")
    assert "another seed&#x27;s ticket" in visit.html
    assert "round 7, 21.0% left" in visit.html
