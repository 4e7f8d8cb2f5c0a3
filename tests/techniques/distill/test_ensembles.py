"""Several teachers: who they are, what they answer together, and a student that learns from all of them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import ensembles, zoo
from engine.net.train import hard_labels, learning_from, together
from engine.recipe import technique
from engine.recipe.run import apply
from engine.types import Bundle, Report, SlimscopeError

TINY = {"epochs": 1, "subset": 500, "control": False}
OTHERS = ["lenet-300-100", "lstm-mnist", "mlp-500-300"]  # of lenet-5, by the order of the zoo


@pytest.fixture(scope="module")
def small() -> Data:
    whole = sets.load("mnist")
    return Data(
        "mnist", whole.train.stratified(600), whole.validation.stratified(300), whole.test, whole.classes
    )


@pytest.fixture(scope="module")
def both(small: Data) -> dict[str, tuple[Bundle, Report]]:
    steps = {which: technique.step("distill", **TINY, teachers=which) for which in ("one", "zoo")}
    return {which: apply(zoo.load("lenet-5"), own, small) for which, own in steps.items()}


def test_by_hand_two_teachers_answer_with_the_mean_of_their_shares() -> None:
    """At T = 2 logits of 2 log 3 and 0 are shares of 3/4 and 1/4; another teacher has halves: 5/8 and 3/8."""
    scores = torch.tensor([[[2 * 1.0986123, 0.0]], [[0.0, 0.0]]])
    shares = F.softmax(together(scores, 2.0) / 2.0, 1)
    assert shares.flatten().tolist() == pytest.approx([5 / 8, 3 / 8])
    assert together(scores[0], 2.0) is not None
    assert torch.equal(together(scores[0], 2.0), scores[0])


def test_teachers_are_the_others_of_the_task_without_students(small: Data) -> None:
    assert ensembles.others(zoo.load("lenet-5")) == OTHERS
    assert ensembles.others(zoo.load("resnet-20")) == ["vgg-small"]
    bundle = zoo.load("lenet-5")
    assert ensembles.teachers(bundle, small, "one") == [bundle]
    assert [each.arch.name for each in ensembles.teachers(bundle, small, "zoo")] == ["lenet-5", *OTHERS]
    moved = small.standardised((0.5,), (0.5,))
    with pytest.raises(SlimscopeError, match="standardised by other numbers"):
        ensembles.teachers(zoo.load("lenet-5"), moved, "zoo")


def test_a_training_learns_from_the_labels_the_original_or_the_zoo(small: Data) -> None:
    """The teacher is the model before all steps, whatever it has become."""
    first = zoo.load("lenet-300-100")
    pruned, _ = apply(first, technique.step("prune_weights", sparsity=0.98), small)
    net, images, labels = zoo.build(pruned), small.train.inputs(torch.arange(20)), small.train.labels[:20]
    assert ensembles.lesson(pruned, small, "none", 4.0, 0.7) is hard_labels
    for which, names in {"original": [], "zoo": ["lenet-5", "lstm-mnist", "mlp-500-300"]}.items():
        theirs = [zoo.build(each) for each in (first, *map(zoo.load, names))]
        wanted, _ = learning_from(theirs, 4.0, 0.7)(net, images, labels)
        found, _ = ensembles.lesson(pruned, small, which, 4.0, 0.7)(net, images, labels)
        assert torch.equal(found, wanted)


def test_the_figure_is_the_accuracy_of_the_mean_shares(
    both: dict[str, tuple[Bundle, Report]], small: Data
) -> None:
    figures = {figure.name: figure.value for figure in both["zoo"][1].figures}

    def shares(name: str) -> Tensor:
        return F.softmax(measure.logits(zoo.build(zoo.load(name)), small.validation).double(), 1)

    mean = torch.stack([shares(name) for name in ("lenet-5", *OTHERS)]).mean(0)
    right = float((mean.argmax(1) == small.validation.labels).double().mean())
    assert figures["validation accuracy of all 4 teachers together"] == pytest.approx(right)
    one = {figure.name for figure in both["one"][1].figures}
    assert {*figures} - one == {"validation accuracy of all 4 teachers together"}


def test_the_student_learns_from_all_of_them(both: dict[str, tuple[Bundle, Report]]) -> None:
    assert both["zoo"][0].fingerprint != both["one"][0].fingerprint
    assert both["zoo"][0].arch == both["one"][0].arch
    said = "beside the model itself these were teachers: LeNet-300-100, LSTM on rows, MLP-500-300"
    assert said in both["zoo"][1].notes


def test_one_teacher_is_the_default_and_other_losses_know_no_more(
    both: dict[str, tuple[Bundle, Report]], small: Data
) -> None:
    assert technique.step("distill").settings["teachers"] == "one"
    assert technique.get("distill").knobs["teachers"].added, "what was kept without it still counts"
    settings = {**TINY, "loss": "logits"}
    plain, several = (
        apply(zoo.load("lenet-5"), technique.step("distill", **settings, teachers=which), small)[0]
        for which in ("one", "zoo")
    )
    assert plain.fingerprint == several.fingerprint
