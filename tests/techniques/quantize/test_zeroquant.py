"""ZeroQuant: blocks learn in turn to give what they gave; seeds and interruptions change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets, user_parts
from engine.data.sets import SPLIT_SEED, Data, Samples
from engine.figures import measure
from engine.net import sources, zoo
from engine.net.block_learning import relative_error
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, Cancelled, Progress, Report, SlimscopeError


def part_of(name: str, count: int = 200) -> Data:
    whole = sets.load(name)
    parts = (part.stratified(count) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def topics() -> Data:
    return part_of("debian-topics")


IN_TWO_BITS = step("zeroquant", bits=2, goal="model", samples=200, epochs=2, leave_out=("tokens", "places"))


@pytest.fixture(scope="module")
def learned(topics: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load("transformer-topics"), IN_TWO_BITS, topics)


def test_weights_on_the_grid_lose_nothing_and_stay() -> None:
    """By hand: with 2 bits the levels are -1, 0 and 1 times the largest of each group of 8: 0.5 and 0.25."""
    net = nn.Sequential(nn.Linear(16, 1))
    row = torch.tensor([0.5, -0.5, 0, 0, 0.5, 0, 0, -0.5, 0.25, 0, -0.25, 0, 0, 0.25, 0.25, 0])
    with torch.no_grad():
        net[0].weight.copy_(row.view(1, 16))
        net[0].bias.zero_()
    torch.manual_seed(0)
    rows = torch.utils.data.TensorDataset(torch.randn(60, 16), torch.zeros(60, dtype=torch.int64))
    data = user_parts.task_of((rows, rows, rows), "rows")
    bundle = sources.adopt(net.eval(), data)[0]
    settings = {"bits": 2, "group": 8, "activations": False, "samples": 50, "epochs": 1}
    after, report = apply(bundle, step("zeroquant", **settings), data)
    found = after.params["0.weight"]
    assert isinstance(found, AffineGrid)
    assert found.scale.tolist() == [0.5, 0.25]
    assert torch.equal(found.decode(), row.view(1, 16))
    assert report.tables["losses"]["loss"].tolist() == pytest.approx([0.0], abs=1e-12)
    assert report.tables["blocks"].to_dict("records") == [
        {"block": "0", "layers": 1, "samples": 40, "error_nearest": 0.0, "error_learned": 0.0}
    ]


def test_the_last_blocks_error_is_that_of_the_answers(learned: tuple[Bundle, Report], topics: Data) -> None:
    """The oracle is a plain run of both models; to give what the model gave, the last layer must do so."""
    samples = topics.train.stratified(200, SPLIT_SEED)
    held = torch.randperm(200, generator=torch.Generator().manual_seed(0))[::5]
    old, new = (measure.logits(zoo.build(each), samples)[held] for each in (learned[0].origin, learned[0]))
    last = learned[1].tables["blocks"].iloc[-1]
    assert last["block"] == "fc"
    assert last["error_learned"] == pytest.approx(relative_error(new, old), rel=1e-4)


def test_in_2_bits_what_learned_is_nearer_in_every_block(learned: tuple[Bundle, Report]) -> None:
    table = learned[1].tables["blocks"]
    assert table["block"].tolist() == ["layers.0", "layers.1", "layers.2", "layers.3", "fc"]
    assert bool((table["error_learned"] < table["error_nearest"]).all())
    assert table.loc[0, "error_learned"] < 0.95 * table.loc[0, "error_nearest"]
    layers = learned[1].tables["layers"].set_index("layer")
    assert layers.loc["layers.3.fc2", "block"] == "layers.3"
    kinds = {own["tokens"] for verb, own in learned[0].arch.edits if verb == "quantize_input"}
    assert kinds == {True}
    assert any(
        note in learned[1].notes for note in ("Left out: tokens, places.", "Left out: places, tokens.")
    )


def test_scales_of_tokens_are_those_of_a_plain_loop(learned: tuple[Bundle, Report], topics: Data) -> None:
    net, seen = zoo.build(learned[0]), list[Tensor]()
    layer = net.get_submodule("layers.1.fc1")
    quantizer = layer.get_submodule("input_quantizer")
    hook = quantizer.register_forward_hook(lambda module, args, output: seen.extend((args[0], output)))
    with torch.no_grad():
        net(topics.test.inputs()[:3])
    hook.remove()
    for text, rounded in zip(*seen, strict=True):
        for token, result in zip(text, rounded, strict=True):
            scale = max(abs(x) for x in token.tolist()) / 127
            assert torch.allclose((token / scale).round() * scale, result, atol=1e-5)


def test_a_training_that_is_stopped_goes_on_to_the_same_model(
    learned: tuple[Bundle, Report], topics: Data, tmp_path: Path
) -> None:
    told: list[float] = []
    stops = Progress(lambda done, row: told.append(done), lambda: len(told) > 4, tmp_path)
    with pytest.raises(Cancelled):
        apply(zoo.load("transformer-topics"), IN_TWO_BITS, topics, stops)
    assert 0.2 < told[-1] < 0.9
    again, report = apply(zoo.load("transformer-topics"), IN_TWO_BITS, topics, Progress(folder=tmp_path))
    assert again.fingerprint == learned[0].fingerprint
    assert report.tables["losses"].equals(learned[1].tables["losses"])


def test_without_data_no_training_sample_is_looked_at(topics: Data) -> None:
    one = zoo.load("transformer-topics")
    other = Samples(topics.train.images.flip(1), topics.train.labels, texts=topics.train.texts)
    step_of = step("zeroquant", bits=3, learn_from="random", samples=50, epochs=1)
    found = [
        apply(one, step_of, Data(topics.name, train, topics.validation, topics.test, topics.classes))
        for train in (topics.train, other)
    ]
    assert found[0][0].fingerprint == found[1][0].fingerprint
    table = found[0][1].tables["blocks"]
    assert bool((table["error_learned"] < table["error_nearest"]).all())
    assert any("40 random inputs" in note for note in found[0][1].notes)
    assert "Rounded to nearest, nothing learned: tokens, places." in found[0][1].notes


def test_convolutions_learn_in_residual_blocks_with_statistics_and_zeros_as_they_were() -> None:
    pruned, _ = apply(zoo.load("resnet-8"), step("prune_weights", sparsity=0.5), None)
    after, report = apply(pruned, step("zeroquant", bits=3, samples=100, epochs=2), part_of("cifar10", 100))
    table = report.tables["blocks"]
    assert table["block"].tolist() == ["conv1", "layer1.0", "layer2.0", "layer3.0", "fc"]
    assert float(table["error_learned"].sum()) < float(table["error_nearest"].sum())
    for name, param in pruned.params.items():
        if "running" in name:
            assert torch.equal(after.params[name].decode(), param.decode())
        elif len(param.shape) > 1:
            assert bool((after.params[name].decode()[param.decode() == 0] == 0).all())


def test_inputs_that_are_rounded_already_are_refused(topics: Data) -> None:
    rounded, _ = apply(zoo.load("transformer-topics"), step("quantize", activations="token"), topics)
    with pytest.raises(SlimscopeError, match="is quantized already"):
        apply(rounded, step("zeroquant", samples=50, epochs=1), topics)
