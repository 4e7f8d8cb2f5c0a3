"""Low rank for the outputs, in Tucker's form and under a budget: what it buys, counts and refuses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure
from engine.file import packfile
from engine.jobs import layerwise
from engine.net import channels, kinds, zoo
from engine.recipe import migrate
from engine.recipe.run import apply
from engine.recipe.technique import complete, get, step
from engine.tensor import tucker
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Recipe, Report, SlimscopeError, Step

ROOT = Path(__file__).resolve().parents[3]


def seeded(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())


def images(name: str, n: int = 4) -> Tensor:
    shape = zoo.INPUTS[zoo.entry(name).data].shape
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def few(name: str) -> Data:
    whole = sets.load(name)
    parts = (part.stratified(200) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


def rows(report: Report) -> Any:
    return report.tables["layers"].set_index("layer")


# ---------------------------------------------------------------- the error of the outputs


@pytest.fixture(scope="module")
def both() -> dict[str, tuple[Bundle, Report]]:
    """mlp-32's first layer at rank 8, for the weights and for the outputs."""
    net, mnist = zoo.load("mlp-32"), sets.load("mnist")
    settings = {"by": "rank", "rank": 8, "leave_out": ["fc2"]}
    return {
        error: apply(net, step("low_rank", error=error, **settings), mnist)
        for error in ("weights", "outputs")
    }


def test_at_the_same_rank_the_outputs_error_costs_far_less_accuracy(
    both: dict[str, tuple[Bundle, Report]],
) -> None:
    """96.9 % become 64.4 % and 83.3 % on the validation part, with the same number of weights."""
    part = sets.load("mnist").validation
    plain, aware = (measure.accuracy(after, part).value for after, _ in both.values())
    assert aware > plain + 0.15
    assert count.parameters(both["weights"][0]).value == count.parameters(both["outputs"][0]).value


def test_the_errors_are_those_of_outputs_of_images_that_were_not_looked_at(
    both: dict[str, tuple[Bundle, Report]],
) -> None:
    mnist = sets.load("mnist")
    x = mnist.train.stratified(500).inputs()[4::5].flatten(1)
    weight = zoo.load("mlp-32").params["fc1.weight"].decode()
    report = both["outputs"][1]
    for (after, _), column in zip(both.values(), ("output_error_plain", "output_error"), strict=True):
        first, second = (after.params[f"fc1.{i}.weight"].decode() for i in (0, 1))
        off = float((x @ (second @ first - weight).T).norm() / (x @ weight.T).norm())
        assert rows(report).loc["fc1", column] == pytest.approx(off, abs=1e-5)
    named = {figure.name: figure.value for figure in report.figures}
    assert named["output error, for the outputs"] == rows(report).loc["fc1", "output_error"]
    assert any("400 training samples" in note and "100 others" in note for note in report.notes)
    assert "output_error" not in both["weights"][1].tables["layers"]


def test_energy_is_that_of_the_outputs_and_needs_fewer_ranks() -> None:
    net, mnist = zoo.load("mlp-32"), sets.load("mnist")
    plain, aware = (
        rows(apply(net, step("low_rank", energy=0.9, error=error), mnist)[1])
        for error in ("weights", "outputs")
    )
    assert aware.loc["fc1", "energy_kept"] >= 0.9
    assert aware.loc["fc1", "rank"] < plain.loc["fc1", "rank"]


def test_layers_whose_outputs_say_nothing_of_the_split_are_named() -> None:
    _, report = apply(seeded("resnet-8"), step("low_rank", form="spatial", error="outputs"), few("cifar10"))
    note = next(note for note in report.notes if note.startswith("The error of the weights counts in conv1"))
    assert "fc" not in note
    apply(seeded("lstm-32"), step("low_rank", error="outputs"), few("mnist"))


def test_outputs_need_a_model_that_runs_and_its_data() -> None:
    bare = Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(8, 16))})
    for bundle in (bare, seeded("mlp-32")):
        with pytest.raises(SlimscopeError, match="choose error = 'weights'"):
            apply(bundle, step("low_rank", error="outputs"), None)


def test_what_was_kept_before_still_counts() -> None:
    old = '[["low_rank",{"by":"energy","energy":0.9,"form":"channel","leave_out":[],"per_layer":{},"rank":16,'
    old += '"share":0.5}]]'
    assert migrate.kept_as(complete(Recipe((Step("low_rank"),)))) == Recipe.from_key(old).key
    assert migrate.read(old) == complete(Recipe((Step("low_rank"),)))


# ---------------------------------------------------------------- Tucker's form


def test_three_layers_answer_as_their_product_and_have_the_weights_and_macs_that_are_counted() -> None:
    before = seeded("resnet-8")
    after, report = apply(before, step("low_rank", form="tucker", by="share", leave_out=["fc"]), None)
    table, params = rows(report), dict(before.params)
    for label in table.index[table["form"] == "tucker"]:
        three = [after.params[f"{label}.{i}.weight"].decode() for i in range(3)]
        row = table.loc[label]
        assert three[1].shape[:2] == (row["rank"], row["input_rank"])
        assert sum(part.numel() for part in three) == row["weights_after"] <= row["weights_before"] / 2
        params[f"{label}.weight"] = Dense(tucker.join(*three))
        old = before.params[f"{label}.weight"].decode()
        off = float((params[f"{label}.weight"].decode() - old).norm() / old.norm())
        assert off == pytest.approx(row["error"], abs=1e-5)
        assert off**2 == pytest.approx(1 - row["energy_kept"], abs=1e-5)
    dense = zoo.build(Bundle(before.arch, params))(images("resnet-8"))
    assert torch.allclose(zoo.build(after)(images("resnet-8")), dense, atol=1e-4 * float(dense.abs().max()))
    # layer3.0.conv1 reads 32 channels of 16 x 16 places, and gives 64 of 8 x 8.
    a, b = int(table.loc["layer3.0.conv1", "rank"]), int(table.loc["layer3.0.conv1", "input_rank"])
    own = kinds.macs_by_layer(after)
    assert [own[f"layer3.0.conv1.{i}"] for i in range(3)] == [256 * 32 * b, 64 * 9 * b * a, 64 * a * 64]


def test_energy_is_kept_with_fewer_weights_than_two_layers_need() -> None:
    """resnet-8's last convolution, 36,864 weights: the core takes part of both channels."""
    net = zoo.load("resnet-8")
    three, two = (
        rows(apply(net, step("low_rank", form=form, energy=0.8), None)[1]).loc["layer3.0.conv2"]
        for form in ("tucker", "channel")
    )
    assert min(three["energy_kept"], two["energy_kept"]) >= 0.8
    assert three["weights_after"] < two["weights_after"]


def test_both_ranks_of_a_layer_can_be_its_own() -> None:
    own = {
        "per_layer": {"layer2.0.conv2": 9, "fc": 3},
        "input_ranks": {"layer2.0.conv2": 40, "layer1.0.conv1": 5},
    }
    _, report = apply(seeded("resnet-8"), step("low_rank", form="tucker", **own), None)
    found = rows(report)[["rank", "input_rank"]]
    assert found.loc["layer2.0.conv2"].tolist() == [9, 32]  # it has 32 inputs
    assert found.loc["layer1.0.conv1"].tolist() == [5, 5]
    assert found.loc["fc", "rank"] == 3
    _, report = apply(seeded("resnet-8"), step("low_rank", form="channel", **own), None)
    assert rows(report).loc["layer2.0.conv2", "rank"] == 9


def test_a_convolution_of_one_place_is_a_matrix() -> None:
    bundle = Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(8, 6, 1, 1))})
    after, report = apply(bundle, step("low_rank", form="tucker", by="rank", rank=2), None)
    assert report.tables["layers"]["form"].tolist() == ["channel"]
    assert set(after.params) == {"a.0.weight", "a.1.weight"}


def test_ranks_that_save_nothing_leave_the_layer_whole() -> None:
    after, report = apply(seeded("lenet-5-small"), step("low_rank", form="tucker", by="rank", rank=4), None)
    row = rows(report).loc["conv1"]
    assert not row["applied"]
    assert row["why"] == "ranks 4 and 1 would make 117 weights out of 100"
    assert "conv2.2.bias" in after.params


FRESH = """
import sys, torch
from pathlib import Path
from engine.file import packfile
from engine.net import zoo
bundle = packfile.unpack(Path(sys.argv[1]).read_bytes())
torch.save(zoo.build(bundle)(torch.load(sys.argv[2])).detach(), sys.argv[2])
"""


def test_its_channels_can_go_and_a_fresh_process_rebuilds_it(tmp_path: Path) -> None:
    split, _ = apply(seeded("lenet-5-small"), step("low_rank", form="tucker", by="share", share=0.8), None)
    assert {"conv2.0", "conv2.1", "conv2.2"} <= set(channels.groups(split))
    smaller, _ = apply(split, step("prune_filters", removed=0.3), few("mnist"))
    after, _ = apply(smaller, step("quantize", bits=6), None)
    assert {"tucker", "narrow"} <= {verb for verb, _ in after.arch.edits}
    path, io = tmp_path / "net.slim", tmp_path / "io.pt"
    path.write_bytes(packfile.pack(after))
    torch.save(images("lenet-5-small"), io)
    subprocess.run([sys.executable, "-c", FRESH, str(path), str(io)], cwd=ROOT, check=True)
    assert torch.equal(torch.load(io), zoo.build(after)(images("lenet-5-small")))


# ---------------------------------------------------------------- a budget over all layers


@pytest.mark.parametrize("form", ["channel", "tucker"])
def test_a_budget_is_met_and_buys_more_than_the_same_share_of_each_layer(form: str) -> None:
    """At 60 % of the weights: 79.0 against 28.2 %, and 80.5 against 44.6 % with Tucker's, of 81.3 %."""
    net, part = zoo.load("resnet-8"), sets.load("cifar10").validation.stratified(500)
    dealt, report = apply(net, step("low_rank", form=form, by="budget", budget=0.6), None)
    even, _ = apply(net, step("low_rank", form=form, by="share", share=0.6), None)
    table = rows(report)
    assert 0.55 < table["weights_after"].sum() / table["weights_before"].sum() <= 0.6
    assert table.loc[~table["applied"], "why"].eq("the budget leaves it whole").all()
    assert measure.accuracy(dealt, part).value > measure.accuracy(even, part).value + 0.2


def test_own_ranks_and_layers_that_stay_are_paid_from_the_budget() -> None:
    settings = {"by": "budget", "budget": 0.3, "per_layer": {"fc1": 2}, "leave_out": ["fc3"]}
    _, report = apply(seeded("lenet-300-100"), step("low_rank", **settings), None)
    table = rows(report)
    assert table["weights_after"].tolist() == [
        2 * 1084,
        30_000,
        1000,
    ]  # less than 30 %
    _, report = apply(seeded("lenet-300-100"), step("low_rank", **{**settings, "budget": 0.05}), None)
    assert rows(report)["weights_after"].sum() <= 0.05 * 266_200


def test_a_budget_below_the_lowest_ranks_is_said() -> None:
    settings = {"by": "budget", "budget": 0.05, "leave_out": ["fc1"]}
    _, report = apply(seeded("lenet-300-100"), step("low_rank", **settings), None)
    assert rows(report)["rank"].tolist()[1:] == [1, 1]
    assert report.notes[0] == "The budget is too small: at the lowest ranks there are 88.5% of the weights."


def test_one_layer_by_itself_is_refused_where_all_must_be_seen() -> None:
    alone = layerwise.of_layer(seeded("lenet-300-100"), "fc1")
    for name, value in (("by", "budget"), ("error", "outputs")):
        whole = step("low_rank", **{name: value})
        assert get("low_rank").sees_model(whole.settings)
        with pytest.raises(SlimscopeError, match=f"must see the whole model where {name} = '{value}'"):
            layerwise.apply(alone, whole, ["fc1", "fc2", "fc3"], layerwise.alone(alone))
    assert not get("low_rank").sees_model({})
