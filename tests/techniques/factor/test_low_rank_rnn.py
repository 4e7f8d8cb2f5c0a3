"""Low rank of an LSTM: the net with a projection, what later steps make of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure, theory
from engine.file import packfile
from engine.net import projecting, sources, surgery, zoo
from engine.recipe.run import apply
from engine.recipe.technique import get, step
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError

HIDDEN = 12


@pytest.fixture(scope="module")
def digits() -> Data:
    whole = sets.load("mnist")
    parts = (
        part.stratified(n) for part, n in ((whole.train, 2000), (whole.validation, 1000), (whole.test, 200))
    )
    return Data(whole.name, *parts, classes=whole.classes)


def product(before: Bundle, after: Bundle, label: str, names: dict[str, str]) -> Bundle:
    """The net before with Z P in the place of each matrix: name -> the projection that it goes with."""
    params = dict(before.params)
    for name, p in names.items():
        params[name] = Dense(after.params[name].decode() @ after.params[f"{label}.{p}"].decode())
    return Bundle(before.arch, params)


@pytest.mark.parametrize("cut_from", ["recurrent", "both"])
def test_the_net_answers_as_the_one_with_the_products_of_its_factors(cut_from: str, digits: Data) -> None:
    before = zoo.load("lstm-mnist")
    after, report = apply(before, step("low_rank_rnn", by="rank", rank=20, cut_from=cut_from), None)
    names = {
        "lstm.weight_hh_l0": "weight_hr_l0",
        "lstm.weight_ih_l1": "weight_hr_l0",
        "lstm.weight_hh_l1": "weight_hr_l1",
        "fc.weight": "weight_hr_l1",
    }
    images = digits.test.inputs()
    with torch.no_grad():
        one = zoo.build(after)(images)
        other = zoo.build(product(before, after, "lstm", names))(images)
    assert torch.allclose(one, other, atol=1e-4)
    assert [*after.params] == [*zoo.skeleton(after.arch).state_dict()]
    assert [*after.params][4] == "lstm.weight_hr_l0"
    table = report.tables["layers"].set_index("layer")
    w = before.params["fc.weight"].decode()
    z, p = after.params["fc.weight"].decode(), after.params["lstm.weight_hr_l1"].decode()
    assert table.loc["fc", "error"] == pytest.approx(float((z @ p - w).norm() / w.norm()), abs=1e-5)


def test_weights_and_multiply_adds_are_those_of_the_shapes() -> None:
    """lstm-32 at rank 5: P 5 x 32, Z_h 128 x 5, the head 10 x 5; all but the head in each of 28 steps."""
    before = zoo.load("lstm-32")
    after, report = apply(before, step("low_rank_rnn", by="rank", rank=5), None)
    assert count.parameters(after).value == 3584 + 160 + 640 + 50 + 2 * 128 + 10
    assert count.macs(after).value == 28 * (3584 + 160 + 640) + 50
    table = report.tables["layers"].set_index("layer")
    assert table["weights_after"].to_dict() == {"lstm.weight_ih_l0": 3584, "lstm.weight_hh_l0": 800, "fc": 50}
    assert table["weights_before"].sum() == sum(w.numel() for _, w in count.weights(before))
    figures = {figure.name: figure.value for figure in report.figures}
    assert figures["weights"] == sum(w.numel() for _, w in count.weights(after)) == 4434


def test_lstm_mnist_in_a_third_of_its_parameters_then_a_tenth_of_its_bytes() -> None:
    """Nothing is trained: at most 0.2 points fewer for a third, 0.3 with 8 bits, on all test images."""
    before, data = zoo.load("lstm-mnist"), sets.load("mnist")
    thin, _ = apply(before, step("low_rank_rnn", by="rank", rank=30), None)
    coded, _ = apply(thin, step("quantize", bits=8), None)
    assert count.parameters(thin).value <= count.parameters(before).value / 3
    assert packfile.size(coded).value <= theory.dense_file(before).value / 10
    right, *others = (measure.accuracy(bundle, data.test).value for bundle in (before, thin, coded))
    assert right - others[0] <= 0.002
    assert right - others[1] <= 0.003


def test_cut_from_both_loses_less_of_the_next_layer_and_more_of_the_recurrence() -> None:
    tables = [
        apply(zoo.load("lstm-32"), step("low_rank_rnn", share=0.5, cut_from=x), None)[1].tables["layers"]
        for x in ("recurrent", "both")
    ]
    recurrent, both = (table.set_index("layer")["error"] for table in tables)
    assert both["fc"] < recurrent["fc"]
    assert both["lstm.weight_hh_l0"] > recurrent["lstm.weight_hh_l0"]


def test_an_lstm_that_would_grow_stays_and_says_so() -> None:
    """A rank of lstm-32 costs 32 + 128 + 10 weights: 26 of them are more than 4096 + 320."""
    before = zoo.load("lstm-32")
    after, report = apply(before, step("low_rank_rnn", by="rank", rank=26), None)
    assert after.fingerprint == before.fingerprint
    assert report.notes == ("Stay as they are: lstm, rank 26 would make 4,420 weights out of 4,416.",)
    assert not report.tables["layers"]["applied"].any()
    smaller, _ = apply(before, step("low_rank_rnn", by="rank", rank=25), None)
    assert count.parameters(smaller).value < count.parameters(before).value
    assert get("low_rank_rnn").knobs["rank"].bounds(before) == (1, 31)  # type: ignore[attr-defined]


def test_it_is_tuned_then_quantized_and_packed(digits: Data) -> None:
    before = zoo.load("lstm-32")
    thin, _ = apply(before, step("low_rank_rnn", share=0.5), digits)
    tuned, _ = apply(thin, step("finetune", epochs=1), digits)
    coded, _ = apply(tuned, step("quantize", bits=8, activations="static"), digits)
    accuracies = [measure.accuracy(bundle, digits.validation).value for bundle in (thin, tuned, coded)]
    assert accuracies[1] > accuracies[0] + 0.05
    assert abs(accuracies[2] - accuracies[1]) < 0.01
    assert {coded.params[f"lstm.weight_{x}_l0"].kind for x in ("hh", "hr", "ih")} == {"grid"}
    again = packfile.unpack(packfile.pack(coded))
    assert torch.equal(
        measure.logits(zoo.build(again), digits.test), measure.logits(zoo.build(coded), digits.test)
    )
    assert len(packfile.pack(coded)) < len(packfile.pack(before)) / 3.5
    with pytest.raises(SlimscopeError, match="lstm has a projection already"):
        apply(tuned, step("low_rank_rnn"), digits)
    with pytest.raises(SlimscopeError, match="what enters lstm is quantized; quantize after this step"):
        apply(apply(before, step("quantize", activations="static"), digits)[0], step("low_rank_rnn"), digits)


def test_codes_become_floats_and_a_note_says_so() -> None:
    coded, _ = apply(zoo.load("lstm-32"), step("quantize", bits=4), None)
    after, report = apply(coded, step("low_rank_rnn"), None)
    assert after.params["lstm.weight_ih_l0"] is coded.params["lstm.weight_ih_l0"]
    assert isinstance(after.params["lstm.weight_hh_l0"], Dense)
    note = "The factors of lstm.weight_hh_l0, fc.weight are 32-bit floats again: quantize after this step."
    assert note in report.notes


# ---------------------------------------------------------------- nets of no zoo


class Net(nn.Module):
    """An LSTM, and what is `between` its states and a linear layer."""

    def __init__(self, between: Callable[[Tensor, Tensor], Tensor], wide: int = HIDDEN, **kind: Any) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, HIDDEN, batch_first=True, **kind)
        self.between = between
        self.fc = nn.Linear(wide, 3)

    def forward(self, x: Tensor) -> Tensor:
        states, (last, _) = self.lstm(x)
        return self.fc(self.between(states, last))  # type: ignore[no-any-return]


class Stack(nn.Module):
    """Two LSTMs in a row, the second both ways; all its states are read."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(5, HIDDEN, 2)
        self.drop = nn.Dropout()
        self.second = nn.LSTM(HIDDEN, 7, bidirectional=True)
        self.fc = nn.Linear(14, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.drop(self.first(x)[0]))[0].mean(1))  # type: ignore[no-any-return]


class Chain(nn.Sequential):
    """LSTMs of these widths in a row, and a linear layer."""

    def __init__(self, *widths: int) -> None:
        inputs = (5, *widths)
        lstms = [nn.LSTM(a, b, batch_first=True) for a, b in zip(inputs, widths, strict=False)]
        super().__init__(*lstms, nn.Linear(widths[-1], 3))

    def forward(self, x: Tensor) -> Tensor:
        *lstms, last = self
        for lstm in lstms:
            x = lstm(x)[0]
        return last(x[:, -1])  # type: ignore[no-any-return]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], nn.Module]], Bundle]:
    """A net as a bundle of a source of its own."""

    def bundle(make: Callable[[], nn.Module]) -> Bundle:
        torch.manual_seed(0)
        source = sources.Source(
            lambda arch: zoo._on_meta(make),
            lambda arch: torch.zeros(1, 6, 5),
            *[lambda *given: None] * 4,  # type: ignore[list-item]
        )
        monkeypatch.setitem(sources.SOURCES, "made", source)
        return sources.bundle_of(Arch("made:net"), make().state_dict())

    return bundle


@pytest.mark.parametrize(
    "between",
    [
        lambda states, last: states[:, -1],
        lambda states, last: last[-1],
        lambda states, last: states.mean(1) + last[0],
        lambda states, last: states,
    ],
)
def test_states_may_be_chosen_and_added_up(between: Any, made: Any) -> None:
    before = made(lambda: Net(between, bias=False, num_layers=1))
    after, _ = apply(before, step("low_rank_rnn", by="rank", rank=4), None)
    assert after.params["fc.weight"].shape == (3, 4)
    assert [*after.params][:3] == ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_hr_l0"]


def test_another_lstm_may_read_them_and_the_one_that_can_not_be_is_named(made: Any) -> None:
    before = made(Stack)
    after, report = apply(before, step("low_rank_rnn", by="rank", rank=4), None)
    assert after.params["second.weight_ih_l0_reverse"].shape == (28, 4)
    assert report.notes == ("Stay as they are: second, which reads its sequence both ways.",)
    why = report.tables["layers"].set_index("layer")["why"]
    assert why["second.weight_hh_l0"] == "second reads its sequence both ways"
    names = {"first.weight_hh_l0": 0, "first.weight_ih_l1": 0, "first.weight_hh_l1": 1}
    names |= {"second.weight_ih_l0": 1, "second.weight_ih_l0_reverse": 1}
    wide = product(before, after, "first", {name: f"weight_hr_l{n}" for name, n in names.items()})
    x = torch.randn(2, 6, 5)
    assert torch.allclose(zoo.build(after)(x), zoo.build(wide)(x), atol=1e-5)


def test_lstms_in_a_row_have_one_projection_each(made: Any) -> None:
    before = made(lambda: Chain(HIDDEN, 7))
    after, report = apply(before, step("low_rank_rnn", by="rank", rank=4), None)
    shapes = [after.params[f"{x}"].shape for x in ("1.weight_ih_l0", "1.weight_hr_l0", "2.weight")]
    assert shapes == [(28, 4), (4, 7), (3, 4)]
    table = report.tables["layers"]
    assert table["weights_after"].sum() == sum(w.numel() for _, w in count.weights(after))
    params = dict(before.params)
    for name, p in {"0.weight_hh_l0": 0, "1.weight_ih_l0": 0, "1.weight_hh_l0": 1, "2.weight": 1}.items():
        params[name] = Dense(after.params[name].decode() @ after.params[f"{p}.weight_hr_l0"].decode())
    x = torch.randn(2, 6, 5)
    assert torch.allclose(zoo.build(after)(x), zoo.build(Bundle(before.arch, params))(x), atol=1e-5)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Net(lambda states, last: states[:, -1].relu()), "changed on their way"),
        (lambda: Net(lambda states, last: last[0], num_layers=2), "changed on their way"),
        (lambda: Net(lambda states, last: states[:, -1, :8], wide=8), r"enter fc \(Linear\), which can't"),
        (
            lambda: Net(lambda states, last: last[-1], wide=HIDDEN, proj_size=0, bidirectional=True),
            "both ways",
        ),
        (lambda: nn.Sequential(nn.Linear(5, 4), nn.GRU(4, 3)), r"no LSTM to factorize \(1 is of type GRU"),
    ],
)
def test_what_a_projection_does_not_suit_is_refused_in_a_sentence(make: Any, why: str, made: Any) -> None:
    with pytest.raises(SlimscopeError, match=why):
        projecting.found(made(make), False)


def test_edits_that_no_net_fits_are_refused() -> None:
    for settings, why in (
        ({"layer": "fc", "rank": 3, "readers": []}, r"'fc' \(Linear\) can't have a projection"),
        ({"layer": "lstm", "rank": 32, "readers": ["fc"]}, "rank of 'lstm' is 32: allowed is 1 to 31"),
        ({"layer": "lstm", "rank": 3, "readers": ["lstm"]}, "doesn't read the 32 states"),
    ):
        with pytest.raises(SlimscopeError, match=why):
            zoo.skeleton(Arch("lstm-32").edit("project", **settings))
    assert surgery.layers_of("project", {"layer": "lstm", "readers": ["fc"]}) == {"lstm", "fc"}
