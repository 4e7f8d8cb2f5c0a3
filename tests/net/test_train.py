"""The training loop: resumed runs, masks, schedules and samples are exact."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from engine.data import sets
from engine.data.sets import Samples
from engine.figures import measure
from engine.net import incremental, zoo
from engine.net.processor import has_bfloat16
from engine.net.train import Plan, augment, fit, suited, zero_masks
from engine.types import Cancelled, Progress, SlimscopeError


@pytest.fixture(scope="module")
def digits() -> Samples:
    return sets.load("mnist").train.stratified(300)


@pytest.fixture(scope="module")
def photos() -> Samples:
    return sets.load("cifar10").train.stratified(64)


def assert_same_weights(one: nn.Module, two: nn.Module) -> None:
    for (name, a), (other, b) in zip(one.state_dict().items(), two.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(a, b), name


# ---------------------------------------------------------------- schedules


def test_rates_by_hand() -> None:
    cosine = Plan(1, 0.2, schedule="cosine")
    assert [cosine.rate(x) for x in (0, 0.5, 1)] == pytest.approx([0.2, 0.1, 0.0])
    assert cosine.rate(1 / 3) == pytest.approx(0.15)
    assert Plan(1, 0.2, schedule="constant").rate(0.7) == 0.2
    cycle = Plan(1, 1.0)
    assert [cycle.rate(x) for x in (0, 0.125, 0.25, 0.625, 1)] == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])
    with pytest.raises(ValueError, match="schedule 'saw' is not one of"):
        Plan(1, 0.1, schedule="saw").rate(0.5)


@given(st.floats(0, 1), st.sampled_from(["one-cycle", "cosine", "constant"]))
def test_rates_stay_between_zero_and_the_peak(done: float, schedule: str) -> None:
    rate = Plan(1, 0.1, schedule=schedule).rate(done)
    assert 0 <= rate <= 0.1
    assert math.isfinite(rate)


def test_one_step_of_plain_gradient_descent_by_hand(digits: Samples) -> None:
    """Nesterov's first step is (1 + 0.9) x rate x gradient; the decay adds to the gradient."""
    few = digits.take(slice(0, 10))
    net, twin = zoo.seeded("mlp-32", 0), zoo.seeded("mlp-32", 0)
    fit(net, few, Plan(1, 0.1, schedule="constant", batch=10, weight_decay=0.01))
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    nn.functional.cross_entropy(twin(few.inputs(order)), few.labels[order]).backward()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert q.grad is not None
        expected = q - 0.1 * 1.9 * (q.grad + 0.01 * q)
        assert torch.allclose(p, expected, atol=1e-7)


# ---------------------------------------------------------------- repeating and resuming


@pytest.mark.parametrize("name", ["mlp-32", "lstm-32"])
def test_equal_seeds_give_equal_bits(name: str, digits: Samples) -> None:
    nets = [zoo.seeded(name, 0) for _ in range(3)]
    plan = Plan(2, 0.05, clip_norm=1.0)
    rows = [fit(net, digits, replace(plan, seed=seed)) for net, seed in zip(nets, (1, 1, 2), strict=True)]
    assert_same_weights(nets[0], nets[1])
    assert rows[0] == rows[1] != rows[2]


def stop_after(epochs: int) -> Progress:
    done: list[float] = []

    def report(fraction: float, row: object) -> None:
        if isinstance(row, dict) and "train accuracy" in row:
            done.append(fraction)

    return Progress(report, lambda: len(done) >= epochs)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_is_bit_for_bit_the_uninterrupted_one(
    optimizer: str, digits: Samples, tmp_path: Path
) -> None:
    plan = Plan(3, 0.02, optimizer=optimizer, shift=2, flip=True, batch=64)
    whole, stopped, resumed = (zoo.seeded("mlp-32", 0) for _ in range(3))
    rows = fit(whole, digits, plan)
    path = tmp_path / "run.pt"
    with pytest.raises(Cancelled):
        fit(stopped, digits, plan, progress=stop_after(1), checkpoint=path)
    assert fit(resumed, digits, plan, checkpoint=path) == rows
    assert_same_weights(whole, resumed)


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no bfloat16")
@pytest.mark.parametrize("name", ["lenet-5-small", "lstm-32"])
def test_sixteen_bits_multiply_and_thirty_two_keep(name: str, digits: Samples, tmp_path: Path) -> None:
    plan = Plan(2, 0.05, precision="bfloat16")
    net, again, exact, cut = (zoo.seeded(name, 0) for _ in range(4))
    rows = fit(net, digits, plan)
    fit(again, digits, plan)
    assert_same_weights(net, again)
    assert {tensor.dtype for tensor in net.state_dict().values()} == {torch.float32}
    wide = fit(exact, digits, replace(plan, precision="float32"))
    assert (rows[-1]["loss"] != wide[-1]["loss"]) == has_bfloat16()
    assert rows[-1]["loss"] == pytest.approx(wide[-1]["loss"], rel=0.02)
    path = tmp_path / "run.pt"
    with pytest.raises(Cancelled):
        fit(cut, digits, plan, progress=stop_after(1), checkpoint=path)
    fit(cut, digits, plan, checkpoint=path)
    assert_same_weights(net, cut)


def test_batch_norm_resumes_too(photos: Samples, tmp_path: Path) -> None:
    plan = Plan(2, 0.05, batch=32, channels_last=True, shift=4, flip=True)
    whole, stopped, resumed = (zoo.seeded("resnet-8", 0) for _ in range(3))
    fit(whole, photos, plan)
    path = tmp_path / "run.pt"
    with pytest.raises(Cancelled):
        fit(stopped, photos, plan, progress=stop_after(1), checkpoint=path)
    fit(resumed, photos, plan, checkpoint=path)
    assert_same_weights(whole, resumed)
    assert not whole.training


def test_the_loop_leaves_torchs_own_generator_alone(digits: Samples) -> None:
    torch.manual_seed(11)
    before = torch.get_rng_state()
    fit(zoo.seeded("mlp-32", 5), digits, Plan(1, 0.05, shift=1, flip=True))
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["mlp-32", "lstm-32"])
def test_masks_survive_momentum_and_weight_decay(name: str, optimizer: str, digits: Samples) -> None:
    net = zoo.seeded(name, 0)
    # Momentum from a run in which all weights moved must not exist: the mask starts with the run.
    with torch.no_grad():
        for p in net.parameters():
            if p.dim() >= 2:
                p[p.abs() < p.abs().median()] = 0.0
    masks = zero_masks(net)
    assert len(masks) == sum(p.dim() >= 2 for p in net.parameters())
    fit(net, digits, Plan(3, 0.1, optimizer=optimizer, weight_decay=0.1, clip_norm=1.0), masks=masks)
    for name_, p in net.named_parameters():
        if name_ in masks:
            assert (p[masks[name_] == 0] == 0).all()
            assert (p[masks[name_] == 1] != 0).any()


def test_a_matrix_without_zeros_has_no_mask() -> None:
    net = zoo.seeded("mlp-32", 0)
    assert zero_masks(net) == {}
    with torch.no_grad():
        net.fc1.weight[3, 4] = 0.0
        net.fc1.bias[0] = 0.0
    masks = zero_masks(net)
    assert list(masks) == ["fc1.weight"]
    assert masks["fc1.weight"].sum() == 32 * 784 - 1
    assert masks["fc1.weight"][3, 4] == 0


# ---------------------------------------------------------------- rows, progress, samples


def test_rows_say_what_happened(digits: Samples) -> None:
    seen: list[tuple[float, dict[str, float]]] = []
    net = zoo.seeded("mlp-32", 0)
    rows = fit(
        net,
        digits,
        Plan(2, 0.05, batch=64),
        watch=lambda n: {"right": measure.share_right(n, digits)},
        progress=Progress(lambda fraction, row: seen.append((fraction, dict(row or {})))),
    )
    assert [row["epoch"] for row in rows] == [1.0, 2.0]
    assert set(rows[0]) == {"epoch", "loss", "train accuracy", "right"}
    assert rows[-1]["right"] == measure.share_right(net, digits)
    fractions = [fraction for fraction, _ in seen]
    assert fractions == sorted(fractions)
    assert 0 < fractions[0] == 0.1  # one of five batches of one of two epochs
    assert fractions[-1] == 1
    assert [row["epoch"] for _, row in seen] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1.2, 1.4, 1.6, 1.8, 2])


def test_augmented_images_are_shifted_copies(photos: Samples) -> None:
    inputs = photos.inputs()
    moved = augment(inputs, Plan(1, 0.1, shift=2), torch.Generator().manual_seed(3))
    padded = nn.functional.pad(inputs, (2, 2, 2, 2))
    for image, whole in zip(moved[:10], padded[:10], strict=True):
        windows = [whole[:, t : t + 32, x : x + 32] for t in range(5) for x in range(5)]
        assert sum(torch.equal(image, window) for window in windows) >= 1
    flipped = augment(inputs, Plan(1, 0.1, flip=True), torch.Generator().manual_seed(3))
    same = (flipped == inputs).flatten(1).all(1)
    mirrored = (flipped == inputs.flip(3)).flatten(1).all(1)
    assert (same | mirrored).all()
    assert 10 < int(mirrored.sum()) < 54
    assert augment(inputs, Plan(1, 0.1), torch.Generator()) is inputs


def test_plans_suit_nets_and_images(digits: Samples, photos: Samples) -> None:
    plan = Plan(1, 0.1)
    assert suited(plan, zoo.seeded("mlp-32", 0), digits) == replace(plan, shift=1)
    assert suited(plan, zoo.seeded("lstm-32", 0), digits, digits=0) == replace(plan, clip_norm=1.0)
    colour = suited(plan, zoo.seeded("resnet-8", 0), photos)
    assert (colour.shift, colour.flip, colour.channels_last, colour.clip_norm) == (4, True, True, None)


def test_weights_that_are_not_finite_end_a_training_with_a_sentence(digits: Samples, tmp_path: Path) -> None:
    net, asked, checkpoint = zoo.fork(zoo.initial("mlp-32")), [], tmp_path / "run.pt"

    def watch(net: nn.Module) -> dict[str, float]:
        asked.append(1)
        return {}

    plan = Plan(3, 1e30, schedule="constant", weight_decay=0.0)
    with pytest.raises(SlimscopeError, match=r"not finite numbers: lower the learning rate \(1e\+30\)"):
        fit(net, digits, plan, watch=watch, checkpoint=checkpoint)
    assert asked == []  # nothing is measured of such a net, and nothing is kept
    assert not checkpoint.exists()


def test_outputs_that_are_no_numbers_name_the_learning_rate_too(digits: Samples) -> None:
    net = zoo.fork(zoo.initial("mlp-32"))

    def watch(net: nn.Module) -> dict[str, float]:
        incremental.checked(torch.full((2, 10), torch.nan))
        return {}

    with pytest.raises(SlimscopeError, match=r"not numbers for 2 of 2 samples.*learning rate \(0\.05\)"):
        fit(net, digits, Plan(1, 0.05), watch=watch)
