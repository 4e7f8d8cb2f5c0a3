"""Lottery tickets: masks by hand, rewinding to the exact first weights, controls, resumption."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from conftest import assert_resumes_exactly
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import training
from engine.net import beginnings, zoo
from engine.recipe.run import apply
from engine.techniques.prune import lottery_ticket as lottery
from engine.tensor import tickets
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Report, SlimscopeError, Step, weight_layers

NAMES = ["fc1.weight", "fc2.weight"]


def part_of(whole: Data, train: int, validation: int) -> Data:
    parts = (whole.train.stratified(train), whole.validation.stratified(validation))
    return Data(whole.name, *parts, whole.test.stratified(validation), whole.classes)


@pytest.fixture(scope="module")
def small() -> Data:
    return part_of(sets.load("mnist"), 300, 200)


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return zoo.bundle_of("mlp-32", dict(zoo.seeded("mlp-32", 3).state_dict()))


def play(bundle: Bundle, given_data: Data, **settings: Any) -> tuple[Bundle, Report]:
    return apply(bundle, Step("lottery_ticket", {"rounds": 2, "epochs": 1, **settings}), given_data)


# ---------------------------------------------------------------- masks


def test_a_round_of_pruning_by_hand() -> None:
    weights = {
        "hidden": torch.tensor([[5.0, -0.1, 0.2, 0.0], [0.3, -4.0, 3.0, 0.4]]),
        "out": torch.tensor([[1.0, -2.0], [3.0, 0.5]]),
    }
    mask = {"hidden": torch.ones(2, 4, dtype=torch.bool), "out": torch.ones(2, 2, dtype=torch.bool)}
    mask["hidden"][1, 1] = False  # removed before: its trained value does not matter
    # hidden: 7 left, 40 % of them are 2.8, so 3 go (0.0, -0.1, 0.2); out: 20 % of 4 is 0.8, so 1 goes
    left = tickets.pruned(weights, mask, 0.4, "out")
    assert left["hidden"].tolist() == [[True, False, False, False], [True, False, True, True]]
    assert left["out"].tolist() == [[True, True], [True, False]]


def test_seven_rounds_leave_frankles_density() -> None:
    net = zoo.seeded("lenet-300-100", 0)
    weights = {name: p.detach() for name, p in net.named_parameters() if p.dim() == 2}
    mask = {name: torch.ones_like(w, dtype=torch.bool) for name, w in weights.items()}
    for _ in range(7):
        mask = tickets.pruned(weights, mask, 0.2, "fc3.weight")
    kept = sum(int(m.sum()) for m in mask.values())
    expected = (265_200 * 0.8**7 + 1000 * 0.9**7) / 266_200
    assert kept / 266_200 == pytest.approx(expected, abs=7 / 266_200)
    assert round(kept / 266_200, 4) == 0.2107


@given(st.integers(0, 50), st.integers(0, 2**31))
def test_a_random_mask_has_as_many_weights(kept: int, seed: int) -> None:
    mask = {"fc": torch.arange(50).view(5, 10) < kept}
    other = tickets.shuffled(mask, seed)
    assert int(other["fc"].sum()) == kept
    assert other["fc"].shape == (5, 10)
    assert torch.equal(other["fc"], tickets.shuffled(mask, seed)["fc"])


def test_the_early_stop_is_the_first_least_loss() -> None:
    losses = [0.5, 0.2, 0.3, 0.2]
    rows = [{"iteration": 100 * (i + 1), "validation loss": loss} for i, loss in enumerate(losses)]
    assert lottery.early_stop(rows)["iteration"] == 200


# ---------------------------------------------------------------- first weights


def test_glorot_weights_have_their_deviation_and_biases_are_zero() -> None:
    net = zoo.bundle_of("lenet-5", dict(zoo.seeded("lenet-5", 0).state_dict()))
    drawn = beginnings.glorot(net, 7)
    assert float(drawn["fc1.weight"].std()) == pytest.approx(math.sqrt(2 / (800 + 500)), rel=0.01)
    assert float(drawn["conv2.weight"].std()) == pytest.approx(math.sqrt(2 / (25 * (20 + 50))), rel=0.02)
    assert not drawn["fc1.bias"].any()
    assert torch.equal(drawn["fc2.weight"], beginnings.glorot(net, 7)["fc2.weight"])
    assert not torch.equal(drawn["fc2.weight"], beginnings.glorot(net, 8)["fc2.weight"])


def test_new_first_values_of_normalisation_are_neutral() -> None:
    state = dict(zoo.seeded("resnet-8", 0).state_dict())
    drawn = beginnings.glorot(zoo.bundle_of("resnet-8", {n: t + 3.0 for n, t in state.items()}), 0)
    for name, value in {"weight": 1.0, "bias": 0.0, "running_mean": 0.0, "running_var": 1.0}.items():
        assert (drawn[f"bn1.{name}"] == value).all()


# ---------------------------------------------------------------- the runs


class FakeFit:
    """Stands in for training: notes what comes in, and adds a ramp to every kept weight."""

    def __init__(self) -> None:
        self.came: list[dict[str, Tensor]] = []

    def __call__(self, net: nn.Module, *_: Any, masks: Any = None, watch: Any = None, **__: Any) -> Any:
        self.came.append({name: p.detach().clone() for name, p in net.named_parameters()})
        with torch.no_grad():
            for name, p in net.named_parameters():
                ramp = torch.linspace(-1, 1, p.numel()).view(p.shape)
                p.add_(ramp * masks[name] if masks and name in masks else ramp)
        return [{"epoch": 1.0, **(watch(net) if watch else {})}]


def test_tickets_go_back_to_their_first_weights_and_the_controls_do_not(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, small: Data
) -> None:
    fake = FakeFit()
    monkeypatch.setattr(training, "fit", fake)
    play(bundle, small, random_mask=True)
    whole, *rest = fake.came
    first = zoo.initial("mlp-32").state()
    assert all(torch.equal(whole[name], first[name]) for name in first)
    for ticket, other, random in (rest[:3], rest[3:]):
        for name in NAMES:
            mask = ticket[name] != 0
            assert 0.5 < mask.float().mean() < 0.95
            assert torch.equal(ticket[name], first[name] * mask)
            assert torch.equal(other[name] != 0, mask)  # the same mask on other weights
            assert not (other[name][mask] == first[name][mask]).any()
            there = random[name] != 0
            assert int(there.sum()) == int(mask.sum())  # another mask on the first weights
            assert not torch.equal(there, mask)
            assert torch.equal(random[name], first[name] * there)


def test_a_round_removes_the_smallest_trained_weights(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, small: Data
) -> None:
    fake = FakeFit()
    monkeypatch.setattr(training, "fit", fake)
    play(bundle, small, rounds=1, re_init=False)
    first = zoo.initial("mlp-32").state()["fc1.weight"]
    trained = first + torch.linspace(-1, 1, first.numel()).view(first.shape)
    cut = trained.abs().flatten().sort().values[round(0.2 * first.numel()) - 1]
    assert torch.equal(fake.came[1]["fc1.weight"] != 0, trained.abs() > cut)


def test_rewinding_goes_back_to_the_weights_after_some_epochs(
    monkeypatch: pytest.MonkeyPatch, bundle: Bundle, small: Data
) -> None:
    fake = FakeFit()
    monkeypatch.setattr(training, "fit", fake)
    play(bundle, small, rounds=1, rewind=2, re_init=False)
    warming, whole, ticket = fake.came
    ramp = torch.linspace(-1, 1, warming["fc1.weight"].numel()).view(32, 784)
    assert torch.equal(whole["fc1.weight"], warming["fc1.weight"] + ramp)
    assert torch.equal(ticket["fc1.weight"], whole["fc1.weight"] * (ticket["fc1.weight"] != 0))


def test_zeros_of_the_net_are_never_revived(bundle: Bundle, small: Data) -> None:
    state = bundle.state()
    holes = torch.rand(32, 784, generator=torch.Generator().manual_seed(0)) < 0.5
    pruned = bundle.become(
        {**bundle.params, "fc1.weight": Dense(state["fc1.weight"].masked_fill(holes, 0.0))}
    )
    after, report = play(pruned, small, rounds=1)
    assert not after.params["fc1.weight"].decode()[holes].any()
    left = int((~holes).sum())
    row = report.tables["layers"].iloc[0]
    assert row["kept"] == left - round(0.2 * left) == int(after.params["fc1.weight"].decode().count_nonzero())


# ---------------------------------------------------------------- what is reported


def test_the_tables_have_every_run_and_the_result_is_the_last_ticket_at_its_early_stop(
    bundle: Bundle, small: Data
) -> None:
    given_data = part_of(sets.load("mnist"), 900, 200)
    after, report = play(bundle, given_data, epochs=15, random_mask=True, start="seed", learning_rate=0.01)
    tickets, curve = report.tables["tickets"], report.tables["curve"]
    kinds = ["ticket"] + 2 * ["ticket", "re-init", "random mask"]
    assert list(tickets["run"]) == kinds
    assert list(tickets["round"]) == [0, 1, 1, 1, 2, 2, 2]
    last = tickets[(tickets["round"] == 2) & (tickets["run"] == "ticket")].iloc[0]
    of_last = curve[curve["run"] == f"ticket, {last['density']:.1%}"]
    assert list(of_last["iteration"]) == [100, 200, 225]  # 15 images to a batch of 60, every 100 and the end
    best = of_last.loc[of_last["validation loss"].idxmin()]
    assert last["early stop"] == best["iteration"]
    net = zoo.build(after)
    right = (net(given_data.validation.inputs()).argmax(1) == given_data.validation.labels).float().mean()
    assert float(right) == pytest.approx(last["validation accuracy"])
    right = (net(given_data.test.inputs()).argmax(1) == given_data.test.labels).float().mean()
    assert float(right) == pytest.approx(last["test accuracy"])
    assert last["accuracy at the end"] == pytest.approx(of_last["validation accuracy"].iloc[-1])
    kept = sum(int(after.params[name].decode().count_nonzero()) for name in weight_layers(after).values())
    assert last["density"] == kept / 25_408
    figures = {figure.name: figure.value for figure in report.figures}
    assert figures["density"] == last["density"]
    assert figures["early stop of the ticket"] == last["early stop"]
    assert {"early stop of the re-init", "validation accuracy of the random mask"} <= set(figures)


def test_same_seed_same_bytes_and_another_seed_other_weights(bundle: Bundle, small: Data) -> None:
    one, report = play(bundle, small, start="seed", seed=1)
    two, again = play(bundle, small, start="seed", seed=1)
    other, _ = play(bundle, small, start="seed", seed=2)
    assert one.fingerprint == two.fingerprint != other.fingerprint
    pd.testing.assert_frame_equal(report.tables["tickets"], again.tables["tickets"])


@pytest.mark.parametrize("stop", [1, 7, 12, 40])
def test_broken_off_and_resumed_it_is_bit_for_bit_the_unbroken_run(
    stop: int, bundle: Bundle, small: Data, tmp_path: Path
) -> None:
    settings = {"rounds": 2, "epochs": 3, "rewind": 1, "random_mask": True}
    assert_resumes_exactly(bundle, Step("lottery_ticket", settings), small, stop, tmp_path)


def test_a_sparse_ticket_learns_better_than_its_mask_on_other_weights() -> None:
    given_data = part_of(sets.load("mnist"), 4000, 1000)
    shape = zoo.load("lenet-300-100")
    settings = {"rounds": 2, "rate": 0.75, "epochs": 3, "random_mask": True, "start": "seed"}
    _, report = apply(shape, Step("lottery_ticket", settings), given_data)
    last = report.tables["tickets"].query("round == 2").set_index("run")["validation loss"]
    assert last["ticket"] < 0.85 * last["re-init"]
    assert last["ticket"] < 0.85 * last["random mask"]


def test_a_net_with_other_layers_needs_weights_drawn_by_the_seed(bundle: Bundle, small: Data) -> None:
    arch = Arch("mlp-32").edit("quantize_input", layer="fc2", bits=8, symmetric=False, dynamic=True)
    edited = bundle.become(bundle.params, arch)
    with pytest.raises(SlimscopeError, match=r"start is 'zoo'.*allowed is 'seed'"):
        play(edited, small)
    after, _ = play(edited, small, rounds=1, re_init=False, start="seed")
    assert after.arch == arch
