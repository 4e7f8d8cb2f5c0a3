"""The language model: the package's own scores, parts by hand, perplexity as a plain loop, all techniques."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.samples import Data
from engine.figures import count, measure, perplexity, scores
from engine.file import packfile
from engine.file.onnx_file import running
from engine.file.onnx_file.traced import traced
from engine.net import answers, incremental, zoo
from engine.net.zoo.llama import BASE, Decoder, GroupedAttention, turned
from engine.recipe.run import apply
from engine.types import SlimscopeError, Step, weight_layers

NAME = "glass-en"
REFERENCE = np.load(Path(__file__).parent / "glass-en.npz", allow_pickle=False)
REFUSED = ("prune_heads", "mixed_precision", "trim", "optimal_brain_damage", "lottery_ticket", "distill")
INSTANT = ("prune_weights", "quantize", "number_format", "ternarize", "low_rank", "prune_filters")


@pytest.fixture(scope="module")
def few() -> Data:
    whole = sets.load("language")
    parts = (part.take(slice(0, 3)) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


def test_scores_are_the_packages_own() -> None:
    net = zoo.build(zoo.load(NAME))
    with torch.inference_mode():
        ours = net(torch.from_numpy(REFERENCE["window"])[None])[0].T[REFERENCE["places"]]
    assert np.abs(ours.numpy() - REFERENCE["scores"]).max() < 1e-4


def test_tokens_are_the_packages_own() -> None:
    held = sets.load("language")
    assert str(REFERENCE["text"]) == held.test.texts[0]
    assert REFERENCE["tokens"].tolist() == [*held.test.images[0].tolist(), int(held.test.labels[0, -1])]


def test_places_are_turned_by_angles_that_only_their_distance_shows() -> None:
    rng = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 8, generator=rng)
    angles = torch.arange(20.0).unsqueeze(1) * BASE ** -(torch.arange(0, 8, 2) / 8)

    def score(at: int, other: int) -> float:
        return float(
            turned(query[None], angles[at : at + 1]) @ turned(key[None], angles[other : other + 1]).T
        )

    assert score(3, 1) == pytest.approx(score(17, 15), abs=1e-5)
    assert score(3, 1) != pytest.approx(score(3, 2), abs=1e-3)


def test_attention_is_torchs_with_repeated_keys_and_no_angles() -> None:
    torch.manual_seed(0)
    own, x = GroupedAttention(16, 4, 2), torch.randn(2, 5, 16)
    future = torch.full((5, 5), -math.inf).triu(1)
    three = (layer(x).unflatten(-1, (-1, 4)).transpose(1, 2) for layer in (own.query, own.key, own.value))
    given = F.scaled_dot_product_attention(*three, is_causal=True, enable_gqa=True)
    expected = own.out(given.transpose(1, 2).flatten(2))
    assert torch.allclose(own(x, torch.zeros(5, 2), future), expected, atol=1e-6)


def test_a_decoder_by_hand() -> None:
    torch.manual_seed(0)
    own, x = Decoder(8, 2, 1, 12), torch.randn(1, 3, 8)
    nn.init.zeros_(own.attention.out.weight)
    normed = x * (x.square().mean(-1, keepdim=True) + 1e-6).rsqrt()
    gate = normed @ own.gate.weight.T
    expected = x + (gate * torch.sigmoid(gate) * (normed @ own.up.weight.T)) @ own.down.weight.T
    assert torch.allclose(own(x, torch.zeros(3, 2), torch.zeros(3, 3)), expected, atol=1e-6)


def test_parameters_and_multiply_adds_by_hand() -> None:
    bundle = zoo.load(NAME)
    each = 128 * (128 + 64 + 64 + 128) + 3 * 128 * 341
    assert count.parameters(bundle).value == 1024 * 128 + 4 * (each + 2 * 128) + 128
    # Attention multiplies each query with each key, and each share with each value.
    assert count.macs(bundle).value == 128 * (4 * each + 1024 * 128) + 4 * 2 * 128 * 128 * 128


def test_perplexity_is_that_of_a_plain_loop(few: Data) -> None:
    bundle, losses, bits = zoo.load(NAME), [], 0.0
    net, letters = zoo.build(bundle), 0
    for window, after in zip(few.test.images, few.test.labels, strict=True):
        shares = net(window[None])[0].softmax(0)
        for place, token in enumerate(after.tolist()):
            losses.append(-math.log(float(shares[token, place])))
            letters += len(few.classes[token])
            bits += losses[-1] / math.log(2)
    given = measure.predictions(bundle, few.test)
    found = perplexity.of_answers(given)
    assert found.value == pytest.approx(math.exp(sum(losses) / len(losses)), rel=1e-4)
    assert found.spread[0] < found.value < found.spread[1]
    per_letter = perplexity.bits_per_character(given, few.test)
    assert per_letter.value == pytest.approx(bits / letters, rel=1e-4)
    assert perplexity.agreement(given, given).value == 1.0


def test_a_change_is_paired_over_windows() -> None:
    """What is hard for both models drops out; twice the perplexity everywhere is known exactly."""
    before = torch.rand(50, 2, 8, generator=torch.Generator().manual_seed(0)) * 5
    after = before.clone()
    after[:, answers.LOSS] += math.log(2.0)
    found = perplexity.change(before, after)
    assert (found.value, *found.spread) == pytest.approx((1.0, 1.0, 1.0), abs=1e-5)
    assert scores.of(found)[0] == pytest.approx(-math.log(2.0), abs=1e-5)
    low, high = perplexity.of_answers(before).spread
    assert high - low > 1.0


def test_a_score_is_higher_where_perplexity_is_lower(few: Data) -> None:
    bundle = zoo.load(NAME)
    coarse = apply(bundle, Step("quantize", {"bits": 2}), None)[0]
    good, bad = (measure.accuracy(each, few.test) for each in (bundle, coarse))
    assert good.value < bad.value
    assert scores.of(good)[0] > scores.of(bad)[0]
    assert scores.of(good)[1] < scores.of(good)[0] < scores.of(good)[2]
    both = (measure.predictions(each, few.test) for each in (bundle, coarse))
    carried = measure.carried(good, measure.paired_difference(*both, few.test.labels))
    assert carried.value == pytest.approx(bad.value, rel=1e-6)


def test_answers_are_those_of_a_whole_run_and_of_a_run_from_a_trace(few: Data) -> None:
    bundle = zoo.load(NAME)
    whole, trace = incremental.answers(bundle, few.test)
    outputs = zoo.build(bundle)(few.test.inputs())
    assert torch.allclose(whole, answers.of(outputs, few.test), atol=1e-4)
    others = [label for label in weight_layers(bundle) if label != "layers.3.up"]
    changed = apply(bundle, Step("quantize", {"bits": 3, "leave_out": others}), None)[0]
    again = incremental.answers(changed, few.test, trace)[0]
    assert torch.equal(again, incremental.answers(changed, few.test)[0])


@pytest.mark.parametrize("name", INSTANT)
def test_techniques_work_on_it_and_the_file_reads_back(name: str, few: Data) -> None:
    after, report = apply(zoo.load(NAME), Step(name), few)
    assert report.figures
    again = packfile.unpack(packfile.pack(after))
    one = few.test.inputs(slice(0, 1))
    assert torch.equal(zoo.build(after)(one), zoo.build(again)(one))


def test_its_onnx_file_answers_alike(few: Data) -> None:
    bundle, inputs = zoo.load(NAME), few.test.inputs(slice(0, 2))
    found = running.answer(running.session(traced(bundle, inputs[:1], False).SerializeToString()), inputs)
    assert torch.allclose(found, zoo.build(bundle)(inputs), atol=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_others_say_in_a_sentence_why_not(name: str, few: Data) -> None:
    with pytest.raises(SlimscopeError, match=r"(\S+ ){4}"):
        apply(zoo.load(NAME), Step(name), few)


def test_it_is_tuned_and_its_training_says_which_share_of_tokens_is_right(few: Data) -> None:
    after, report = apply(zoo.load(NAME), Step("finetune", {"epochs": 1, "teacher": "original"}), few)
    before, now, change = report.figures[:3]
    assert (before.name, now.name) == ("validation perplexity before", "validation perplexity after")
    assert change.value == pytest.approx(now.value / before.value - 1, rel=1e-4)
    assert measure.accuracy(after, few.validation).value == pytest.approx(now.value, rel=1e-5)
    told = report.tables["curve"]["validation accuracy"]
    assert bool(told.between(0.0, 1.0).all())
    assert told.iloc[0] == pytest.approx(measure.right(zoo.load(NAME), few.validation))
