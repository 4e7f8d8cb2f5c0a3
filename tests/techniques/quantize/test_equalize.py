"""Equalization: answers stay, ranges become equal, and one scale per layer then loses less."""

from __future__ import annotations

from typing import Any

import odd_models
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets, user_parts
from engine.data.sets import Data
from engine.figures import measure
from engine.file import packfile
from engine.net import folding, sources, zoo
from engine.net.channels import scaling
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Report, SlimscopeError


@pytest.fixture(scope="module")
def mnist() -> Data:
    return sets.load("mnist")


@pytest.fixture(scope="module")
def photos() -> Data:
    return sets.load("cifar10")


@pytest.fixture(scope="module")
def done(photos: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load("resnet-8"), step("equalize"), photos)


def answers(bundle: Bundle, data: Data) -> Tensor:
    return measure.logits(zoo.build(bundle), data.validation.take(slice(0, 50)))


def assert_equal_answers(before: Bundle, after: Bundle, data: Data) -> None:
    one, other = answers(before, data), answers(after, data)
    assert float((one - other).abs().max()) <= 1e-5 * float(one.abs().max())


class Odd(nn.Module):
    """All that is no pair, and batch-norm that can't be folded, around a depthwise block that can."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.after_relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.wide, self.wide_norm = nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6)
        self.deep, self.deep_norm = nn.Conv2d(6, 6, 3, groups=6, bias=False), nn.BatchNorm2d(6, affine=False)
        self.point = nn.Conv2d(6, 5, 1)
        self.twice, self.twice_norm = nn.Conv2d(5, 5, 1), nn.BatchNorm2d(5)
        self.capped = nn.Linear(5, 7)
        self.out = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.after_relu(F.relu_(self.stem(x)))
        x = F.relu(self.wide_norm(self.wide(x)))
        x = F.leaky_relu(self.deep_norm(self.deep(x)), 0.1)
        y = self.twice(self.point(x))
        x = self.capped((self.twice_norm(y) + y).amax((2, 3)))
        return self.out(F.relu6(x))  # type: ignore[no-any-return]


def odd() -> tuple[Bundle, Data]:
    torch.manual_seed(0)
    net = Odd()
    inputs = torch.randn(60, 3, 8, 8)
    net.train()(inputs)
    sample = torch.utils.data.TensorDataset(inputs, torch.arange(60) % 3)
    data = user_parts.task_of((sample, sample, sample), "odd")
    return sources.adopt(net.eval(), data)[0], data


def test_pairs_by_hand_and_what_is_none_is_named() -> None:
    bundle, data = odd()
    assert scaling.foldable(bundle.arch) == {"wide": "wide_norm", "deep": "deep_norm"}
    after, report = apply(bundle, step("equalize"), data)
    layers = report.tables["layers"].set_index("layer")
    assert layers.loc[layers["read_by"] != "", "read_by"].to_dict() == {
        "wide": "deep",
        "deep": "point",
        "point": "twice",
    }
    assert "These batch-norms stay: after_relu, twice_norm." in report.notes
    assert "What these layers give is in no pair and stays: stem, twice, capped, out." in report.notes
    assert_equal_answers(bundle, after, data)


def test_a_batch_norm_is_folded_as_torch_folds_it() -> None:
    before = zoo.load("resnet-8")
    after, normals = folding.folded(before)
    assert normals["layer1.0.conv2"] == "layer1.0.bn2"
    assert not any("bn" in name for name in after.params)
    net: Any = zoo.build(before)
    own, normal = net.layer2[0].conv1, net.layer2[0].bn1
    parts = (normal.running_mean, normal.running_var, normal.eps, normal.weight, normal.bias)
    weight, bias = fuse_conv_bn_weights(own.weight, None, *parts)
    assert torch.allclose(after.params["layer2.0.conv1.weight"].decode(), weight, atol=1e-6)
    assert torch.allclose(after.params["layer2.0.conv1.bias"].decode(), bias, atol=1e-6)
    assert list(after.params) == list(zoo.build(after).state_dict())


@pytest.mark.parametrize("name", ["lenet-5-small", "resnet-8", "mlp-500-300", "vgg-small"])
def test_the_model_answers_as_before(name: str, mnist: Data, photos: Data) -> None:
    bundle = zoo.load(name)
    data = mnist if zoo.entry(name).data == "mnist" else photos
    for what in ("fold", "both"):
        after, _ = apply(bundle, step("equalize", what=what), data)
        assert_equal_answers(bundle, after, data)


def test_ranges_are_equal_on_both_sides_afterwards(done: tuple[Bundle, Report]) -> None:
    table = done[1].tables["channels"]
    assert table["layer"].unique().tolist() == [f"layer{i}.0.conv1" for i in (1, 2, 3)]
    assert table["range_after"].tolist() == pytest.approx(table["reader_after"].tolist(), rel=1e-3)
    assert float((table["range_before"] / table["reader_before"]).max()) > 2
    assert any("nothing moved any more" in note for note in done[1].notes)
    figures = {figure.name: figure.value for figure in done[1].figures}
    assert figures["precision after equalizing"] > figures["precision before equalizing"]
    assert figures["answers differ by"] < 1e-5


def test_the_packed_file_has_no_batch_norm_and_answers_the_same(
    done: tuple[Bundle, Report], photos: Data
) -> None:
    rounded, _ = apply(done[0], step("quantize", bits=4, granularity="tensor"), None)
    again = packfile.unpack(packfile.pack(rounded))
    assert again.fingerprint == rounded.fingerprint
    assert not any("bn" in name for name in again.params)
    assert torch.equal(answers(again, photos), answers(rounded, photos))


def uneven(bundle: Bundle) -> Bundle:
    """The same answers from channels whose weights are of sizes between 1/10 and 10."""
    torch.manual_seed(0)
    params = {name: param.decode() for name, param in bundle.params.items()}
    for name, wide in (("conv1", "conv2"), ("conv2", "fc1"), ("fc1", "fc2")):
        factor = 10 ** (2 * torch.rand(len(params[f"{name}.bias"])) - 1)
        for own in ("weight", "bias"):
            shape = (-1, *[1] * (params[f"{name}.{own}"].dim() - 1))
            params[f"{name}.{own}"] /= factor.reshape(shape)
        weight = params[f"{wide}.weight"]
        places = factor.repeat_interleave(weight.shape[1] // len(factor))
        params[f"{wide}.weight"] = weight * places.reshape(1, -1, *[1] * (weight.dim() - 2))
    return Bundle(bundle.arch, {name: Dense(values) for name, values in params.items()})


def test_one_scale_per_layer_loses_far_less_where_channels_were_uneven(mnist: Data) -> None:
    bundle = uneven(zoo.load("lenet-5-small"))
    equal, report = apply(bundle, step("equalize"), mnist)
    rounding = step("quantize", bits=5, granularity="tensor")
    right = [
        measure.accuracy(apply(each, rounding, None)[0], mnist.validation.stratified(500)).value
        for each in (bundle, equal)
    ]
    assert right[1] > right[0] + 0.2
    layers = report.tables["layers"].set_index("layer")
    assert layers.loc["conv2", "precision_after"] > 2 * layers.loc["conv2", "precision_before"]


def test_it_wins_back_some_of_what_folding_costs_with_one_scale_per_layer(
    done: tuple[Bundle, Report], photos: Data
) -> None:
    folded, _ = apply(zoo.load("resnet-8"), step("equalize", what="fold"), photos)
    rounding, sample = step("quantize", bits=4, granularity="tensor"), photos.validation.stratified(500)
    before, after = (
        measure.accuracy(apply(each, rounding, None)[0], sample).value for each in (folded, done[0])
    )
    assert after > before + 0.03


def test_zeros_stay_and_codes_become_floats_that_are_said(mnist: Data) -> None:
    pruned, _ = apply(zoo.load("lenet-5-small"), step("prune_weights", sparsity=0.8), None)
    rounded, _ = apply(pruned, step("quantize", bits=4), None)
    after, report = apply(rounded, step("equalize"), mnist)
    for name, param in pruned.params.items():
        if len(param.shape) > 1:
            assert bool((after.params[name].decode()[param.decode() == 0] == 0).all())
    assert any("are 32-bit floats again: put quantize after" in note for note in report.notes)
    assert_equal_answers(rounded, after, mnist)


def test_batch_norm_stays_where_only_pairs_are_wanted(photos: Data) -> None:
    with_norm, report = apply(zoo.load("resnet-8"), step("equalize", what="equalize"), photos)
    assert with_norm.arch == zoo.load("resnet-8").arch
    assert any(note.startswith("These batch-norms stay: bn1,") for note in report.notes)
    assert "No two layers are a pair." in report.notes


def test_what_it_cannot_do_is_refused(mnist: Data) -> None:
    rounded, _ = apply(zoo.load("mlp-32"), step("quantize", activations="dynamic"), mnist)
    with pytest.raises(SlimscopeError, match="put equalize before the step"):
        apply(rounded, step("equalize"), mnist)
    with pytest.raises(SlimscopeError, match="is recurrent"):
        apply(zoo.load("lstm-32"), step("equalize"), mnist)
    with pytest.raises(SlimscopeError, match="must run the model"):
        apply(Bundle(Arch("bare"), {"a.weight": Dense(torch.ones(2, 2))}), step("equalize"), None)
    data = user_parts.task_of(odd_models.vectors(), "vectors")
    bundle, *_ = sources.adopt(odd_models.branching(), data)
    with pytest.raises(SlimscopeError, match="depends on the values"):
        apply(bundle, step("equalize"), data)
