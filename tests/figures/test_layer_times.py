"""Times of layers: measured in turns, each layer alone as it is in its model, and kept for a processor."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from engine import cli
from engine.data import sets
from engine.figures import onnx_run, widths
from engine.figures.latency import layers
from engine.figures.latency.layers import LayerTimes
from engine.figures.latency.stopwatch import REPEATS
from engine.figures.widths import Rounding
from engine.file import onnx_file
from engine.file.onnx_file import running
from engine.file.onnx_file.alone import READ
from engine.jobs import tasks, timings
from engine.net import processor, rounded_sums, zoo
from engine.recipe import technique
from engine.recipe.run import run
from engine.types import Basis, Bundle, Figure, Progress, Recipe, SlimscopeError, weight_layers

PAYLOAD = {"model": "lenet-5-small", "recipe": "[]", "data": "mnist"}


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("lenet-5-small")


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return sets.load("mnist").validation.inputs(slice(0, 1))


@pytest.fixture(scope="module")
def found(net: Bundle, images: torch.Tensor) -> LayerTimes:
    return layers.layer_times(net, sets.load("mnist").train, images, REPEATS)


def test_each_time_is_measured_and_says_how(found: LayerTimes) -> None:
    assert [row.layer for row in found.rows] == ["conv1", "conv2", "fc1", "fc2"]
    for row in found.rows:
        assert row.integers is not None
        for time in (row.floats, row.integers):
            assert (time.basis, time.unit) == (Basis.MEASURED, "ms")
            assert "median of 30 runs in turns, 10 before, ONNX Runtime, batch 1, 1 thread" in time.how
            assert "an empty call subtracted" in time.how
            assert time.spread is not None
            assert time.spread[0] <= time.value <= time.spread[1]
    assert found.whole.basis == Basis.MEASURED
    assert found.processor == processor.name() != ""


def test_the_table_is_a_setting_of_mixed_precision(found: LayerTimes, net: Bundle) -> None:
    known = technique.get("mixed_precision").check({"limit": "time", "times": found.table}, net)
    assert known["times"] == found.table
    assert {bits for own in found.table.values() for bits in own} == {"8", "32"}


def test_a_layer_alone_gives_what_it_gives_in_its_model(net: Bundle, images: torch.Tensor) -> None:
    alone = onnx_file.alone(net, images, list(weight_layers(net).values()), coded=False)
    last = alone["fc2.weight"]
    given = running.session(last.data).run(None, {READ: last.inputs})[0]
    expected = zoo.build(net)(images).detach().numpy()
    assert np.allclose(given, expected, atol=1e-4)
    assert alone["conv1.weight"].inputs.shape == (1, 1, 28, 28)


def test_a_layer_on_codes_alone_runs_on_codes(net: Bundle, images: torch.Tensor) -> None:
    how = Rounding("channel", "minmax", sets.load("mnist").train)
    names = list(weight_layers(net).values())
    codes = widths.rounded(net, tuple((name, 8) for name in names), how)
    for name, layer in onnx_file.alone(codes, images, names, coded=True).items():
        kinds = {node.op_type for node in running.optimized(layer.data).graph.node}
        assert kinds & {"QLinearConv", "QGemm"}, name
        assert kinds.isdisjoint({"Conv", "Gemm"})


def test_a_layer_that_has_no_kernel_on_codes_has_one_time_and_a_reason(
    net: Bundle, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a residual net all layers have both, since what they add up is rounded."""
    photos, data = zoo.load("resnet-8"), sets.load("cifar10")
    rows = layers.layer_times(photos, data.train, data.validation.inputs(slice(0, 1)), REPEATS).rows
    assert all(row.integers is not None and not row.why for row in rows)
    monkeypatch.setattr(rounded_sums, "giving", lambda bundle: {})
    few = data.train.take(slice(0, 8))
    rows = layers.layer_times(photos, few, data.validation.inputs(slice(0, 1)), REPEATS).rows
    of = {row.layer: row for row in rows}
    assert of["layer1.0.conv1"].integers is not None
    assert of["layer1.0.conv2"].integers is None
    assert "goes into a sum or an average" in of["layer1.0.conv2"].why


def test_a_job_keeps_the_times_for_this_shape_and_processor(
    net: Bundle, images: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def by_hand(*_: object) -> LayerTimes:
        time = Figure("latency", 1.0, "ms", Basis.MEASURED, "by hand", (0.5, 2.0))
        row = layers.LayerTime("fc1", time, None, "why")
        return LayerTimes((row,), time, processor.name())

    assert timings.kept(net) is None
    monkeypatch.setattr(layers, "layer_times", by_hand)
    assert tasks.perform("layer_times", PAYLOAD, Progress())["layers"] == 1
    assert timings.kept(net) == by_hand()
    assert timings.kept(zoo.load("mlp-32")) is None
    monkeypatch.setattr(processor, "name", lambda: "another one")
    assert timings.kept(net) is None


def test_a_model_is_predicted_by_hand() -> None:
    times = {"a": {"8": 1.0, "32": 3.0}, "b": {"8": 5.0, "32": 2.0}, "c": {"32": 1.0}}
    assert layers.predicted(times, {"a": 8, "b": 8, "c": 8}, 10.0) == 11.0
    assert layers.predicted(times, {"a": 32, "b": 32, "c": 32}, 10.0) == 10.0


def test_too_few_rounds_are_refused(net: Bundle, images: torch.Tensor) -> None:
    with pytest.raises(SlimscopeError, match="repeats is 5"):
        layers.layer_times(net, sets.load("mnist").train, images, 5)


def test_inputs_that_are_rounded_already_are_refused(net: Bundle, images: torch.Tensor) -> None:
    train = sets.load("mnist").train
    rounded = widths.rounded(net, (("fc1.weight", 8),), Rounding("channel", "minmax", train))
    with pytest.raises(SlimscopeError, match="quantized already"):
        layers.layer_times(rounded, train, images)


def test_what_a_signed_file_needs_is_said_by_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "flags", lambda: frozenset(["avx2"]))
    assert onnx_run.needs_unsigned()
    monkeypatch.setattr(processor, "flags", lambda: frozenset(["avx2", "avx_vnni"]))
    assert not onnx_run.needs_unsigned()


def test_the_command_prints_the_table_as_a_step_of_a_recipe() -> None:
    given = cli._parser().parse_args(["latency", "mlp-32", "--layers", "--recipe", "[]"])
    data, text = given.run(given)
    step = json.loads(text.splitlines()[-1])
    assert data["processor"] == text.splitlines()[0] == processor.name()
    assert step == ["mixed_precision", {"limit": "time", "times": data["times"]}]
    assert list(data["times"]) == ["fc1", "fc2"]
    recipe = Recipe.from_key(json.dumps([step]))
    after, (report,) = run(zoo.load("mlp-32"), recipe, sets.load("mnist"))
    assert set(report.tables["layers"]["bits"]) <= {8, 32}
    assert after.lineage.steps[0].settings["times"] == data["times"]
