"""An ONNX file is run before it is offered: its figures are its own, and the sentence follows from them."""

from __future__ import annotations

import onnx
import pytest
import torch
from test_latency import FASTER, NOISE, SLOWER, TIE
from torch import nn
from torch.utils.data import TensorDataset

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.user_parts import task_of
from engine.figures import measure, onnx_run, onnx_why
from engine.figures.latency import stopwatch
from engine.file.onnx_file import running
from engine.net import processor, sources, zoo
from engine.recipe.run import run
from engine.types import Basis, Bundle, Recipe, SlimscopeError

STATIC = '[["quantize",{"activations":"static"}]]'


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopwatch, "WARM_UP", 1)


def after(name: str, recipe: str) -> tuple[Bundle, Bundle, sets.Samples]:
    data = sets.load(zoo.entry(name).data)
    return zoo.load(name), run(zoo.load(name), Recipe.from_key(recipe), data)[0], data.validation


def test_the_figures_are_those_of_that_very_file() -> None:
    before, now, validation = after("lenet-5-small", STATIC)
    samples = validation.stratified(300)
    found = onnx_run.tried(before, now, samples)
    answers = running.answer(running.session(found.data), samples.inputs())
    ours = measure.logits(zoo.build(now), samples)
    figures = {figure.name: figure for figure in found.figures}
    assert figures["accuracy"] == measure.accuracy_of(answers.argmax(1), samples.labels)
    assert figures["ONNX file"].value == len(found.data)
    # 5,282 weights of 4 bytes become one byte; the graph itself is the same size either way
    assert len(found.data) < figures["float ONNX file of the original"].value * 0.6
    assert figures["largest output difference"].value == pytest.approx(
        float((answers - ours).abs().max()), abs=1e-4
    )
    assert figures["equal predictions"].value >= 0.99
    assert all(figure.basis is Basis.MEASURED for figure in found.figures)
    for name in ("latency of the original", "latency", "speed-up"):
        spread = figures[name].spread
        assert spread is not None
        assert 0 < spread[0] <= figures[name].value <= spread[1]
    assert onnx.load_from_string(found.data).doc_string == onnx_run.inputs_of(samples)
    assert found.integers == ("conv1", "conv2", "fc1", "fc2")
    assert (found.floats, found.operators) == ((), ())


def test_a_pruned_model_is_a_file_of_floats_with_the_same_answers() -> None:
    before, now, validation = after("lenet-5-small", '[["prune_weights",{"sparsity":0.9}]]')
    found = onnx_run.tried(before, now, validation.stratified(200), batch=3)
    off, equal = found.figure("largest output difference"), found.figure("equal predictions")
    assert off is not None
    assert off.value < 1e-4
    assert equal is not None
    assert equal.value == 1
    assert found.integers == found.floats == ()
    assert "batch 3" in next(figure for figure in found.figures if figure.name == "latency").how


def test_a_large_layer_in_codes_takes_a_quarter_of_the_bytes() -> None:
    before, now, validation = after("mlp-32", STATIC)
    found = onnx_run.tried(before, now, validation.stratified(50))
    size, first = found.figure("ONNX file"), found.figure("float ONNX file of the original")
    assert size is not None
    assert first is not None
    assert size.value / first.value == pytest.approx(0.25, abs=0.04)


def test_layers_on_floats_and_operators_are_told() -> None:
    before, now, validation = after("resnet-8", STATIC)
    found = onnx_run.tried(before, now, validation.stratified(20))
    assert set(found.integers) == {"fc", *(f"layer{i}.0.conv1" for i in (1, 2, 3))}
    assert {layer for layer, _ in found.floats} == {"conv1", *(f"layer{i}.0.conv2" for i in (1, 2, 3))}
    assert "3 Add" in found.operators
    said = "\n".join(onnx_run.told(found))
    assert "On floats: " in said
    assert "because its output is not rounded next" in said
    assert said.startswith(found.why)


@pytest.mark.parametrize("unsigned", [False, True])
def test_signs_of_weights_are_chosen_or_follow_the_processor(
    unsigned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, now, validation = after("mlp-32", STATIC)
    flags = frozenset(["avx2"] if unsigned else ["avx2", "avx_vnni"])
    monkeypatch.setattr(processor, "flags", lambda: flags)
    samples = validation.stratified(20)
    found = onnx_run.tried(before, now, samples)
    assert found.unsigned is unsigned
    assert onnx_run.told(found)[-1] == (onnx_run.UNSIGNED if unsigned else onnx_run.SIGNED)
    assert found.data == onnx_run.tried(before, now, samples, unsigned=unsigned).data
    assert found.data != onnx_run.tried(before, now, samples, unsigned=not unsigned).data


def test_what_says_nothing_is_refused() -> None:
    before, now, validation = after("mlp-32", "[]")
    with pytest.raises(SlimscopeError, match="batch is 0"):
        onnx_run.tried(before, now, validation, batch=0)


class Branching(nn.Module):
    """Takes another path where the first numbers of a batch are negative on average."""

    def __init__(self) -> None:
        super().__init__()
        self.out, self.other = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(x) if float(x[:, 0].mean()) > 0 else self.other(x)


def test_a_model_that_a_file_can_t_follow_is_refused_in_a_sentence() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(40, 6)
    inputs[:2, 0], inputs[2:, 0] = 1.0, -1.0
    part = TensorDataset(inputs, torch.arange(40) % 4)
    data = task_of((part, part, part), "own")
    bundle = sources.adopt(Branching().eval(), data)[0]
    with pytest.raises(SlimscopeError, match="forward does not do the same for all inputs"):
        onnx_run.tried(bundle, bundle, data.test)


# ---------------------------------------------------------------- why


def test_the_sentence_names_the_layers_the_verdict_and_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    before, now, _ = after("mlp-32", STATIC)
    monkeypatch.setattr(processor, "flags", lambda: frozenset(["avx512f", "avx2", "avx512_vnni"]))
    assert onnx_why.sentence(before, now, FASTER, 2, 0) == (
        "2.00 times as fast: 2 of 2 layers with weights multiply 8-bit codes, and this processor has VNNI: "
        "one instruction multiplies four pairs of 8-bit codes and adds them up in 32 bits."
    )
    slow = onnx_why.sentence(before, now, SLOWER, 1, 1)
    assert slow.startswith(
        "2.00 times the time, although 1 of 2 layers with weights multiplies 8-bit codes and "
    )
    assert slow.endswith("and floats are made of codes again before the others.")
    monkeypatch.setattr(processor, "flags", lambda: frozenset(["avx512f", "avx2"]))
    assert "this processor has AVX-512 without VNNI" in onnx_why.sentence(before, now, TIE, 2, 0)
    monkeypatch.setattr(processor, "flags", frozenset)
    assert "instructions that nobody tells" in onnx_why.sentence(before, now, NOISE, 2, 0)


def test_codes_that_no_layer_multiplies_are_no_reason() -> None:
    before, now, _ = after("mlp-32", '[["quantize",{}]]')
    assert "No layer multiplies 8-bit codes, so it does not matter here" in onnx_why.sentence(
        before, now, TIE, 0, 2
    )
    assert "8-bit codes" not in onnx_why.sentence(before, before, TIE, 0, 0)
