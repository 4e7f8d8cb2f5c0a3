"""Distillation: the loss against its oracle and its limits; a student that learns from a teacher."""

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import assert_resumes_exactly
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure, students
from engine.file import packfile
from engine.net import stages, zoo
from engine.net.train import (
    Rewording,
    attending_as,
    attention,
    distillation_loss,
    fit,
    learning_from,
    regressing_on,
    softened,
)
from engine.recipe import migrate, technique
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Cancelled, Progress, Recipe, SlimscopeError, Step

TINY = {"epochs": 1, "subset": 500}


@pytest.fixture(scope="module")
def small() -> Data:
    whole = sets.load("mnist")
    return Data(
        "mnist", whole.train.stratified(600), whole.validation.stratified(300), whole.test, whole.classes
    )


def logits(n: int = 64, classes: int = 10) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    z, v = (torch.randn(n, classes, generator=generator, dtype=torch.float64) * 3 for _ in range(2))
    return z, v, torch.randint(classes, (n,), generator=generator)


def test_softened_by_hand() -> None:
    # e^2 / (e^2 + 1) at temperature 1, e / (e + 1) at temperature 2
    assert softened(torch.tensor([2.0, 0.0]), 1.0)[0].item() == pytest.approx(0.880797, abs=1e-6)
    assert softened(torch.tensor([2.0, 0.0]), 2.0)[0].item() == pytest.approx(0.731059, abs=1e-6)
    assert torch.allclose(softened(torch.tensor([[5.0, -5.0, 1.0]]), 1e6), torch.full((1, 3), 1 / 3))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_loss_against_kl_div(temperature: float) -> None:
    z, v, labels = logits()
    goal, answer = F.softmax(v / temperature, 1), F.log_softmax(z / temperature, 1)
    soft = F.kl_div(answer, goal, reduction="batchmean") * temperature**2
    expected = 0.3 * soft + 0.7 * F.cross_entropy(z, labels)
    assert distillation_loss(z, v, labels, temperature, 0.3).item() == pytest.approx(
        expected.item(), rel=1e-12
    )


def test_alpha_zero_is_cross_entropy_and_alpha_one_ignores_labels() -> None:
    z, v, labels = logits()
    assert torch.equal(distillation_loss(z, v, labels, 4.0, 0.0), F.cross_entropy(z, labels))
    other = (labels + 1) % 10
    assert torch.equal(distillation_loss(z, v, labels, 4.0, 1.0), distillation_loss(z, v, other, 4.0, 1.0))
    assert distillation_loss(v, v, labels, 4.0, 1.0).item() == pytest.approx(0.0, abs=1e-12)


def test_two_classes_by_hand() -> None:
    # T = 1: teacher shares 1/2, 1/2; student shares 3/4, 1/4: KL = ln(1/2 / (3/4)) / 2 + ln 2 / 2
    student, teacher = torch.log(torch.tensor([[3.0, 1.0]])), torch.zeros(1, 2)
    value = distillation_loss(student, teacher, torch.tensor([0]), 1.0, 1.0).item()
    assert value == pytest.approx(0.143841, abs=1e-6)


def test_at_high_temperature_it_is_regression_on_centred_logits() -> None:
    z, v, labels = logits()
    z, v = z - z.mean(1, keepdim=True), v - v.mean(1, keepdim=True)
    regression = (z - v) / z.shape[1] / len(z)
    gaps = []
    for temperature in (1.0, 4.0, 20.0, 200.0):
        student = z.clone().requires_grad_(True)
        distillation_loss(student, v, labels, temperature, 1.0).backward()
        assert student.grad is not None
        gaps.append(float((student.grad - regression).norm() / regression.norm()))
    assert gaps == sorted(gaps, reverse=True)
    # Logits of deviation 3: the limit is reached later than with those of deviation 1 below.
    assert gaps[2] < 0.1
    assert gaps[3] < 0.01


def test_the_way_to_the_limit_in_numbers() -> None:
    """Relative difference of the gradients for standard normal logits: 0.51, 0.155, 0.032, 0.003."""
    generator = torch.Generator().manual_seed(0)
    z, v = (torch.randn(64, 10, generator=generator, dtype=torch.float64) for _ in range(2))
    z, v = (scores - scores.mean(1, keepdim=True) for scores in (z, v))
    regression, gaps = (z - v) / 10 / 64, []
    for temperature in (1.0, 4.0, 20.0, 200.0):
        student = z.clone().requires_grad_()
        distillation_loss(student, v, torch.zeros(64, dtype=torch.int64), temperature, 1.0).backward()
        assert student.grad is not None
        gaps.append(float((student.grad - regression).norm() / regression.norm()))
    assert gaps == pytest.approx([0.51, 0.155, 0.032, 0.003], abs=0.0015)


def test_the_teacher_gets_no_gradient() -> None:
    z, v, labels = logits()
    z.requires_grad_(True)
    v.requires_grad_(True)
    distillation_loss(z, v, labels, 4.0, 0.5).backward()
    assert v.grad is None
    assert z.grad is not None
    teacher = zoo.fork(zoo.load("lenet-300-100"))
    student = zoo.seeded("mlp-32", 0)
    images = torch.randn(4, 1, 28, 28)
    value, answers = learning_from(teacher, 4.0, 0.5)(student, images, torch.zeros(4, dtype=torch.int64))
    value.backward()
    assert answers.shape == (4, 10)
    assert all(p.grad is None for p in teacher.parameters())


def test_the_student_takes_the_place_of_the_teacher(small: Data) -> None:
    teacher = zoo.load("lenet-300-100")
    seen: list[tuple[float, dict[str, float] | None]] = []
    progress = Progress(lambda fraction, row: seen.append((fraction, row)))
    student, report = apply(teacher, Step("distill", TINY), small, progress)
    assert student.arch == Arch("mlp-32")
    assert student.origin is teacher
    assert student.lineage.steps[-1].technique == "distill"
    curve = report.tables["curve"]
    assert list(curve.columns) == ["epoch", "loss", "train accuracy", "validation accuracy", "run"]
    assert list(curve["run"]) == ["distilled", "plain"]
    figures = {f.name: f for f in report.figures}
    assert figures["validation accuracy before"].value == measure.accuracy(teacher, small.validation).value
    assert figures["validation accuracy after"].value == measure.accuracy(student, small.validation).value
    assert figures["validation accuracy after"].value == pytest.approx(curve["validation accuracy"].iloc[0])
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert {row["run"] for _, row in seen if row} == {0.0, 1.0}


def test_with_alpha_zero_the_plain_student_is_the_same(small: Data) -> None:
    teacher = zoo.load("lenet-300-100")
    _, report = apply(teacher, Step("distill", {**TINY, "alpha": 0.0}), small)
    curve = report.tables["curve"].drop(columns="run")
    assert curve.iloc[0].equals(curve.iloc[1])
    gain = next(f for f in report.figures if f.name == "gain over the plain student")
    assert gain.value == 0
    assert gain.how.startswith("0 won, 0 lost")
    half = measure.Z95 / (len(small.validation) + 2)
    assert gain.spread == pytest.approx((-half, half))


def test_the_control_changes_nothing_but_the_report(small: Data) -> None:
    teacher = zoo.load("lenet-300-100")
    one, _ = apply(teacher, Step("distill", TINY), small)
    two, report = apply(teacher, Step("distill", {**TINY, "control": False}), small)
    other, _ = apply(teacher, Step("distill", {**TINY, "control": False, "seed": 1}), small)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert set(report.tables["curve"]["run"]) == {"distilled"}
    assert not any("plain" in f.name for f in report.figures)


def test_a_compressed_teacher_teaches(small: Data) -> None:
    whole = zoo.load("lenet-300-100")
    weight = whole.params["fc1.weight"].decode()
    params = {**whole.params, "fc1.weight": Dense(torch.where(weight.abs() < 0.05, 0.0, weight))}
    student, _ = apply(whole.become(params), Step("distill", {**TINY, "control": False}), small)
    plain, _ = apply(whole, Step("distill", {**TINY, "control": False}), small)
    assert student.arch.name == "mlp-32"
    assert student.fingerprint != plain.fingerprint


def test_a_net_without_a_student_is_refused(small: Data) -> None:
    with pytest.raises(SlimscopeError, match="no student for mlp-32: teachers are lenet-300-100, lenet-5"):
        apply(zoo.load("mlp-32"), Step("distill", TINY), small)


@pytest.mark.parametrize(
    "settings", [{"temperature": 0.0}, {"temperature": 21}, {"alpha": 1.1}, {"subset": 10}]
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], small: Data) -> None:
    name = next(iter(settings))
    with pytest.raises(SettingError, match=f"{name} is .*: allowed is"):
        apply(zoo.load("lenet-300-100"), Step("distill", settings), small)


def test_it_can_be_cancelled(small: Data) -> None:
    with pytest.raises(Cancelled):
        apply(zoo.load("lenet-300-100"), Step("distill", TINY), small, Progress(cancelled=lambda: True))


@pytest.mark.parametrize("stop", [3, 9, 13])  # distilled, between the two, plain
def test_broken_off_and_resumed_both_students_are_the_same(stop: int, small: Data, tmp_path: Path) -> None:
    teacher, step = zoo.load("lenet-300-100"), Step("distill", {**TINY, "epochs": 2})
    repeated = assert_resumes_exactly(teacher, step, small, stop, tmp_path)
    # Four batches an epoch, two epochs, two students: only rows of epochs that were over are said again.
    assert [(row["run"], row["epoch"]) for row in repeated] == [(0, 1), (0, 2), (1, 1)][: stop // 4]
    assert all("train accuracy" in row for row in repeated)


def test_claim_the_teacher_helps_a_student_that_sees_few_images() -> None:
    whole = sets.load("mnist")
    step = Step("distill", {"epochs": 20, "subset": 2000})
    _, report = apply(zoo.load("lenet-300-100"), step, whole)
    gain = next(f for f in report.figures if f.name == "gain over the plain student")
    assert gain.spread is not None
    assert gain.spread[0] > 0


# ---------------------------------------------------------------- other losses


def test_settings_of_before_keep_their_key() -> None:
    kept = (
        '{"alpha":0.7,"control":true,"epochs":10,"learning_rate":0.01,"seed":0,"subset":10000,'
        '"temperature":4.0}'
    )
    assert migrate.kept_as(Recipe((technique.step("distill"),))) == f'[["distill",{kept}]]'


def test_attention_by_hand() -> None:
    """Squares over channels: 3^2 + 0 and 0 + 4^2 at the two places; their norm is sqrt(81 + 256)."""
    maps = torch.tensor([[[[3.0, 0.0]], [[0.0, -4.0]]]])
    assert attention(maps).flatten().tolist() == pytest.approx([9 / 337**0.5, 16 / 337**0.5])
    assert torch.allclose(attention(5 * maps), attention(maps))
    assert attention(torch.zeros(1, 2, 1, 2)).tolist() == [[0.0, 0.0]]


def test_the_loss_of_attention_is_the_papers() -> None:
    """Against the maps themselves, computed layer by layer; nothing is left of it where both nets are one."""
    bundle, images, labels = zoo.load("lenet-5"), torch.randn(6, 1, 28, 28), torch.arange(6)
    teacher, student, twin = zoo.fork(bundle), zoo.seeded("lenet-5-small", 0), zoo.fork(bundle)
    theirs, own = (
        teacher.conv2(F.max_pool2d(teacher.conv1(images), 2)),
        F.max_pool2d(student.conv1(images), 2),
    )
    pairs = [(teacher.conv1(images), student.conv1(images)), (theirs, student.conv2(own))]
    expected = 0.0
    for a, b in pairs:
        q, p = (maps.pow(2).mean(1).flatten(1) for maps in (a, b))
        q, p = (maps / maps.norm(dim=1, keepdim=True) for maps in (q, p))
        expected += 1000 * (q - p).pow(2).mean().item()
    ends = [("conv1", "conv1"), ("conv2", "conv2")]
    value, answers = attending_as(teacher, student, ends, 0.6)(student, images, labels)
    hard = F.cross_entropy(student(images), labels).item()
    assert value.item() == pytest.approx(0.6 * expected + 0.4 * hard, rel=1e-4)
    assert answers.shape == (6, 10)
    value.backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert student.conv1.weight.grad is not None
    same, _ = attending_as(teacher, twin, ends, 0.6)(twin, images, labels)
    assert same.item() == pytest.approx(0.4 * F.cross_entropy(twin(images), labels).item(), rel=1e-5)


def test_regression_is_the_mean_squared_error_of_logits() -> None:
    teacher, student = zoo.build(zoo.load("lenet-300-100")), zoo.seeded("mlp-32", 0)
    images, labels = torch.randn(4, 1, 28, 28), torch.arange(4)
    value, answers = regressing_on(teacher, 0.25)(student, images, labels)
    expected = (teacher(images) - answers).square().sum() / 40
    assert value.item() == pytest.approx(
        0.25 * expected.item() + 0.75 * F.cross_entropy(answers, labels).item()
    )


@pytest.mark.parametrize("loss", ["logits", "attention"])
def test_claim_a_student_comes_closer_to_what_it_is_taught(loss: str, small: Data) -> None:
    teacher = zoo.load("lenet-5")
    brief = {"epochs": 3, "subset": 500, "alpha": 0.5, "loss": loss}
    student, _ = apply(teacher, Step("distill", {**brief, "control": False}), small)
    plain, _ = apply(teacher, Step("distill", {**brief, "alpha": 0.0, "control": False}), small)
    inputs = small.validation.inputs()

    def shown(bundle: Bundle) -> torch.Tensor:
        maps, answers = stages.reader(zoo.fork(bundle), "conv2")(inputs)
        return answers if loss == "logits" else attention(maps)

    gaps = [F.mse_loss(shown(bundle), shown(teacher)).item() for bundle in (student, plain)]
    assert gaps[0] < 0.9 * gaps[1]


@pytest.mark.parametrize("loss", ["hinton", "logits", "attention"])
def test_the_teacher_stays_as_it_is_with_its_batch_norm(loss: str) -> None:
    photos = few_photos()
    teacher = zoo.load("resnet-20")
    mean = teacher.params["bn1.running_mean"].decode().clone()
    apply(teacher, Step("distill", {**TINY, "loss": loss, "control": False}), photos)
    assert Bundle(teacher.arch, teacher.params).fingerprint == zoo.load("resnet-20").fingerprint
    assert torch.equal(teacher.params["bn1.running_mean"].decode(), mean)


def few_photos() -> Data:
    whole = sets.load("cifar10")
    parts = (part.stratified(60) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


def test_attention_needs_feature_maps_and_some_labels(small: Data) -> None:
    with pytest.raises(SlimscopeError, match="LeNet-300-100 has no feature maps"):
        apply(zoo.load("lenet-300-100"), Step("distill", {**TINY, "loss": "attention"}), small)
    with pytest.raises(SlimscopeError, match="alpha is 1 with loss = 'attention'"):
        apply(zoo.load("lenet-5"), Step("distill", {**TINY, "loss": "attention", "alpha": 1.0}), small)


# ---------------------------------------------------------------- a narrower copy as the student


@pytest.mark.parametrize("loss", ["hinton", "attention"])
def test_a_narrower_copy_learns_and_is_rebuilt(loss: str) -> None:
    photos, teacher = few_photos(), zoo.load("resnet-8")  # of which the zoo has no student
    step = Step("distill", {**TINY, "student": "narrow", "width": 0.25, "loss": loss})
    student, report = apply(teacher, step, photos)
    assert student.params["layer3.0.conv2.weight"].shape == (16, 16, 3, 3)
    assert student.origin is teacher
    assert report.notes == ("ResNet-8, 25% as wide, learned from 60 samples of cifar10",)
    again = packfile.unpack(packfile.pack(student))
    assert torch.equal(measure.predictions(again, photos.test), measure.predictions(student, photos.test))


# ---------------------------------------------------------------- texts


def test_a_recurrent_student_of_texts_learns_from_logits_on_reworded_texts() -> None:
    """Against the same training written out (Tang 2019): its words masked, replaced, cut to runs."""
    whole = sets.load("debian-topics")
    few = Data(
        whole.name,
        whole.train.take(slice(0, 256)),
        whole.validation.take(slice(0, 50)),
        whole.test,
        whole.classes,
    )
    settings = {**TINY, "loss": "logits", "alpha": 1.0, "augmentation": "words", "control": False}
    after, report = apply(zoo.load("transformer-topics"), Step("distill", settings), few)
    assert after.arch == Arch("bilstm-topics")
    net, teacher = zoo.seeded("bilstm-topics", 0), zoo.build(zoo.load("transformer-topics"))
    plan = students.plan(1, technique.get("distill").defaults["learning_rate"], 0)
    plan = dataclasses.replace(plan, rewording=Rewording(0.1, 0.1, 0.25), clip_norm=1.0)
    rows = fit(net, few.train, plan, loss=regressing_on(teacher, 1.0))
    assert all(torch.equal(after.state()[name], value) for name, value in net.state_dict().items())
    assert report.tables["curve"]["loss"].iloc[-1] == pytest.approx(rows[-1]["loss"])


def test_samples_without_words_are_not_reworded(small: Data) -> None:
    with pytest.raises(SlimscopeError, match=r"mnist has no texts with a class: allowed is 'usual'"):
        apply(zoo.load("lenet-300-100"), Step("distill", {**TINY, "augmentation": "words"}), small)
