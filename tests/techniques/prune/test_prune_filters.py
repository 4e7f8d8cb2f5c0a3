"""Pruning filters as a step: which ones go, what the tables say, and that small ones are the right ones."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure
from engine.net import channels, zoo
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import Dense
from engine.types import Bundle, Report, SlimscopeError


def net(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())


def changed(bundle: Bundle, **weights: torch.Tensor) -> Bundle:
    """The bundle with other weights: `fc1=...`."""
    return bundle.become({**bundle.params, **{f"{k}.weight": Dense(v.float()) for k, v in weights.items()}})


def pruned(bundle: Bundle, **settings: object) -> tuple[Bundle, Report]:
    return apply(bundle, step("prune_filters", **settings), of(bundle))


def of(bundle: Bundle) -> Data:
    return sets.load(zoo.entry(bundle.arch.name).data)


def gone(report: Report, layer: str) -> list[int]:
    table = report.tables["filters"]
    return table.loc[(table["layer"] == layer) & ~table["kept"], "filter"].tolist()


def widths(report: Report) -> Mapping[str, int]:
    return report.tables["layers"].set_index("layer")["kept"].to_dict()


# ---------------------------------------------------------------- which filters go


def test_the_smallest_go_with_their_biases_and_columns() -> None:
    # Unit r has 784 weights of size 32 - r, in both signs: the last eight of 32 are the smallest.
    size = torch.arange(32, 0, -1)
    signs = torch.tensor([1.0, -1.0]).repeat(392)
    before = changed(net("mlp-32"), fc1=size[:, None] * signs)
    after, report = pruned(before, removed=0.25)
    assert gone(report, "fc1") == list(range(24, 32))
    assert report.tables["filters"]["score"].tolist() == [784.0 * s for s in size.tolist()]
    state, old = after.state(), before.state()
    assert torch.equal(state["fc1.weight"], old["fc1.weight"][:24])
    assert torch.equal(state["fc1.bias"], old["fc1.bias"][:24])
    assert torch.equal(state["fc2.weight"], old["fc2.weight"][:, :24])
    assert torch.equal(state["fc2.bias"], old["fc2.bias"])
    assert [figure.value for figure in report.figures] == [8, 32 * 794, 24 * 794, 24 * 795 + 10]


def test_by_hand_and_by_share_together_leave_the_best_of_the_others() -> None:
    before = zoo.load("lenet-5-small")
    norms = before.params["conv1.weight"].decode().abs().sum((1, 2, 3))
    first, second = norms.argsort(descending=True).tolist()[:2]
    _, report = pruned(before, removed=0.95, by_hand={"conv1": [first]})
    assert gone(report, "conv1") == sorted({0, 1, 2, 3} - {second})


def test_filters_go_by_hand_whatever_their_score() -> None:
    before = zoo.load("lenet-5-small")
    _, alone = pruned(before, removed=0.0, by_hand={"conv2": [7, 2, 2]})
    assert gone(alone, "conv2") == [2, 7]
    assert widths(alone) == {"conv1": 4, "conv2": 6, "fc1": 32, "fc2": 10}
    smallest = gone(pruned(before, removed=0.5)[1], "conv2")
    other = next(n for n in range(8) if n not in smallest)
    both = pruned(before, removed=0.5, by_hand={"conv2": [other, smallest[0]]})[1]
    assert gone(both, "conv2") == sorted([*smallest, other])


@pytest.mark.parametrize(
    ("picks", "said"),
    [
        ({"fc2": [0]}, "its outputs are the model's"),
        ({"conv2": [8]}, "0 to 7"),
        ({"conv1": [0, 1, 2, 3]}, "conv1"),
    ],
)
def test_picks_that_cannot_go_are_refused(picks: dict[str, list[int]], said: str) -> None:
    with pytest.raises(SlimscopeError, match=said):
        pruned(net("lenet-5-small"), removed=0.0, by_hand=picks)


def test_the_two_norms_can_differ() -> None:
    rows = torch.full((32, 784), 1.0)
    rows[5] = 0.0
    rows[5, 0] = 500.0  # sums to less than 784 ones, but its root of squares is 500 against 28
    before = changed(net("mlp-32"), fc1=rows)
    assert gone(pruned(before, removed=0.03)[1], "fc1") == [5]
    assert gone(pruned(before, removed=0.03, score="l2")[1], "fc1") == [0]


def test_an_independent_ranking_finds_the_same_filters() -> None:
    before = zoo.load("lenet-5")
    _, report = pruned(before, removed=0.4)
    for layer in ("conv1", "conv2", "fc1"):
        weight = before.state()[f"{layer}.weight"].numpy()
        rows = np.abs(weight.reshape(len(weight), -1)).sum(1)
        expected = np.argsort(rows)[: round(0.4 * len(rows))]
        assert gone(report, layer) == sorted(expected.tolist())


def test_in_the_model_an_uneven_layer_loses_more() -> None:
    # Relative to their means, half of fc1 is at 0.2 and all of fc2 at 1: a quarter of 400 is from fc1.
    fc1 = torch.cat([torch.full((150, 784), 1.0), torch.full((150, 784), 9.0)])
    before = changed(net("lenet-300-100"), fc1=fc1, fc2=torch.full((100, 300), 0.01))
    _, report = pruned(before, removed=0.25, allocation="global")
    assert widths(report) == {"fc1": 200, "fc2": 100, "fc3": 10}
    assert gone(report, "fc1") == list(range(100))
    _, report = pruned(before, removed=0.25)
    assert widths(report) == {"fc1": 225, "fc2": 75, "fc3": 10}


def test_chance_is_the_same_for_the_same_seed_and_does_not_look_at_weights() -> None:
    lost = [gone(pruned(net("mlp-32"), score="random", seed=seed)[1], "fc1") for seed in (0, 0, 1)]
    assert lost[0] == lost[1] != lost[2]
    other = changed(net("mlp-32"), fc1=torch.zeros(32, 784))
    assert gone(pruned(other, score="random", seed=0)[1], "fc1") == lost[0]


@pytest.mark.parametrize("allocation", ["layer", "global"])
def test_at_least_one_filter_of_a_layer_stays(allocation: str) -> None:
    before = changed(net("lenet-5-small"), conv1=torch.zeros(4, 1, 5, 5))
    after, report = pruned(before, removed=0.95, allocation=allocation)
    assert widths(report)["conv1"] == 1
    assert after.params["conv1.weight"].shape[0] == 1
    assert any("Only one filter is left in conv1" in note for note in report.notes)


def test_where_nothing_goes_the_net_is_the_same() -> None:
    before = net("lenet-5-small")
    after, report = pruned(before, removed=0.0)
    assert (after.arch, after.params) == (before.arch, before.params)
    assert report.figures[0].value == 0
    assert not any("Removing" in note for note in report.notes)


# ---------------------------------------------------------------- single layers


def test_layers_with_a_share_of_their_own_and_layers_left_out() -> None:
    for allocation in ("layer", "global"):
        _, report = pruned(
            net("lenet-5"), removed=0.5, per_layer={"conv1": 0.1}, leave_out=["fc1"], allocation=allocation
        )
        assert widths(report) == {"conv1": 18, "conv2": 25, "fc1": 500, "fc2": 10}
    row = report.tables["layers"].set_index("layer").loc["fc1"]
    assert (row["weights"], row["weights_after"]) == (400_000, 500 * 16 * 25)
    assert any(note.startswith("Left out: fc1; what they read") for note in report.notes)


@pytest.mark.parametrize(
    ("name", "label", "says"),
    [
        ("lenet-5", "fc2", r"'fc2', but its outputs are the model's: allowed are conv1, conv2, fc1"),
        ("resnet-8", "layer1.0.conv2", r"its filters go with those of conv1: allowed are conv1, layer1"),
    ],
)
def test_a_layer_that_has_no_filters_to_itself_has_no_share(name: str, label: str, says: str) -> None:
    with pytest.raises(SettingError, match=says):
        pruned(net(name), per_layer={label: 0.5})


# ---------------------------------------------------------------- residual streams


def test_streams_stay_unless_they_are_asked_for() -> None:
    _, report = pruned(net("resnet-8"), removed=0.5)
    inner = ("layer1.0.conv1", "layer2.0.conv1", "layer3.0.conv1")
    full = {"conv1": 16, "layer1.0.conv2": 16, "layer2.0.conv2": 32, "layer3.0.conv2": 64, "fc": 10}
    assert widths(report) == {**dict(zip(inner, (8, 16, 32), strict=True)), **full}
    assert any("conv1, layer2.0.conv2, layer3.0.conv2 stay" in note for note in report.notes)


def test_a_stream_loses_the_same_channels_in_all_of_its_layers() -> None:
    before = net("resnet-8")
    after, report = pruned(before, removed=0.25, residual=True)
    assert set(report.tables["layers"].set_index("layer")["sparsity"].drop("fc")) == {0.25}
    lost = set(gone(report, "conv1"))
    assert {place - 8 for place in gone(report, "layer2.0.conv2") if 8 <= place < 24} == lost
    assert {place - 24 for place in gone(report, "layer3.0.conv2") if 24 <= place < 40} == lost
    # 4 + 8 + 16 inside of the blocks; 4 + 4 + 8 in the streams, which several layers make.
    assert "they make 44 different channels" in report.figures[0].how
    assert report.figures[0].value == 28 + (4 + 4 + 8 + 16)
    assert count.macs(after).value < count.macs(before).value * 0.6
    assert any("conv1, layer1.0.conv2 and 2 more layers" in note for note in report.notes)


def test_a_streams_score_is_the_mean_over_the_layers_that_make_it() -> None:
    before = net("resnet-8")
    _, report = pruned(before, residual=True)
    state = before.state()
    expected = torch.zeros(16)
    for layer, first in (("conv1", 0), ("layer1.0.conv2", 0), ("layer2.0.conv2", 8), ("layer3.0.conv2", 24)):
        norms = state[f"{layer}.weight"].abs().sum((1, 2, 3))[first : first + 16]
        expected += norms / norms.mean() / 4
    table = report.tables["filters"]
    assert table.loc[table["layer"] == "conv1", "score"].tolist() == pytest.approx(expected.tolist())


def test_a_stream_is_left_out_by_any_of_its_layers() -> None:
    _, report = pruned(net("resnet-8"), residual=True, leave_out=["layer1.0.conv2"])
    assert widths(report)["conv1"] == 16
    assert widths(report)["layer2.0.conv2"] == 28  # the sixteen channels that begin there lose four


# ---------------------------------------------------------------- what the report says


def test_columns_add_up_to_the_nets_own_figures() -> None:
    before = net("resnet-8")
    after, report = pruned(before, removed=0.3, residual=True, allocation="global")
    layers, filters = report.tables["layers"], report.tables["filters"]
    assert layers["macs_before"].sum() == report.figures[1].value == count.macs(before).value
    assert layers["macs_after"].sum() == report.figures[2].value == count.macs(after).value
    assert layers["weights_after"].sum() == sum(w.numel() for _, w in count.weights(after))
    assert report.figures[3].value == count.parameters(after).value
    per_layer = filters.groupby("layer")["kept"].agg(["size", "sum"])
    expected = layers.set_index("layer").drop("fc")[["filters", "kept"]]
    assert per_layer.loc[expected.index].values.tolist() == expected.values.tolist()
    assert not filters.duplicated(["layer", "filter"]).any()


def test_the_notes_name_what_goes_along() -> None:
    _, report = pruned(net("lenet-5"))
    text = " ".join(report.notes)
    assert "of conv1, that of conv2; of conv2, that of fc1 (16 columns); of fc1, that of fc2." in text
    # 142 of the 570 filters that can go; 184,267 of 431,080 parameters; 933,250 of 2,293,000 multiply-adds
    assert (
        "24.9% of the filters that can go were 42.7% of the parameters and 40.7% of the multiply-adds" in text
    )
    assert "would still add a constant" in text


def test_the_share_that_was_asked_for_and_the_one_that_went_are_both_said() -> None:
    # 30 % of 32 units are 9.6: ten go, 31.25 %. Of a quarter, eight go.
    notes = pruned(net("mlp-32"), removed=0.3)[1].notes
    assert any(note.startswith("Asked for were 30.0% of the filters, and 31.2% went") for note in notes)
    for settings in ({"removed": 0.25}, {"removed": 0.3, "per_layer": {"fc1": 0.9}}):
        assert not any("Asked for" in note for note in pruned(net("mlp-32"), **settings)[1].notes)


def test_scales_that_cannot_be_cut_are_named() -> None:
    rounded, _ = apply(net("mlp-32"), step("quantize", granularity="group", group=8), None)
    after, report = pruned(rounded)
    assert isinstance(after.params["fc2.weight"], Dense)
    assert any("fc2.weight are 32-bit floats again" in note for note in report.notes)


def test_recurrent_nets_are_refused() -> None:
    with pytest.raises(SlimscopeError, match="'lstm' is recurrent"):
        pruned(net("lstm-32"))


# ---------------------------------------------------------------- the claim


def test_without_the_smallest_filters_a_net_is_better_than_without_any_others() -> None:
    before = zoo.load("lenet-5")
    validation = sets.load("mnist").validation.stratified(1000)

    def right(**settings: object) -> float:
        return measure.accuracy(pruned(before, removed=0.25, **settings)[0], validation).value

    smallest = right()
    assert smallest > measure.accuracy(before, validation).value - 0.005
    assert all(right(score="random", seed=seed) < smallest - 0.005 for seed in range(3))


def test_the_narrow_net_answers_as_the_one_with_zeros() -> None:
    before = zoo.load("resnet-20")
    after, report = pruned(before, removed=0.2, residual=True)
    stays = report.tables["filters"].set_index(["layer", "filter"])["kept"]
    kept = {
        name: [c for c, place in enumerate(group.makes[0].at) if stays[name, place]]
        for name, group in channels.groups(before).items()
    }
    inputs = of(before).validation.stratified(20).inputs()
    answers = [zoo.build(b)(inputs) for b in (after, channels.masked(before, kept))]
    assert torch.allclose(*answers, atol=1e-4)
