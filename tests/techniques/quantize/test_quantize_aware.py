"""Quantize-aware training: a step of it by hand, what is stored, what it starts from, and its worth."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import assert_resumes_exactly
from torch import nn
from torch.utils.data import TensorDataset

import engine.techniques
from engine.data import sets
from engine.data.sets import Data
from engine.figures import few_bits, measure, training
from engine.file import packfile
from engine.net import zoo
from engine.net.surgery import InputQuantizer, quantize_input
from engine.net.train import stored, stored_steps, train_inputs, train_on
from engine.recipe.run import apply
from engine.tensor import grids
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Bundle, Progress, Report, SlimscopeError, Step, weight_layers

TWO = {"bits": 2, "activation_bits": 2, "end_bits": 2}


def some(train: int, rest: int) -> Data:
    whole = sets.load("mnist")
    parts = (
        part.stratified(n)
        for part, n in zip((whole.train, whole.validation, whole.test), (train, rest, rest), strict=True)
    )
    return Data(whole.name, *parts, whole.classes)


@pytest.fixture(scope="module")
def small() -> Data:
    return some(400, 200)


@pytest.fixture(scope="module")
def trained(small: Data) -> tuple[Bundle, Report]:
    return apply(
        zoo.load("lenet-5-small"), Step("quantize_aware", {**TWO, "end_bits": 4, "epochs": 2}), small
    )


# ---------------------------------------------------------------- by hand


def test_the_first_steps_of_weights_and_of_inputs_by_hand(small: Data) -> None:
    grid = grids.learned(torch.tensor([[1.0, -2.0], [0.0, 3.0]]), 2)
    assert grid.scale.tolist() == [2 * 1.5 / 1]  # Q = 1: codes -2 to 1
    assert grid.decode().tolist() == [[0.0, -3.0], [0.0, 3.0]]
    assert grids.learned(torch.tensor([[0.0, 3.0]]), 3, zeros=False).scale.item() == pytest.approx(
        2 * 3 / 3**0.5
    )
    bundle = zoo.load("mlp-32")
    after, _ = apply(bundle, Step("quantize_aware", {"epochs": 1, "step_sizes": "fixed"}), small)
    seen: dict[str, torch.Tensor] = {}
    net = zoo.build(bundle)
    net.fc2.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))  # type: ignore[union-attr]
    net(small.train.stratified(256).inputs())
    step = after.params["fc2.input_quantizer.scale"].decode()
    assert float(step) == pytest.approx(2 * float(seen["x"].abs().mean()) / 255**0.5, rel=1e-5)


def test_training_on_the_weights_own_grid_begins_with_its_codes_and_steps(small: Data) -> None:
    on, _ = apply(zoo.load("mlp-32"), Step("entropy_penalty", {"bits": 4, "penalty": 1.0}), None)
    own = few_bits.begin(on, small, few_bits.Widths(3, None, 3), "tensor", True, "own")
    assert own.rounded.fingerprint == on.fingerprint
    new = few_bits.begin(on, small, few_bits.Widths(3, None, 3), "tensor", True)
    assert new.rounded.fingerprint != on.fingerprint
    settings = {"activations": False, "epochs": 1, "grid": "own", "step_sizes": "fixed"}
    after, _ = apply(on, Step("quantize_aware", settings), small)
    for name in weight_layers(on).values():
        before, now = on.params[name], after.params[name]
        assert isinstance(before, AffineGrid)
        assert isinstance(now, AffineGrid)
        assert (now.bits, now.scale.tolist()) == (4, before.scale.tolist())
        assert bool((now.codes[before.codes == 0] == 0).all())


def test_an_inputs_gradients_by_hand() -> None:
    net = nn.Sequential(nn.Linear(3, 1, bias=False))
    quantize_input(net, layer="0", bits=2, symmetric=False, dynamic=False)
    fixed = net[0].input_quantizer
    assert isinstance(fixed, InputQuantizer)
    fixed.scale.fill_(0.5)
    (learned,) = train_inputs(net).module.children()
    net.train()
    net[0].weight.data = torch.tensor([[1.0, 10.0, 100.0]])  # type: ignore[union-attr]
    x = torch.tensor([[0.6, 9.0, -0.1], [0.0, 1.6, 0.8]], requires_grad=True)
    assert net(x).flatten().tolist() == [0.5 + 15, 15 + 100]  # whole steps 1 3 0 and 0 3 2
    net(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [[1.0, 0.0, 0.0], [1.0, 0.0, 100.0]]  # 3.2 steps are beyond, and -0.2
    # N = 3 numbers of a sample, Q = 3; within: round(v / s) - v / s, beyond: the end.
    by_hand = (1 * (1 - 1.2) + 10 * 3 + 0 + 0 + 10 * 3 + 100 * (2 - 1.6)) / 3
    assert learned.scale.grad.tolist() == pytest.approx([by_hand], rel=1e-5)  # type: ignore[union-attr]
    with torch.no_grad():
        expected = net(x)
        learned.scale.fill_(-1.0)  # type: ignore[union-attr, operator]
    assert float(stored_steps(net)["0.input_quantizer.scale"]) > 0
    fixed.scale.fill_(0.5)
    net[0].input_quantizer = fixed.eval()
    assert torch.equal(net(x), expected)


def test_one_step_of_training_by_hand() -> None:
    """The loss is the sum of the weights: 1.2 steps within the ends -4 and 3, and -4.8 beyond."""
    layer = nn.Linear(2, 1, bias=False)
    layer.weight.data = torch.tensor([[0.6, -2.4]])
    part = train_on(
        layer, {"weight": AffineGrid(torch.zeros(1, 2).int(), *(torch.tensor([x]) for x in (0.5, 4)), 3)}
    )
    layer(torch.ones(1, 2)).sum().backward()
    torch.optim.SGD([*layer.parameters()], 0.1).step()
    after = stored(layer, part)["weight"]
    assert isinstance(after, AffineGrid)
    gradient = ((1 - 1.2) - 4) / (2 * 3) ** 0.5  # N = 2, Q = 3
    assert after.scale.tolist() == pytest.approx([0.5 - 0.1 * gradient])
    latent = layer.parametrizations.weight.original  # type: ignore[union-attr]
    assert latent.flatten().tolist() == pytest.approx([0.6 - 0.1, -2.4])  # type: ignore[union-attr, operator]


# ---------------------------------------------------------------- what is stored


@pytest.mark.parametrize("net", ["lenet-5-small", "lstm-32"])
def test_what_was_trained_is_what_is_stored(net: str, small: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: dict[str, Any] = {}
    tune = training.tune

    def keeping(net: nn.Module, *args: Any, **more: Any) -> Any:
        rows = tune(net, *args, **more)
        kept["net"] = net.eval()
        return rows

    monkeypatch.setattr(training, "tune", keeping)
    after, _ = apply(zoo.load(net), Step("quantize_aware", {**TWO, "epochs": 1}), small)
    inputs = small.test.inputs(torch.arange(50))
    with torch.no_grad():
        assert torch.equal(kept["net"](inputs), zoo.build(after)(inputs))


def test_the_accuracy_is_that_of_the_file_read_back(trained: tuple[Bundle, Report], small: Data) -> None:
    after, report = trained
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, small.test), measure.predictions(after, small.test))
    said = {figure.name: figure.value for figure in report.figures}
    right = measure.accuracy(again, small.validation).value
    start, *_, last = report.tables["curve"]["validation accuracy"]
    assert said["validation accuracy after"] == right == pytest.approx(last)
    assert said["validation accuracy, rounded and not trained"] == start < right


def test_first_and_last_layer_have_bits_of_their_own(trained: tuple[Bundle, Report]) -> None:
    after, report = trained
    layers = report.tables["layers"].set_index("layer")
    assert layers["bits"].tolist() == layers["input_bits"].tolist() == [4, 2, 2, 4]
    assert (layers["levels_used"] <= 2 ** layers["bits"]).all()
    for label, name in weight_layers(after).items():
        grid = after.params[name]
        assert isinstance(grid, AffineGrid)
        assert (grid.bits, float(grid.scale)) == (layers["bits"][label], pytest.approx(layers["step"][label]))
        assert float(after.params[f"{label}.input_quantizer.scale"].decode()) == layers["input_step"][label]


def test_steps_are_told_after_each_epoch_live_and_in_the_report(small: Data) -> None:
    rows: list[dict[str, float]] = []
    progress = Progress(lambda share, row: rows.append(dict(row or {})))
    step = Step("quantize_aware", {**TWO, "epochs": 2})
    _, report = apply(zoo.load("mlp-32"), step, small, progress)
    steps, layers = report.tables["steps"], report.tables["layers"]
    pd.testing.assert_frame_equal(few_bits.step_table(rows), steps)
    assert len(steps) == 3 * 2 * len(layers)  # epochs 0, 1 and 2; weights and inputs
    last = steps[(steps["epoch"] == 2) & (steps["of"] == "weights")].set_index("layer")["times_first"]
    assert last.tolist() == pytest.approx((layers["step"] / layers["first_step"]).tolist())
    assert (last != 1).all()


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
def test_fixed_steps_stay_and_floats_may_enter(granularity: str, small: Data) -> None:
    settings = {"epochs": 1, "step_sizes": "fixed", "activations": False, "granularity": granularity}
    after, report = apply(zoo.load("mlp-32"), Step("quantize_aware", settings), small)
    layers = report.tables["layers"]
    assert layers["step"].tolist() == layers["first_step"].tolist()
    assert "input_bits" not in layers
    assert not after.arch.edits
    assert len(report.tables["steps"]) == 0
    assert len(after.params["fc2.weight"].tensors()["scale"]) == (10 if granularity == "channel" else 1)
    assert isinstance(after.params["fc1.bias"], Dense)


# ---------------------------------------------------------------- what it starts from


def test_pruned_weights_stay_zero_and_zeros_of_rounding_may_go(small: Data) -> None:
    pruned, _ = apply(zoo.load("mlp-32"), Step("prune_weights", {"sparsity": 0.8}), None)
    for keep in (True, False):
        after, _ = apply(pruned, Step("quantize_aware", {"epochs": 1, "keep_zeros": keep}), small)
        zero = pruned.params["fc1.weight"].decode() == 0
        assert bool((after.params["fc1.weight"].decode()[zero] == 0).all()) == keep


def test_fewer_bits_start_from_what_more_bits_have_left(small: Data) -> None:
    bundle = zoo.load("mlp-32")
    for bits in (4, 2):
        settings = {"bits": bits, "activation_bits": bits, "end_bits": bits, "epochs": 1, "keep_zeros": False}
        bundle, _ = apply(bundle, Step("quantize_aware", settings), small)
        assert [own["bits"] for _, own in bundle.arch.edits] == [bits, bits]
        assert {param.bits for param in bundle.params.values() if isinstance(param, AffineGrid)} == {bits}
    rounded, _ = apply(zoo.load("mlp-32"), Step("quantize", {"bits": 4, "activations": "dynamic"}), small)
    after, report = apply(rounded, Step("quantize_aware", {"epochs": 1}), small)
    assert [own["dynamic"] for _, own in after.arch.edits] == [False, False]
    assert any("those that rounding had made as well, in fc1, fc2" in note for note in report.notes)


# ---------------------------------------------------------------- resuming, worth, teacher


@pytest.mark.parametrize(("name", "stop"), [("quantize_aware", 6), ("distill_quantized", 13)])
def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(
    name: str, stop: int, small: Data, tmp_path: Path
) -> None:
    assert_resumes_exactly(zoo.load("mlp-32"), Step(name, {**TWO, "epochs": 2}), small, stop, tmp_path)


def test_no_width_is_told_of_states_inside_of_a_recurrent_layer(small: Data) -> None:
    _, report = apply(zoo.load("lstm-32"), Step("quantize_aware", {"epochs": 1}), small)
    inputs = report.tables["layers"].set_index("layer")[["input_bits", "first_input_step", "input_step"]]
    assert inputs.isna().all(axis=1).to_dict() == {
        "lstm.weight_ih_l0": False,
        "lstm.weight_hh_l0": True,
        "fc": False,
    }
    assert any("states that pass from step to step stay 32-bit floats" in note for note in report.notes)


@pytest.mark.parametrize(
    ("name", "own"), [("quantize_aware", {"epochs": 1}), ("quantize", {"activations": "static"})]
)
def test_the_input_of_a_layer_that_is_the_whole_model_is_refused(name: str, own: dict[str, Any]) -> None:
    numbers = TensorDataset(torch.randn(64, 8), torch.arange(64) % 3)
    with pytest.raises(SlimscopeError, match=r"one layer without a name.*nn\.Sequential"):
        engine.compress(nn.Linear(8, 3), [[name, own]], numbers, numbers, numbers)


def test_trained_with_two_bits_it_is_far_better_than_rounded_to_two_bits() -> None:
    """The claim: all layers at 2 bits, weights and inputs, one scale each; the same images judge both."""
    data, bundle = some(3000, 1000), zoo.load("lenet-5-small")
    rounding = {"bits": 2, "granularity": "tensor", "range": "mse", "activations": "static"}
    rounding |= {"activation_bits": 2, "scheme": "asymmetric"}
    rounded, _ = apply(bundle, Step("quantize", rounding), data)
    trained, _ = apply(bundle, Step("quantize_aware", {**TWO, "epochs": 3}), data)
    answers = [measure.predictions(each, data.test) for each in (rounded, trained)]
    gain = measure.paired_difference(*answers, data.test.labels)
    assert gain.spread is not None
    assert gain.spread[0] > 0.1
    assert {type(p) for p in rounded.params.values()} == {type(p) for p in trained.params.values()}
    assert packfile.size(trained).value < 1.1 * packfile.size(rounded).value


def test_without_a_teacher_it_is_quantize_aware_training_and_the_teacher_is_the_origin(small: Data) -> None:
    start = apply(zoo.load("mlp-32"), Step("prune_weights", {"sparsity": 0.9}), None)[0]
    shared = {**TWO, "epochs": 1}
    plain, _ = apply(start, Step("quantize_aware", shared), small)
    taught, report = apply(start, Step("distill_quantized", {**shared, "alpha": 0.0}), small)
    assert taught.fingerprint == plain.fingerprint
    said = {figure.name: figure.value for figure in report.figures}
    assert said["gain by the teacher"] == 0
    assert said["validation accuracy without a teacher"] == measure.accuracy(plain, small.validation).value
    assert report.tables["curve"].groupby("run", sort=False).size().to_dict() == {"distilled": 2, "plain": 2}
    follows, _ = apply(start, Step("distill_quantized", {**shared, "alpha": 1.0, "epochs": 3}), small)
    teacher, *answers = (measure.logits(zoo.build(b), small.train) for b in (start.origin, plain, follows))
    far = [measure.kl(teacher, answer).value for answer in answers]
    assert far[1] < far[0]
