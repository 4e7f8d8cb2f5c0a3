"""Slimming: the penalty by hand, the cut equals the masked net, the net chooses its widths."""

from typing import Any

import pytest
import torch
from torch import nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure
from engine.net import channels, zoo
from engine.papers import liu
from engine.recipe.run import apply
from engine.techniques.prune import slim as slimming
from engine.tensor.formats import Dense
from engine.types import Bundle, Cancelled, Progress, Report, SlimscopeError, Step, weight_layers

NET = "mlp-500-300"


def part_of(key: str, train: int) -> Data:
    whole = sets.load(key)
    parts = (part.stratified(train) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def digits() -> Data:
    return part_of("mnist", 300)


def slim(bundle: Bundle, images: Data, **settings: Any) -> tuple[Bundle, Report]:
    return apply(bundle, Step("slim", {"epochs": 1, "tuning": 0, **settings}), images)


def figures(report: Report) -> dict[str, float]:
    return {figure.name: float(figure.value) for figure in report.figures}


def dying(bundle: Bundle, scale: str, dead: list[int]) -> Bundle:
    """The net with some batch-norm scales (and shifts) of almost nothing."""
    params = dict(bundle.params)
    for name in (scale, scale.replace("weight", "bias")):
        values = params[name].decode().clone()
        values[dead] = 1e-6
        params[name] = Dense(values)
    return bundle.become(params)


# ---------------------------------------------------------------- the penalty


def test_the_penalty_by_hand() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.BatchNorm1d(2)).eval()
    with torch.no_grad():
        net[1].weight.copy_(torch.tensor([0.5, -2.0]))
    inputs, labels = torch.randn(4, 2), torch.tensor([0, 1, 0, 1])
    bare, _ = slimming.penalised([], 0.1)(net, inputs, labels)
    value, logits = slimming.penalised(["1.weight"], 0.1)(net, inputs, labels)
    assert float((value - bare).detach()) == pytest.approx(0.1 * 2.5, abs=1e-6)
    value.backward()
    pulled = net[1].weight.grad.clone()
    net.zero_grad()
    nn.functional.cross_entropy(net(inputs), labels).backward()
    assert torch.allclose(pulled - net[1].weight.grad, torch.tensor([0.1, -0.1]), atol=1e-6)
    assert logits.shape == (4, 2)


def test_a_strong_penalty_makes_the_scales_smaller_than_a_weak_one(digits: Data) -> None:
    sums = []
    for strength in (1e-6, 0.1):
        _, report = slim(zoo.load(NET), digits, strength=strength, epochs=4, learning_rate=0.1)
        sums.append(report.tables["scales"]["trained"].sum())
    assert sums[1] < 0.9 * sums[0]


# ---------------------------------------------------------------- the cut


@pytest.mark.parametrize("allocation", ["global", "layer"])
def test_dead_scales_go_first_and_the_rest_stays(digits: Data, allocation: str) -> None:
    dead = list(range(40, 140))
    before = dying(zoo.load(NET), "bn1.weight", dead)
    share = 100 / 800 if allocation == "global" else 0.2
    _, report = slim(before, digits, removed=round(share, 2), allocation=allocation, learning_rate=1e-4)
    scales = report.tables["scales"]
    gone = scales[~scales["kept"] & (scales["layer"] == "fc1")]["channel"].tolist()
    assert set(gone) >= set(dead) if allocation == "layer" else set(gone) <= set(range(500))
    assert len(set(dead) & set(gone)) >= 95


@pytest.mark.parametrize(("name", "key"), [(NET, "mnist"), ("vgg-small", "cifar10"), ("resnet-8", "cifar10")])
def test_the_narrow_net_answers_as_the_masked_one(name: str, key: str) -> None:
    images = part_of(key, 40)
    bundle = zoo.load(name)
    after, report = slim(bundle, images, removed=0.4, learning_rate=1e-4)
    gone = report.tables["scales"].query("~kept").groupby("layer")["channel"].agg(set).to_dict()
    known = channels.groups(bundle)
    # the same training again, without a cut: what is masked there
    whole, _ = slim(bundle, images, removed=0.0, learning_rate=1e-4)
    masked = channels.masked(whole, channels.kept_of(known, gone))
    inputs = images.test.inputs(slice(0, 20))
    assert torch.allclose(zoo.build(after)(inputs), zoo.build(masked)(inputs), atol=1e-5)
    assert count.macs(after).value < count.macs(bundle).value


def test_no_layer_is_ever_emptied(digits: Data) -> None:
    bundle = dying(zoo.load(NET), "bn2.weight", list(range(300)))
    after, report = slim(bundle, digits, removed=0.9, learning_rate=1e-4)
    widths = {label: after.params[name].shape[0] for label, name in weight_layers(after).items()}
    assert widths["fc2"] == 1
    assert widths["fc3"] == 10
    assert any("Only one channel is left in fc2" in note for note in report.notes)


# ---------------------------------------------------------------- what it says


def test_the_report_says_what_happened(digits: Data) -> None:
    bundle = zoo.load(NET)
    after, report = slim(bundle, digits, removed=0.5, epochs=2, tuning=1)
    told = figures(report)
    curve = report.tables["curve"]
    assert curve["epoch"].tolist() == [1, 2, 3]
    assert curve["run"].tolist() == [slimming.PENALTY] * 2 + [slimming.NARROW]
    assert told["channels removed"] == 400 == int((~report.tables["scales"]["kept"]).sum())
    assert told["parameters"] == count.parameters(after).value < told["parameters before"]
    assert told["validation accuracy after"] == measure.accuracy(after, digits.validation).value
    assert told["validation accuracy right after the cut"] <= 1.0
    assert curve["validation accuracy"].iloc[-1] == pytest.approx(told["validation accuracy after"])


def test_the_same_seed_gives_the_same_net(digits: Data) -> None:
    one, two = (slim(zoo.load(NET), digits, tuning=1, seed=3)[0] for _ in range(2))
    assert one.fingerprint == two.fingerprint


def test_layers_that_are_left_out_keep_all(digits: Data) -> None:
    after, report = slim(zoo.load(NET), digits, removed=0.5, leave_out=["fc1"])
    assert after.params["fc1.weight"].shape == (500, 784)
    assert after.params["fc2.weight"].shape == (150, 500)
    assert set(report.tables["scales"]["layer"]) == {"fc2"}


def test_a_net_without_batch_norm_is_refused_with_those_that_have_it(digits: Data) -> None:
    with pytest.raises(SlimscopeError, match=r"lenet-300-100 has no batch-norm .* vgg-small, mlp-500-300"):
        slim(zoo.initial("lenet-300-100"), digits)


def test_it_can_be_cancelled(digits: Data) -> None:
    def stop(share: float, row: object) -> None:
        raise Cancelled("now")

    with pytest.raises(Cancelled):
        apply(zoo.load(NET), Step("slim", {"epochs": 1}), digits, Progress(stop))


# ---------------------------------------------------------------- the paper


@pytest.mark.parametrize(
    ("share", "change", "after", "verdict"),
    [
        (84.4, 0.06, 1.49, "reproduced"),
        (84.4, 0.11, 1.2, "not reached"),
        (83.9, 0.0, 1.2, "not reached"),
        (84.4, 0.0, 1.2, "beaten"),
    ],
)
def test_the_verdict(share: float, change: float, after: float, verdict: str) -> None:
    ours = {liu.SHARE: [share], liu.CHANGE: [change], liu.AFTER: [after], liu.BEFORE: [after - change]}
    assert liu.judge(ours) == verdict


def test_the_declared_net_shrinks_by_the_published_share() -> None:
    """784 x 100 + 100 x 60 + 60 x 10 + 10 and two numbers a unit, over the same with 500 and 300."""
    whole, small = (784 * a + a * b + 10 * b + 10 + 2 * (a + b) for a, b in ((500, 300), (100, 60)))
    assert count.parameters(zoo.load(NET)).value == whole
    assert 100 * (1 - small / whole) == pytest.approx(liu.PUBLISHED[liu.SHARE], abs=0.05)
    assert liu.SLIM["removed"] == 0.8
