"""Mixed precision on nets: rounded as `quantize` does, real bytes, what it predicts, and what it wins."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pandas as pd
import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import measure, mixed_bits, onnx_run, widths
from engine.figures.widths import Question, Rounding
from engine.file import onnx_file, packfile
from engine.net import zoo
from engine.recipe import run
from engine.tensor.formats import Dense
from engine.types import Arch, Basis, Bundle, Report, SlimscopeError, Step, weight_layers

HOW = Rounding("channel", "mse")


def applied(bundle: Bundle, **settings: Any) -> tuple[Bundle, Report]:
    data = sets.load(zoo.entry(bundle.arch.name).data)
    return run.apply(bundle, Step("mixed_precision", settings), data)


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("mlp-32")


@pytest.fixture(scope="module")
def digits() -> Bundle:
    return zoo.load("lenet-5-small")


def bits_of(report: Report) -> dict[str, int]:
    rows = report.tables["layers"]
    return dict(zip(rows["layer"], rows["bits"].tolist(), strict=True))


def figure(report: Report, name: str) -> Any:
    return next(each for each in report.figures if each.name == name)


def test_a_deal_by_hand() -> None:
    """20 bytes: b is wider, since 5 of loss go with 5 bytes; 15 are enough for the narrowest pair alone."""
    rows = [("a", 2, 5, 0.0, 3.0), ("a", 4, 10, 0.0, 1.0), ("b", 2, 10, 0.0, 6.0), ("b", 4, 15, 0.0, 1.0)]
    told = pd.DataFrame(rows, columns=["layer", "bits", "bytes", "squared_error", "sensitivity"])
    assert mixed_bits.deal(told, 20) == mixed_bits.Deal({"a": 2, "b": 4}, 2)
    assert mixed_bits.deal(told, 15) == mixed_bits.Deal({"a": 2, "b": 2}, 2)
    assert mixed_bits.deal(told, 25) == mixed_bits.Deal({"a": 4, "b": 4}, 4)


@pytest.mark.parametrize("range", ["minmax", "mse"])
def test_weights_are_those_that_quantize_gives_with_the_same_bits(digits: Bundle, range: str) -> None:
    after, report = applied(digits, budget=3.0, range=range, sensitivity="error", checked=100)
    settings = {"per_layer": bits_of(report), "range": range, "granularity": "channel"}
    wanted = run.apply(digits, Step("quantize", settings), None)[0]
    assert len(set(bits_of(report).values())) > 1
    for name in weight_layers(digits).values():
        ours, theirs = after.params[name], wanted.params[name]
        assert all(torch.equal(ours.tensors()[part], theirs.tensors()[part]) for part in theirs.tensors())


def test_bytes_are_those_of_the_file_and_within_the_budget(digits: Bundle) -> None:
    after, report = applied(digits, budget=3.0, checked=100)
    layers = report.tables["layers"]
    limit = 3.0 * layers["weights"].sum() / 8
    real = packfile.sections(after).groupby("tensor")["bytes"].sum()
    for layer, size in zip(layers["layer"], layers["bytes"], strict=True):
        assert size == real[weight_layers(digits)[layer]]
    assert figure(report, "bytes of the weights").value == layers["bytes"].sum() <= limit
    assert figure(report, "predicted bytes").value == layers["bytes"].sum()


def test_trace_is_the_second_order_of_the_loss(net: Bundle) -> None:
    """Half the mean of the Hessian's diagonal times the squared error; weight by weight it is close by."""
    train = sets.load("mnist").train
    asked = Question(net, tuple(weight_layers(net).items()), (3, 6), HOW, train, 500, 0)
    trace, curved = (widths.told(asked, kind) for kind in ("trace", "curvature"))
    means = widths.mean_diagonals(net, train, 500, 0)
    for row in trace.to_dict("records"):
        name = weight_layers(net)[row["layer"]]
        assert row["sensitivity"] == pytest.approx(means[name] / 2 * row["squared_error"])
    assert (trace["sensitivity"] / curved["sensitivity"]).between(0.3, 3).all()


def test_kl_and_lost_samples_are_those_of_one_layer_rounded_alone(net: Bundle) -> None:
    train = sets.load("mnist").train
    part, layers = train.stratified(200, 0), tuple(weight_layers(net).items())
    before = measure.logits(zoo.build(net), part)
    asked = Question(net, layers, (2,), HOW, train, 200, 0)
    told = [widths.told(asked, kind) for kind in ("kl", "accuracy")]
    for place, (_, name) in enumerate(layers):
        after = measure.logits(zoo.build(widths.rounded(net, ((name, 2),), HOW)), part)
        lost = int((after.argmax(1) != part.labels).sum()) - int((before.argmax(1) != part.labels).sum())
        assert told[0]["sensitivity"][place] == pytest.approx(measure.kl(before, after).value, rel=1e-3)
        assert told[1]["sensitivity"][place] == pytest.approx(lost / 200)


def test_what_is_chosen_never_sees_validation_or_test(net: Bundle) -> None:
    """With other validation and test samples the widths stay, whatever tells the sensitivity."""
    data = sets.load("mnist")
    other = sets.Data("mnist", data.train, data.test.take(slice(0, 300)), data.validation, data.classes)
    for kind in widths.SENSITIVITIES:
        step = Step("mixed_precision", {"sensitivity": kind, "samples": 50, "checked": 100})
        one, two = (run.apply(net, step, each)[1] for each in (data, other))
        assert one.tables["layers"].equals(two.tables["layers"])


def test_it_beats_uniform_bits_at_the_same_bytes() -> None:
    """ResNet-8, clips of least squared error, the bytes of 3 bits: 49 % become 74 % of validation."""
    photos = zoo.load("resnet-8")
    layers = tuple(weight_layers(photos).items())
    costs = widths.costs(photos, layers, (2, 3, 4, 5, 6, 7, 8), HOW)
    weights = sum(photos.params[name].decode().numel() for _, name in layers)
    budget = 8 * int(costs.groupby("bits")["bytes"].sum()[3]) / weights
    report = applied(photos, budget=budget, range="mse", samples=50, checked=500)[1]
    gain = figure(report, "validation accuracy gain over uniform bits")
    assert figure(report, "uniform bits").value == 3
    even = figure(report, "predicted bytes at uniform bits").value
    assert 0.99 * even < figure(report, "bytes of the weights").value <= even
    assert gain.spread[0] > 0.15


def test_predictions_stand_beside_what_is_measured(digits: Bundle) -> None:
    for kind, name in {
        "trace": "loss increase",
        "kl": "KL of the outputs",
        "accuracy": "accuracy lost",
    }.items():
        report = applied(digits, sensitivity=kind, samples=100, checked=300)[1]
        assert figure(report, f"predicted {name}").value == report.tables["layers"]["sensitivity"].sum()
        low, high = figure(report, name).spread
        assert low <= figure(report, name).value <= high
        assert report.tables["models"]["model"].tolist() == ["mixed", "uniform"]
    report = applied(digits, sensitivity="error", checked=300)[1]
    assert "predicted" not in report.tables["models"]


def test_a_budget_that_the_narrowest_widths_exceed_is_noted(net: Bundle) -> None:
    report = applied(net, budget=1.0, allowed="hardware", checked=100)[1]
    assert set(bits_of(report).values()) == {4}
    assert f"take {figure(report, 'bits per weight').value:.4g} bits a weight" in report.notes[-1]


def test_layers_that_are_left_out_stay_and_count_in_nothing(digits: Bundle) -> None:
    after, report = applied(digits, leave_out=["fc2"], checked=100)
    assert after.params["fc2.weight"] is digits.params["fc2.weight"]
    assert "fc2" not in bits_of(report)
    assert "Left out: fc2." in report.notes
    empty = applied(digits, leave_out=list(weight_layers(digits)), checked=100)[1]
    assert len(empty.tables["layers"]) == 0


def test_a_model_that_cannot_run_is_refused() -> None:
    bare = Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(8, 16))})
    with pytest.raises(SlimscopeError, match="Mixed precision must run the model"):
        run.apply(bare, Step("mixed_precision"), None)


# ---------------------------------------------------------------- a budget of time


TIMES = {
    "conv1": {"8": 3.0, "32": 2.0},
    "conv2": {"8": 1.0, "32": 4.0},
    "fc1": {"8": 2.0, "32": 3.0},
    "fc2": {"32": 1.0},
}


@pytest.mark.parametrize("share", [0.6, 0.7, 0.75, 0.9, 1.0])
def test_time_is_dealt_out_as_by_trying_all_of_four_layers(digits: Bundle, share: float) -> None:
    """By hand: as they are 10 ms; the fastest is 8, with the second convolution and fc1 on codes."""
    report = applied(digits, limit="time", share=share, times=TIMES, samples=50, checked=100)[1]
    told = report.tables["widths"]
    of = {(row["layer"], row["bits"]): row for row in told.to_dict("records")}
    layers = list(TIMES)
    tried = []
    for bits in itertools.product((8, 32), repeat=4):
        rows = [of[own] for own in zip(layers, bits, strict=True)]
        spent = sum(TIMES[x].get(str(b), TIMES[x]["32"]) for x, b in zip(layers, bits, strict=True))
        assert sum(row["nanoseconds"] for row in rows) == pytest.approx(1e6 * spent)
        tried.append((sum(row["sensitivity"] for row in rows), spent))
    fastest = min(spent for _, spent in tried)
    loss, spent = min(each for each in tried if each[1] <= max(10 * share, fastest))
    chosen = report.tables["layers"]
    assert chosen["sensitivity"].sum() == pytest.approx(loss)
    assert figure(report, "predicted time of the layers").value == pytest.approx(spent)
    assert figure(report, "predicted time of the layers").basis == Basis.MODELLED
    assert figure(report, "time of the layers as they are").value == 10.0
    assert any("too small" in note for note in report.notes) == (10 * share < fastest)


def test_a_layer_on_codes_has_rounded_weights_and_inputs_and_gives_codes(digits: Bundle) -> None:
    """The float layer behind it reads codes, so that the convolution has a kernel; and it really runs so."""
    after, report = applied(digits, limit="time", share=0.7, times=TIMES, checked=100)
    assert bits_of(report) == {"conv1": 32, "conv2": 8, "fc1": 32, "fc2": 32}
    assert after.params["fc1.weight"] is digits.params["fc1.weight"]
    assert after.params["conv2.weight"].bits == 8
    assert [own["layer"] for _, own in after.arch.edits] == ["conv2", "fc1"]
    file = onnx_file.write(after, sets.load("mnist").test.inputs(slice(0, 2)))
    assert onnx_run.of_layers(file)[0] == ("conv2",)
    assert any("nothing is faster" in note for note in report.notes)


@pytest.mark.parametrize("times", [{"fc1": {"8": 1.0}}, {"fc1": {"8": -1.0, "32": 1.0}}])
def test_a_wrong_table_of_times_is_refused(net: Bundle, times: Any) -> None:
    with pytest.raises(SlimscopeError, match=r"times\[fc1\]"):
        applied(net, limit="time", times=times)


def test_without_a_table_all_layers_stay_and_a_note_says_how_to_measure_it(net: Bundle) -> None:
    after, report = applied(net, limit="time", share=0.1, checked=100)
    assert set(bits_of(report).values()) == {32}
    assert all(after.params[name] is param for name, param in net.params.items())
    assert report.notes[-1] == mixed_bits.NO_TIMES
    assert not any("time" in each.name for each in report.figures)


def test_the_report_is_json(digits: Bundle) -> None:
    report = applied(digits, checked=100)[1]
    for rows in report.tables.values():
        json.dumps(rows.to_dict("records"), allow_nan=False)
