"""Condensing: the wiring by hand, condensed equals masked, groups keep exactly their share of channels."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_resumes_exactly
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import count, measure
from engine.file import packfile
from engine.net import surgery, zoo
from engine.recipe.run import apply
from engine.techniques.prune import condense as condensing
from engine.tensor import groups as learned
from engine.tensor.formats import Dense
from engine.types import Bundle, Report, SlimscopeError, Step


def part_of(key: str, train: int) -> Data:
    whole = sets.load(key)
    parts = (part.stratified(train) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def photos() -> Data:
    return part_of("cifar10", 40)


def condense(bundle: Bundle, images: Data, **knobs: Any) -> tuple[Bundle, Report]:
    return apply(bundle, Step("condense", {"epochs": 1, **knobs}), images)


def masked_of(bundle: Bundle, reads: condensing.Reads) -> Bundle:
    """The same net with zeros wherever a group does not read: loop by loop, as the definition says."""
    params = dict(bundle.params)
    for label, groups in reads.items():
        weight = params[f"{label}.weight"].decode().clone()
        for i in range(len(weight)):
            for channel in range(weight.shape[1]):
                if channel not in groups[i % len(groups)]:
                    weight[i, channel] = 0.0
        params[f"{label}.weight"] = Dense(weight)
    return bundle.become(params)


# ---------------------------------------------------------------- which channels a group reads


def test_a_group_drops_what_it_uses_least_by_hand() -> None:
    """Filters 0 and 2 are group 0, filter 1 is group 1; sums: group 0 (3, 5, 2), group 1 (1, 4, 9)."""
    weight = torch.tensor([[1.0, -3.0, 0.0], [1.0, 4.0, -9.0], [-2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    kept = learned.mask(weight.view(4, 3, 1, 1), 2, 1 / 3).view(4, 3)
    assert kept.tolist() == [[True, True, False], [False, True, True]] * 2


@given(st.integers(1, 200), st.integers(2, 16))
def test_all_stages_begin_in_the_first_half(steps: int, factor: int) -> None:
    stages = learned.stages(steps, factor)
    assert max(stages.values()) == factor - 1
    assert all(0 <= batch < steps for batch in stages)
    assert list(stages.values()) == sorted(stages.values())
    assert max(stages) <= max(-(-steps // 2), 0)


# ---------------------------------------------------------------- condensed equals masked


@settings(max_examples=25)
@given(
    st.integers(2, 4), st.integers(1, 4), st.integers(1, 3), st.sampled_from([1, 3]), st.integers(1, 2),
    st.booleans(), st.integers(0, 999),
)  # fmt: skip
def test_a_condensed_convolution_answers_as_the_masked_one(
    groups: int, per: int, keeps: int, kernel: int, stride: int, bias: bool, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = keeps + 2
    old = nn.Conv2d(inputs, groups * per, kernel, stride, kernel // 2, bias=bias)
    reads = [sorted(torch.randperm(inputs, generator=generator)[:keeps].tolist()) for _ in range(groups)]
    net = nn.ModuleDict({"conv": old})
    weight, x = old.weight.detach().clone(), torch.randn(2, inputs, 6, 6, generator=generator)
    for i in range(len(weight)):
        weight[i, [c for c in range(inputs) if c not in reads[i % groups]]] = 0.0
    goal = nn.functional.conv2d(x, weight, old.bias, stride, kernel // 2)
    surgery.condense(net, layer="conv", reads=reads)
    new = net["conv"]
    with torch.no_grad():
        new.weight.copy_(torch.cat([weight[g::groups][:, reads[g]] for g in range(groups)]))
        if bias:
            new.bias.copy_(torch.cat([old.bias[g::groups] for g in range(groups)]))
    assert torch.allclose(new(x), goal, atol=1e-5)


@pytest.mark.parametrize("name", ["vgg-small", "resnet-8"])
def test_the_condensed_net_answers_as_the_masked_one(name: str, photos: Data) -> None:
    bundle = zoo.load(name)
    labels = [n for n, m in zoo.build(bundle).named_modules() if isinstance(m, nn.Conv2d)][1:]
    reads = {label: learned.read_by(bundle.params[f"{label}.weight"].decode(), 4, 4) for label in labels}
    inputs = photos.test.inputs(slice(0, 10))
    goal = zoo.build(masked_of(bundle, reads))(inputs)
    after = condensing.converted(bundle, reads)
    assert torch.allclose(zoo.build(after)(inputs), goal, atol=1e-5)
    restored = packfile.unpack(packfile.pack(after))
    assert torch.equal(zoo.build(restored)(inputs), zoo.build(after)(inputs))


def test_training_ends_in_groups_that_read_exactly_their_share(photos: Data) -> None:
    bundle = zoo.load("resnet-8")
    after, report = condense(bundle, photos, learning_rate=1e-3)
    layers = report.tables["layers"].set_index("layer")
    assert layers.loc["conv1", ["groups", "inputs", "read"]].tolist() == [1, 3, 3]
    rest = layers.drop(index=["conv1", "fc"])
    assert (rest["read"] * 4 == rest["inputs"]).all()
    assert (rest["macs_after"] * 4 == rest["macs_before"]).all()
    assert layers["macs_after"].sum() == count.macs(after).value
    reads = report.tables["reads"].query("layer == 'layer2.0.conv2' and kept")
    assert reads.groupby("group").size().tolist() == [8] * 4
    assert any("conv1, its 3 inputs are no multiple of 4" in note for note in report.notes)
    told = {f.name: f.value for f in report.figures}
    assert told["validation accuracy after"] == measure.accuracy(after, photos.validation).value
    # what the masked net knew is what the condensed one knows
    assert report.tables["curve"]["validation accuracy"].iloc[-1] == pytest.approx(
        told["validation accuracy after"], abs=1 / len(photos.validation) + 1e-9
    )


def test_it_runs_elsewhere_too(photos: Data) -> None:
    """Pruning and quantizing come after it; what follows channels refuses."""
    after, _ = condense(zoo.load("resnet-8"), photos, learning_rate=1e-3)
    for later in (Step("prune_weights", {"sparsity": 0.5}), Step("quantize", {"bits": 8})):
        assert apply(after, later, photos)[0].arch.edits
    with pytest.raises(SlimscopeError, match="groups already"):
        condense(after, photos)
    with pytest.raises(SlimscopeError):
        apply(after, Step("prune_filters", {}), photos)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("reads", "says"),
    [
        ([[0, 1]], "1 groups"),
        ([[0], [1, 2]], "equally many inputs"),
        ([[0], [9]], "no channel 9: allowed is 0 to 7"),
        ([[0], [-1]], "no channel -1"),
        ([[0.0], [1]], "no channel 0.0"),
    ],
)
def test_a_wiring_that_does_not_fit_is_refused(reads: Any, says: str) -> None:
    net = nn.ModuleDict({"conv": nn.Conv2d(8, 4, 3)})
    with pytest.raises(SlimscopeError, match=says):
        surgery.condense(net, layer="conv", reads=reads)
    with pytest.raises(SlimscopeError, match="can't be condensed"):
        surgery.condense(nn.ModuleDict({"fc": nn.Linear(8, 4)}), layer="fc", reads=[[0], [1]])


def test_a_net_without_fitting_convolutions_is_refused() -> None:
    with pytest.raises(SlimscopeError, match=r"lenet-5 .*conv1: its 1 inputs .*; conv2: its 50 filters"):
        condense(zoo.load("lenet-5"), part_of("mnist", 20))
    with pytest.raises(SlimscopeError, match="mlp-32 has no convolution to condense"):
        condense(zoo.load("mlp-32"), part_of("mnist", 20))


def test_zeros_of_before_stay_zero(photos: Data) -> None:
    bundle = zoo.load("resnet-8")
    pruned, _ = apply(bundle, Step("prune_weights", {"sparsity": 0.7}), photos)
    kept = pruned.params["layer3.0.conv2.weight"].decode() != 0
    after, report = condense(pruned, photos)
    reads = report.tables["reads"].query("layer == 'layer3.0.conv2' and kept")
    reads = reads.groupby("group")["channel"].agg(list)
    own = torch.cat([kept[g::4][:, reads[g]] for g in range(4)])
    assert not after.params["layer3.0.conv2.weight"].decode()[~own].any()


def test_a_stopped_run_goes_on_as_if_it_had_not_been(photos: Data, tmp_path: Path) -> None:
    assert_resumes_exactly(zoo.load("resnet-8"), Step("condense", {"epochs": 2}), photos, 1, tmp_path)
