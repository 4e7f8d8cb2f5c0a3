"""Factor transfer: factors by hand and by the paper's formula, an auto-encoder that learns, a control."""

from pathlib import Path

import pytest
import torch
from conftest import assert_resumes_exactly
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.net import stages, zoo
from engine.net.train import Plan, fit
from engine.net.train.factors import (
    Paraphraser,
    factor_gap,
    normalised,
    reconstruction_error,
    reconstruction_loss,
    transferring,
    translator,
)
from engine.recipe.run import apply
from engine.techniques.distill.factor_transfer import RATE
from engine.types import Arch, Bundle, SlimscopeError, Step

TINY = {"epochs": 1, "paraphraser_epochs": 1, "subset": 500}


@pytest.fixture(scope="module")
def small() -> Data:
    whole = sets.load("mnist")
    return Data(
        "mnist", whole.train.stratified(300), whole.validation.stratified(200), whole.test, whole.classes
    )


def test_factors_by_hand() -> None:
    """(3, 4) and (8, 6) point along (0.6, 0.8) and (0.8, 0.6): a mean difference of 0.2, of whatever size."""
    theirs, own = torch.tensor([[[[3.0, 4.0]]]]), torch.tensor([[[[8.0, 6.0]]]])
    assert normalised(theirs).flatten().tolist() == pytest.approx([0.6, 0.8])
    assert factor_gap(theirs, own).item() == pytest.approx(0.2)
    assert factor_gap(theirs, 100 * own).item() == pytest.approx(0.2)
    assert factor_gap(theirs, 7 * theirs).item() == pytest.approx(0.0, abs=1e-7)


def test_normalised_factors_have_norm_one_for_each_sample() -> None:
    factors = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 50
    assert torch.allclose(normalised(factors).norm(dim=1), torch.ones(5))
    assert not normalised(torch.zeros(1, 2, 2, 2)).any()


def test_the_loss_is_that_of_the_paper_and_only_student_and_translator_learn() -> None:
    """Cross-entropy + beta * mean |F_T / ||F_T|| - F_S / ||F_S|||, written out."""
    bundle, images, labels = zoo.load("lenet-5"), torch.randn(6, 1, 28, 28), torch.arange(6)
    student, beside, paraphraser = (
        zoo.seeded("lenet-5-small", 0),
        translator(8, 25, 1),
        Paraphraser(50, 25, 2),
    )
    read = stages.reader(zoo.fork(bundle).eval().requires_grad_(False), "conv2")
    value, answers = transferring(read, paraphraser.encoder, student, "conv2", beside, 500.0)(
        student, images, labels
    )
    theirs = paraphraser.encoder(read(images)[0]).flatten(1)
    own = beside(student.conv2(F.max_pool2d(student.conv1(images), 2))).flatten(1)
    gap = (theirs / theirs.norm(dim=1, keepdim=True) - own / own.norm(dim=1, keepdim=True)).abs().mean()
    expected = F.cross_entropy(student(images), labels) + 500 * gap
    assert value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert answers.shape == (6, 10)
    value.backward()
    assert all(p.grad is None for p in paraphraser.parameters())
    assert all(p.grad is not None for p in beside.parameters())
    assert student.conv1.weight.grad is not None


def test_the_auto_encoder_is_the_papers() -> None:
    paraphraser = Paraphraser(64, 32, 0)
    kinds = [type(layer).__name__ for layer in (*paraphraser.encoder, *paraphraser.decoder)]
    assert kinds == ["Conv2d", "LeakyReLU"] * 3 + ["ConvTranspose2d", "LeakyReLU"] * 3
    maps = torch.randn(2, 64, 8, 8)
    assert paraphraser.encoder(maps).shape == (2, 32, 8, 8)
    assert paraphraser(maps).shape == maps.shape
    assert torch.equal(Paraphraser(64, 32, 0)(maps), paraphraser(maps))


def test_the_reconstruction_error_by_hand() -> None:
    """Of maps 1, 3 the halves 0.5, 1.5 are left: an error of 2 over 4."""
    maps = torch.tensor([[[[1.0, 3.0]]]])
    half = torch.nn.Conv2d(1, 1, 1, bias=False)
    half.weight.data.fill_(0.5)
    assert reconstruction_error(lambda inputs: (maps, inputs), half, [maps, maps]) == 0.5
    assert reconstruction_error(lambda inputs: (0 * maps, inputs), half, [maps]) == 0.0


def test_the_plain_student_is_that_of_distill(small: Data) -> None:
    """Same first weights, images and order: only what the teacher adds differs between the two."""
    teacher = zoo.load("lenet-5")
    student, report = apply(teacher, Step("factor_transfer", TINY), small)
    _, hinton = apply(teacher, Step("distill", {"epochs": 1, "subset": 500}), small)
    curves = [table.tables["curve"].set_index("run") for table in (report, hinton)]
    assert curves[0].loc["plain"].equals(curves[1].loc["plain"])
    assert not curves[0].loc["distilled"].equals(curves[1].loc["distilled"])
    assert student.arch == Arch("lenet-5-small")
    assert student.origin is teacher
    alone, brief = apply(teacher, Step("factor_transfer", {**TINY, "control": False}), small)
    assert alone.fingerprint == student.fingerprint
    assert set(brief.tables["curve"]["run"]) == {"distilled"}
    error = next(f for f in report.figures if f.name == "reconstruction error")
    assert error.value == pytest.approx(report.tables["paraphraser"]["reconstruction error"].iloc[-1])
    assert "from 25 factors of 50 channels at conv2" in error.how


def test_the_teacher_stays_as_it_is_with_its_batch_norm() -> None:
    whole = sets.load("cifar10")
    parts = (part.stratified(60) for part in (whole.train, whole.validation, whole.test))
    teacher = zoo.load("resnet-20")
    mean = teacher.params["bn1.running_mean"].decode().clone()
    _, report = apply(
        teacher,
        Step("factor_transfer", {**TINY, "control": False}),
        Data(whole.name, *parts, classes=whole.classes),
    )
    assert Bundle(teacher.arch, teacher.params).fingerprint == zoo.load("resnet-20").fingerprint
    assert torch.equal(teacher.params["bn1.running_mean"].decode(), mean)
    assert report.notes == ("ResNet-8 learned from 60 samples of cifar10, by its maps at layer3",)


def test_claim_the_paraphraser_learns_and_more_factors_keep_more(small: Data) -> None:
    read = stages.reader(zoo.build(zoo.load("lenet-5-small")), "conv2")
    batches, errors = [small.validation.inputs()], {}
    for factors in (1, 8):
        paraphraser = Paraphraser(8, factors, 0)
        before = reconstruction_error(read, paraphraser, batches)
        plan = Plan(20, RATE, optimizer="adam", weight_decay=0.0)
        fit(paraphraser, small.train, plan, loss=reconstruction_loss(read))
        errors[factors] = reconstruction_error(read, paraphraser, batches)
        assert errors[factors] < 0.9 * before
    assert errors[8] < 0.95 * errors[1]


@pytest.mark.parametrize("stop", [2, 4, 7])  # paraphraser, distilled, plain
def test_broken_off_and_resumed_it_is_the_unbroken_run(stop: int, small: Data, tmp_path: Path) -> None:
    assert_resumes_exactly(zoo.load("lenet-5"), Step("factor_transfer", TINY), small, stop, tmp_path)


@pytest.mark.parametrize(
    ("net", "why"),
    [
        ("lenet-300-100", "LeNet-300-100 has no feature maps"),
        ("lstm-mnist", "LSTM on rows has no feature maps"),
        ("vgg-small", "no student for vgg-small"),
    ],
)
def test_models_that_it_does_not_suit_are_refused_in_a_sentence(net: str, why: str, small: Data) -> None:
    with pytest.raises(SlimscopeError, match=why):
        apply(zoo.load(net), Step("factor_transfer", TINY), small)
