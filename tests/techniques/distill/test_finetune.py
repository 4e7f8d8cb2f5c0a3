"""Fine-tuning: zeros stay zeros, pruning is mended, rounded inputs are trained through."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import assert_resumes_exactly
from hypothesis import given, settings
from hypothesis import strategies as st

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import zoo
from engine.net.surgery import InputQuantizer
from engine.net.train import learning_from
from engine.recipe import migrate, technique
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply
from engine.tensor.affine import round_through
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Arch, Bundle, Cancelled, Progress, Recipe, Step, weight_layers


def part_of(whole: Data, train: int, validation: int) -> Data:
    return Data(
        whole.name,
        whole.train.stratified(train),
        whole.validation.stratified(validation),
        whole.test.stratified(validation),
        whole.classes,
    )


@pytest.fixture(scope="module")
def small() -> Data:
    return part_of(sets.load("mnist"), 300, 200)


def pruned(bundle: Bundle, share: float) -> Bundle:
    """The smallest weights of all matrices together set to zero."""
    layers = set(weight_layers(bundle).values())
    sizes = torch.cat([bundle.params[n].decode().abs().flatten() for n in layers])
    cut = sizes.kthvalue(int(share * sizes.numel())).values
    params = {
        name: Dense(p.decode() * (p.decode().abs() > cut)) if name in layers else p
        for name, p in bundle.params.items()
    }
    return bundle.become(params)


def tune(bundle: Bundle, given_data: Data, **settings: object) -> tuple[Bundle, object]:
    return apply(bundle, Step("finetune", {"epochs": 1, **settings}), given_data)


def untrained(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 3).state_dict())


@pytest.mark.parametrize("name", ["mlp-32", "lenet-5-small", "lstm-32"])
def test_removed_weights_stay_exactly_zero_and_the_others_move(name: str, small: Data) -> None:
    before = pruned(untrained(name), 0.8)
    after, _ = tune(before, small, learning_rate=0.05)
    for layer in weight_layers(before).values():
        zeros = before.params[layer].decode() == 0
        assert zeros.any()
        assert (after.params[layer].decode()[zeros] == 0).all()
        assert not torch.equal(after.params[layer].decode()[~zeros], before.params[layer].decode()[~zeros])


def test_a_net_that_lost_95_percent_wins_most_of_it_back() -> None:
    original, whole = zoo.load("lenet-300-100"), part_of(sets.load("mnist"), 10_000, 5000)
    small_net = pruned(original, 0.95)
    after, _ = tune(small_net, whole)
    start, low, end = (measure.accuracy(b, whole.validation).value for b in (original, small_net, after))
    assert start - low > 0.05
    assert end - low > 0.75 * (start - low)


def test_same_seed_same_bytes_and_another_seed_another_net(small: Data) -> None:
    bundle = untrained("mlp-32")
    one, report = tune(bundle, small, seed=1)
    two, again = tune(bundle, small, seed=1)
    other, _ = tune(bundle, small, seed=2)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert report.figures == again.figures
    pd.testing.assert_frame_equal(report.tables["curve"], again.tables["curve"])


def test_the_report_says_what_was_measured(small: Data) -> None:
    bundle = untrained("mlp-32")
    after, report = tune(bundle, small, epochs=2)
    before_, after_, change = report.figures
    assert before_ == replace(measure.accuracy(bundle, small.validation), name=before_.name)
    assert after_ == replace(measure.accuracy(after, small.validation), name=after_.name)
    assert change.value == pytest.approx(after_.value - before_.value, abs=1e-12)
    curve = report.tables["curve"]
    assert list(curve.columns) == ["epoch", "loss", "train accuracy", "validation accuracy"]
    assert list(curve["epoch"]) == [0, 1, 2]
    assert curve["validation accuracy"].iloc[0] == pytest.approx(report.figures[0].value)
    assert curve["validation accuracy"].iloc[-1] == pytest.approx(after_.value)
    assert report.notes == ("trained on 300 samples of mnist",)


def test_codes_return_to_floats_and_the_note_says_so(small: Data) -> None:
    bundle = untrained("mlp-32")
    weight = bundle.params["fc1.weight"].decode()
    grid = AffineGrid(
        torch.round(weight / 0.01).to(torch.int32), torch.tensor([0.01]), torch.zeros(1, dtype=torch.int32), 8
    )
    coded = bundle.become({**bundle.params, "fc1.weight": grid})
    after, report = tune(coded, small)
    assert all(isinstance(p, Dense) for p in after.params.values())
    assert "fc1.weight had been quantized" in report.notes[1]
    assert "put quantize after fine-tune" in report.notes[1]


def test_batch_norm_statistics_are_those_of_the_trained_net() -> None:
    photos = part_of(sets.load("cifar10"), 128, 50)
    bundle = untrained("resnet-8")
    after, _ = tune(bundle, photos)
    mean = after.params["bn1.running_mean"].decode()
    # One batch moves the running mean by a tenth from zero to the mean of the first convolution.
    assert (mean != 0).all()
    assert mean.abs().max() < 1
    assert (after.params["bn1.running_var"].decode() != 1).all()
    assert measure.predictions(after, photos.validation).shape == (50,)


def test_rounded_inputs_stay_and_the_layer_in_front_learns_through_them(small: Data) -> None:
    bundle = untrained("mlp-32")
    arch = Arch("mlp-32").edit("quantize_input", layer="fc2", bits=4, symmetric=False, dynamic=False)
    scale = {"fc2.input_quantizer.scale": 0.1, "fc2.input_quantizer.zero": 0.0}
    extra = {name: Dense(torch.tensor([value])) for name, value in scale.items()}
    rounded = bundle.become({**bundle.params, **extra}, arch)
    after, _ = tune(rounded, small)
    assert after.arch == arch
    for name, value in scale.items():
        assert after.params[name].decode().item() == pytest.approx(value)
    # Weight decay alone shrinks by a common factor; a gradient that came through does not.
    ratio = after.params["fc1.weight"].decode() / bundle.params["fc1.weight"].decode()
    assert ratio.std() > 1e-4


def test_in_training_an_input_quantizer_gives_the_same_values_and_a_gradient() -> None:
    for dynamic in (False, True):
        quantizer = InputQuantizer(4, False, dynamic)
        x = torch.linspace(-2, 20, 101, requires_grad=True)
        trained = quantizer.train()(x)
        assert torch.equal(trained, quantizer.eval()(x))
        trained.sum().backward()
        inside = (x >= 0) & (x <= 15) if not dynamic else (x > -1.5) & (x < 19)
        assert (x.grad[inside] == 1).all()
    assert x.grad is not None


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=20))
@settings(max_examples=200)
def test_rounding_straight_through_is_rounding(values: list[float]) -> None:
    x = torch.tensor(values, requires_grad=True)
    rounded = round_through(x)
    assert torch.equal(rounded, torch.round(x))
    rounded.sum().backward()
    assert (x.grad == 1).all()


@pytest.mark.parametrize("stop", [1, 4, 5])
@pytest.mark.parametrize("name", ["mlp-32", "resnet-8"])
def test_broken_off_and_resumed_it_is_bit_for_bit_the_unbroken_run(
    name: str, stop: int, small: Data, tmp_path: Path
) -> None:
    given_data = small if name == "mlp-32" else part_of(sets.load("cifar10"), 300, 50)
    bundle, step = pruned(untrained(name), 0.5), Step("finetune", {"epochs": 2, "learning_rate": 0.05})
    repeated = assert_resumes_exactly(bundle, step, given_data, stop, tmp_path)
    # Three batches an epoch: only the rows of epochs that were over are said again.
    assert [row["epoch"] for row in repeated if "train accuracy" in row] == [1.0][: stop // 3]
    assert len(repeated) == stop // 3


def test_it_can_be_cancelled_and_reports_as_it_goes(small: Data) -> None:
    seen: list[tuple[float, object]] = []
    progress = Progress(lambda fraction, row: seen.append((fraction, row)), lambda: len(seen) >= 2)
    with pytest.raises(Cancelled):
        apply(untrained("mlp-32"), Step("finetune", {"epochs": 30}), small, progress)
    assert len(seen) == 2
    assert 0 < seen[0][0] <= seen[1][0] < 0.1


@pytest.mark.parametrize(
    ("settings_", "text"),
    [
        ({"epochs": 0}, "epochs is 0: allowed is a whole number from 1 to 60"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"learning_rate": 1.0}, "learning_rate is 1.0: allowed is a number from 0.0001 to 0.1"),
    ],
)
def test_settings_out_of_range_are_refused(settings_: dict[str, object], text: str, small: Data) -> None:
    with pytest.raises(SettingError, match=text):
        apply(untrained("mlp-32"), Step("finetune", settings_), small)


# ---------------------------------------------------------------- the model before compression as a teacher


def test_without_a_teacher_all_is_as_it_was_before_there_were_any(small: Data) -> None:
    kept = '{"epochs":3,"learning_rate":0.01,"precision":"float32","seed":0,"weight_decay":0.0001}'
    assert migrate.kept_as(Recipe((technique.step("finetune"),))) == f'[["finetune",{kept}]]'
    bundle = pruned(untrained("mlp-32"), 0.8)
    alone, report = tune(bundle, small)
    assert tune(bundle, small, temperature=9.0, alpha=1.0)[0].fingerprint == alone.fingerprint
    silent, said = tune(bundle, small, teacher="original", alpha=0.0)
    assert silent.fingerprint == alone.fingerprint
    assert said.figures == report.figures
    assert len(said.notes) == len(report.notes) + 1


@pytest.mark.parametrize("alpha", [0.3, 1.0])
def test_a_model_that_answers_as_its_teacher_has_only_the_labels_to_learn_from(
    alpha: float, small: Data
) -> None:
    """Before the first step both are one model: the soft loss is zero, and cross-entropy has its share."""
    one_batch = replace(small, train=small.train.take(slice(0, 100)))
    bundle = zoo.load("mlp-32")
    _, hard = tune(bundle, one_batch)
    _, soft = tune(bundle, one_batch, teacher="original", alpha=alpha)
    expected = (1 - alpha) * hard.tables["curve"]["loss"].iloc[-1]
    assert soft.tables["curve"]["loss"].iloc[-1] == pytest.approx(expected, abs=1e-6)


def test_the_teacher_is_in_eval_mode_and_stays_as_it_is_with_its_batch_norm() -> None:
    photos = part_of(sets.load("cifar10"), 128, 50)
    original = zoo.load("resnet-8")
    print_, mean = original.fingerprint, original.params["bn1.running_mean"].decode().clone()
    bundle = pruned(original, 0.5)
    after, _ = tune(bundle, photos, teacher="original")
    again = zoo.load("resnet-8")
    assert original.fingerprint == again.fingerprint == print_
    assert Bundle(original.arch, original.params).fingerprint == print_  # of its numbers, taken anew
    assert torch.equal(original.params["bn1.running_mean"].decode(), mean)
    assert not torch.equal(after.params["bn1.running_mean"].decode(), mean)
    # A teacher in training mode would answer by the statistics of each batch.
    teacher, seen = zoo.build(original), []
    inputs, labels = photos.train.inputs(slice(0, 20)), photos.train.labels[:20]
    teacher.fc.register_forward_hook(lambda module, args, output: seen.append(output))
    learning_from(teacher, 4.0, 1.0)(zoo.fork(bundle).train(), inputs, labels)
    assert torch.equal(seen[0], zoo.build(original)(inputs))


def test_claim_a_teacher_wins_back_more_where_much_was_pruned() -> None:
    """Two weights of a hundred are left, and few images to tune them on: 95.3 % against 92.8 %."""
    original, whole = zoo.load("lenet-300-100"), part_of(sets.load("mnist"), 2000, 2000)
    bundles = {"whole": original}
    for teacher in ("none", "original"):
        bundles[teacher], _ = tune(pruned(original, 0.98), whole, epochs=10, teacher=teacher)
    answers = {name: measure.logits(zoo.build(bundle), whole.validation) for name, bundle in bundles.items()}
    taught, alone = (measure.kl(answers["whole"], answers[name]).value for name in ("original", "none"))
    assert taught < 0.8 * alone
    classes = [answers[name].argmax(1) for name in ("none", "original")]
    gain = measure.paired_difference(classes[0], classes[1], whole.validation.labels)
    assert gain.spread is not None
    assert gain.spread[0] > 0
