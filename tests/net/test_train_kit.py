"""Parts of a training, what is done after each step, ensembles of teachers, and one file for all parts."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from engine.data import sets
from engine.data.sets import Samples
from engine.net import zoo
from engine.net.train import (
    Loss,
    Part,
    Plan,
    distillation_loss,
    fit,
    learning_from,
    log_shares,
    stored,
    train_on,
    zero_masks,
)
from engine.tensor import grids
from engine.tensor.formats import Codebook, Dense
from engine.tensor.granularity import per_axis
from engine.types import Cancelled, Param, Progress, SlimscopeError


@pytest.fixture(scope="module")
def digits() -> Samples:
    return sets.load("mnist").train.stratified(300)


def translated(translator: nn.Module) -> Loss:
    """Cross-entropy of what a second module makes of the net's answers."""

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        logits = translator(net(inputs))
        return nn.functional.cross_entropy(logits, labels), logits

    return loss


def translator() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(10, 10), nn.BatchNorm1d(10))


def test_each_part_moves_at_its_own_rate_and_decay(digits: Samples) -> None:
    """The first Nesterov step is 1.9 x rate x (gradient + decay x value), for each group its own."""
    few = digits.take(slice(0, 10))
    net, twin = zoo.seeded("mlp-32", 0), zoo.seeded("mlp-32", 0)
    beside, other = (nn.Linear(10, 10) for _ in range(2))
    other.load_state_dict(beside.state_dict())
    parts = (Part("beside", beside, rate=0.5, weight_decay=0.0), Part("first", net.fc1, rate=3.0))
    plan_ = Plan(1, 0.1, schedule="constant", batch=10, weight_decay=0.01)
    fit(net, few, plan_, loss=translated(beside), parts=parts)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    translated(other)(twin, few.inputs(order), few.labels[order])[0].backward()
    expected = {name: (0.3 if name.startswith("fc1.") else 0.1) for name, _ in twin.named_parameters()}
    assert set(expected.values()) == {0.1, 0.3}
    for (name, p), q in zip(net.named_parameters(), twin.parameters(), strict=True):
        assert q.grad is not None
        assert torch.allclose(p, q - expected[name] * 1.9 * (q.grad + 0.01 * q), atol=1e-7), name
    for p, q in zip(beside.parameters(), other.parameters(), strict=True):
        assert q.grad is not None
        assert torch.allclose(p, q - 0.05 * 1.9 * q.grad, atol=1e-7)


def test_parts_that_share_a_name_or_a_parameter_are_refused(digits: Samples) -> None:
    net = zoo.seeded("mlp-32", 0)
    with pytest.raises(SlimscopeError, match="each needs a name of its own"):
        fit(net, digits, Plan(1, 0.1), parts=(Part("a", nn.Linear(1, 1)), Part("a", nn.Linear(1, 1))))
    with pytest.raises(SlimscopeError, match="a and b share a parameter"):
        fit(net, digits, Plan(1, 0.1), parts=(Part("a", net.fc1), Part("b", net.fc1)))


def test_a_projection_follows_each_step_and_zeros_stay(digits: Samples) -> None:
    net, calls = zoo.seeded("mlp-32", 0), []
    with torch.no_grad():
        net.fc1.weight[:, ::2] = 0.0
    masks = zero_masks(net)

    def project(trained: nn.Module) -> None:
        assert not torch.is_grad_enabled()
        calls.append(float(trained.get_parameter("fc1.weight").detach().abs().max()))
        trained.get_parameter("fc1.weight").fill_(0.01)

    fit(net, digits, Plan(2, 0.1, batch=64), masks=masks, project=project)
    assert len(calls) == 2 * math.ceil(len(digits) / 64)
    assert max(calls[1:]) != pytest.approx(0.01)  # each step moves the weights before they are projected
    assert torch.equal(net.fc1.weight.detach(), 0.01 * masks["fc1.weight"])


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_one_file_resumes_all_parts_bit_for_bit(optimizer: str, digits: Samples, tmp_path: Path) -> None:
    plan_ = Plan(2, 0.02, optimizer=optimizer, shift=1, batch=64)
    asked: list[int] = []

    def train(path: Path | None, progress: Progress | None = None) -> tuple[list[Tensor], object]:
        net, beside = zoo.seeded("mlp-32", 0), translator()
        parts = (Part("translator", beside, rate=2.0, weight_decay=0.0), Part("last", net.fc1, rate=0.3))
        rows = fit(
            net, digits, plan_, loss=translated(beside), parts=parts, progress=progress, checkpoint=path
        )
        assert not beside.training
        return [*net.state_dict().values(), *beside.state_dict().values()], rows

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 7  # within the second epoch

    path = tmp_path / "run.pt"
    with pytest.raises(Cancelled):
        train(path, Progress(cancelled=stop))
    resumed, rows = train(path)
    whole, expected = train(None)
    assert rows == expected
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    with pytest.raises(
        SlimscopeError, match=r"run.pt is of a run with other parts: last, translator; here none"
    ):
        fit(zoo.seeded("mlp-32", 0), digits, plan_, checkpoint=path)


def test_an_ensemble_answers_with_the_mean_of_its_shares_by_hand() -> None:
    """At T = 2, logits 2 ln 3 and 0 give 3/4 and 1/4; 0 and 0 give halves: their mean is 5/8 and 3/8."""
    teachers = torch.tensor([[[2 * math.log(3), 0.0]], [[0.0, 0.0]]])
    assert log_shares(teachers, 2.0).exp().flatten().tolist() == pytest.approx([5 / 8, 3 / 8])
    loss = distillation_loss(torch.zeros(1, 2), teachers, torch.tensor([0]), 2.0, 1.0)
    by_hand = 4 * (5 / 8 * math.log(5 / 4) + 3 / 8 * math.log(3 / 4))
    assert float(loss) == pytest.approx(by_hand, rel=1e-5)


def test_a_student_learns_from_two_teachers(digits: Samples) -> None:
    student, one, two = (zoo.seeded("mlp-32", seed).eval() for seed in range(3))
    inputs, labels = digits.inputs(slice(0, 5)), digits.labels[:5]
    value, _ = learning_from((one, two), 3.0, 1.0)(student, inputs, labels)
    shares = [torch.softmax(net(inputs) / 3.0, -1) for net in (student, one, two)]
    mean = (shares[1] + shares[2]) / 2
    expected = 9 * (mean * (mean / shares[0]).log()).sum() / 5
    assert value.item() == pytest.approx(expected.item(), rel=1e-4)
    alone, _ = learning_from(one, 3.0, 1.0)(student, inputs, labels)
    twice, _ = learning_from((one, one), 3.0, 1.0)(student, inputs, labels)
    assert alone.item() == pytest.approx(twice.item(), rel=1e-5)
    with pytest.raises(ValueError, match="at least one teacher"):
        learning_from((), 3.0, 1.0)


def test_a_processor_without_bfloat16_trains_in_32_bits(
    digits: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.net.processor.has_bfloat16", lambda: False)
    nets = [zoo.seeded("mlp-32", 0) for _ in range(2)]
    rows = [
        fit(net, digits, Plan(1, 0.05, precision=precision))
        for net, precision in zip(nets, ("bfloat16", "float32"), strict=True)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("kind", ["grid", "book"])
def test_a_training_on_a_format_moves_codes_and_scales_and_ends_in_the_format(
    kind: str, digits: Samples
) -> None:
    bundle = zoo.load("mlp-32")
    net = zoo.fork(bundle)
    with torch.no_grad():
        net.fc1.weight[:, ::3] = 0.0
    grid = grids.quantize(net.fc1.weight, 2, granularity=per_axis(0))
    params: dict[str, Param] = {"fc1.weight": grid}
    if kind == "book":
        book = Codebook(grid.codes + 1, torch.tensor([-0.05, 0.0, 0.05]))
        params = {"fc1.weight": book.straight_through().encode(net.fc1.weight)}  # type: ignore[operator]
    part = train_on(net, params, rate=0.1)
    assert torch.equal(net.fc1.weight, params["fc1.weight"].decode())
    masks = zero_masks(net)
    rows = fit(net, digits, Plan(4, 0.02, batch=50, weight_decay=0.01), masks=masks, parts=(part,))
    assert rows[-1]["loss"] < rows[0]["loss"]
    after = stored(net, part)["fc1.weight"]
    assert type(after) is type(params["fc1.weight"])
    assert torch.equal(after.decode(), net.fc1.weight)
    assert bool((after.decode()[:, ::3] == 0).all())
    for name in set(after.tensors()) - {"zero"}:
        assert not torch.equal(after.tensors()[name], params["fc1.weight"].tensors()[name]), name
    floats = {f"{n}": p.detach() for n, p in net.named_parameters() if "parametrizations" not in n}
    rebuilt = bundle.become({**{n: Dense(t) for n, t in floats.items()}, "fc1.weight": after})
    inputs = digits.inputs(torch.arange(20))
    torch.testing.assert_close(zoo.build(rebuilt)(inputs), net(inputs))
