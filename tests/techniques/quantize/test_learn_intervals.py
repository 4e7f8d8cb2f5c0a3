"""Learned intervals on models: what is stored, bits that go down step by step, zeros, and its worth."""

from __future__ import annotations

from pathlib import Path

import onnxruntime
import pytest
import torch
from conftest import assert_resumes_exactly

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import few_bits, measure
from engine.file import onnx_file, packfile
from engine.net import zoo
from engine.net.input_quantizer import InputQuantizer
from engine.net.train.on_inputs import LearnedInput
from engine.recipe.run import apply
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, Progress, Report, Step

TWO = {"bits": 2, "activation_bits": 2, "end_bits": 2}


def some(train: int, rest: int) -> Data:
    whole = sets.load("mnist")
    counts = zip((whole.train, whole.validation, whole.test), (train, rest, rest), strict=True)
    return Data(whole.name, *(part.stratified(n) for part, n in counts), whole.classes)


@pytest.fixture(scope="module")
def small() -> Data:
    return some(400, 200)


@pytest.fixture(scope="module")
def trained(small: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load("lenet-5-small"), Step("learn_intervals", {"epochs": 2, "end_bits": 4}), small)


def test_the_file_is_what_was_trained(trained: tuple[Bundle, Report], small: Data) -> None:
    after, report = trained
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, small.test), measure.predictions(after, small.test))
    said = {figure.name: figure.value for figure in report.figures}
    right = measure.accuracy(again, small.validation).value
    start, *_, last = report.tables["curve"]["validation accuracy"]
    assert said["validation accuracy after"] == right == pytest.approx(last)
    assert said["validation accuracy, rounded and not trained"] == start < right


def test_the_ends_of_each_interval_are_told(trained: tuple[Bundle, Report]) -> None:
    after, report = trained
    layers, steps = report.tables["layers"].set_index("layer"), report.tables["steps"]
    assert layers["bits"].tolist() == [4, 3, 3, 4]
    assert sorted(set(steps["epoch"])) == [0, 1, 2]
    assert set(steps[(steps["epoch"] == 0) & (steps["of"] == "prune point")]["times_first"]) == {0.0}
    for of, column in (("prune point", "prune_point"), ("clip point", "clip_point")):
        last = steps[(steps["epoch"] == 2) & (steps["of"] == of)].set_index("layer")["times_first"]
        expected = layers[column] / layers["first_clip_point"]
        assert last.tolist() == pytest.approx(expected.tolist())
        assert (last != 1).all()
    for label in layers.index:
        grid = after.params[f"{label}.weight"]
        assert isinstance(grid, AffineGrid)
        assert int((grid.codes == 0).sum()) == layers.loc[label, "zeros"]
        assert int(grid.codes.abs().max()) <= 2 ** (grid.bits - 1) - 1


def test_bits_go_down_step_by_step_and_a_stopped_run_goes_on(small: Data, tmp_path: Path) -> None:
    rows: list[dict[str, float]] = []
    progress = Progress(lambda share, row: rows.append(dict(row or {})))
    step = Step("learn_intervals", {**TWO, "epochs": 1, "progressive": True})
    after, report = apply(zoo.load("mlp-32"), step, small, progress)
    assert report.tables["curve"]["epoch"].tolist() == [0, 1, 2, 3, 4]  # with 5, 4, 3 and 2 bits
    assert few_bits.step_table(rows).equals(report.tables["steps"])
    assert {param.bits for param in after.params.values() if isinstance(param, AffineGrid)} == {2}
    assert_resumes_exactly(zoo.load("mlp-32"), step, small, 6, tmp_path)


def test_an_interval_of_inputs_by_hand() -> None:
    """Prune point 1, three steps of 2: of 0, 0.5, 3.4 and 20, the second last alone moves with its input."""
    fixed = InputQuantizer(2, symmetric=False, dynamic=False, prunes=True)
    fixed.scale, fixed.prune = torch.tensor([2.0]), torch.tensor([1.0])
    learned, x = LearnedInput(fixed), torch.tensor([[0.0, 0.5, 3.4, 20.0]], requires_grad=True)
    for quantizer in (fixed.eval(), learned):
        assert quantizer(x).tolist() == [[0.0, 0.0, 2.0, 6.0]]
    learned(x).sum().backward()
    assert x.grad is not None
    assert learned.prune.grad is not None
    assert x.grad.tolist() == [[0.0, 0.0, 1.0, 0.0]]
    assert learned.prune.grad.tolist() == [-1.0]


@pytest.fixture(scope="module")
def with_inputs(small: Data) -> tuple[Bundle, Report]:
    step = Step("learn_intervals", {"epochs": 2, "end_bits": 4, "input_intervals": True})
    return apply(zoo.load("lenet-5-small"), step, small)


def test_prune_points_of_inputs_learn_and_are_in_every_file(
    with_inputs: tuple[Bundle, Report], small: Data
) -> None:
    after, report = with_inputs
    layers, steps = report.tables["layers"].set_index("layer"), report.tables["steps"]
    points = layers["input_prune_point"].dropna()
    assert list(points.index) == ["fc2"]  # behind a ReLU; what enters the others is negative somewhere
    assert (points >= 0).all()
    assert (points > 0).any()
    for label in points.index:
        assert points[label] == pytest.approx(float(after.params[f"{label}.input_quantizer.prune"].decode()))
        last = steps[(steps["layer"] == f"inputs of {label}") & (steps["epoch"] == 2)].set_index("of")
        both = [layers.loc[label, f"input_{end}_point"] for end in ("prune", "clip")]
        told = [last.loc[f"{end} point", "times_first"] for end in ("prune", "clip")]
        assert told[0] / told[1] == pytest.approx(both[0] / both[1])
    wanted = measure.predictions(after, small.test)
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, small.test), wanted)
    session = onnxruntime.InferenceSession(onnx_file.write(after, small.test.inputs(slice(0, 2))).data)
    answers = session.run(None, {"inputs": small.test.inputs().numpy()})[0].argmax(1)
    assert (torch.from_numpy(answers) != wanted).sum() <= 2


def test_pruned_weights_stay_zero_and_floats_may_enter(small: Data) -> None:
    pruned, _ = apply(zoo.load("mlp-32"), Step("prune_weights", {"sparsity": 0.8}), None)
    after, report = apply(pruned, Step("learn_intervals", {"epochs": 1, "activations": False}), small)
    assert not after.params["fc1.weight"].decode()[pruned.params["fc1.weight"].decode() == 0].any()
    assert not after.arch.edits
    assert "input_bits" not in report.tables["layers"]


def test_with_two_bits_it_is_far_better_than_rounded_to_two_bits() -> None:
    """The claim: weights and inputs of all layers at 2 bits, 3,000 images; the same images judge both."""
    data, bundle = some(3000, 1000), zoo.load("lenet-5-small")
    rounding = {"bits": 2, "granularity": "tensor", "range": "mse", "activations": "static"}
    rounding |= {"activation_bits": 2, "scheme": "asymmetric"}
    rounded, _ = apply(bundle, Step("quantize", rounding), data)
    trained, _ = apply(bundle, Step("learn_intervals", {**TWO, "epochs": 3}), data)
    answers = [measure.predictions(each, data.test) for each in (rounded, trained)]
    gain = measure.paired_difference(*answers, data.test.labels)
    assert gain.spread is not None
    assert gain.spread[0] > 0.1
    assert packfile.size(trained).value < 1.1 * packfile.size(rounded).value
