"""SmoothQuant: answers stay, and where channels are outliers, rounding what enters layers loses far less."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets, user_parts
from engine.data.sets import Data
from engine.figures import measure
from engine.net import smoothing, sources, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import Dense
from engine.types import Bundle, SlimscopeError

NETS = ("transformer-topics", "lenet-5-small", "resnet-8", "mlp-32")


def data_of(name: str) -> Data:
    whole = sets.load(zoo.entry(name).data)
    parts = (part.stratified(200) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def topics() -> Data:
    return data_of("transformer-topics")


def answers(bundle: Bundle, data: Data) -> Tensor:
    return measure.logits(zoo.build(bundle), data.validation)


def test_two_channels_by_hand() -> None:
    """Inputs reach 16 and 1, weights 0.25 and 4: s = sqrt(16 / 0.25) = 8 and sqrt(1 / 4) = 0.5."""
    net: Any = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.eye(2))
        net[0].bias.copy_(torch.tensor([8.0, 0.5]))
        net[2].weight.copy_(torch.tensor([[0.25, 1.0], [-0.125, 4.0]]))
    rows = torch.tensor([[8.0, 0.5], [-20.0, -3.0]]).repeat(20, 1)
    sample = torch.utils.data.TensorDataset(rows, torch.arange(40) % 2)
    data = user_parts.task_of((sample, sample, sample), "rows")
    bundle = sources.adopt(net.eval(), data)[0]
    after, report = apply(bundle, step("smoothquant", alpha=0.5), data)
    assert report.tables["channels"].to_numpy().tolist() == [
        ["0", 0, 8.0, 16.0, 2.0, 0.25, 2.0],
        ["0", 1, 0.5, 1.0, 2.0, 4.0, 2.0],
    ]
    assert after.params["0.weight"].decode().tolist() == [[0.125, 0.0], [0.0, 2.0]]
    assert after.params["0.bias"].decode().tolist() == [1.0, 1.0]
    assert after.params["2.weight"].decode().tolist() == [[2.0, 0.5], [-1.0, 2.0]]
    assert torch.equal(after.params["2.bias"].decode(), bundle.params["2.bias"].decode())
    assert torch.equal(answers(after, data), answers(bundle, data))


@pytest.mark.parametrize("name", NETS)
def test_the_model_answers_as_before(name: str) -> None:
    bundle, data = zoo.load(name), data_of(name)
    for alpha in (0.0, 0.5, 1.0):
        after, report = apply(bundle, step("smoothquant", alpha=alpha, calibration=64), data)
        old, new = answers(bundle, data), answers(after, data)
        assert float((old - new).abs().max()) <= 1e-5 * float(old.abs().max())
        assert len(report.tables["layers"]) > 0


def test_factors_are_those_of_a_plain_loop(topics: Data) -> None:
    """The oracle reads what enters query, key and value, and takes the largest of all three matrices."""
    bundle = zoo.load("transformer-topics")
    after, _ = apply(bundle, step("smoothquant", alpha=0.7, calibration=100), topics)
    net, highs = zoo.build(bundle), list[Tensor]()
    norm = net.get_submodule("layers.1.norm1")
    hook = norm.register_forward_hook(lambda module, args, output: highs.append(output))
    with torch.no_grad():
        net(topics.train.stratified(100).inputs())
    hook.remove()
    names = [f"layers.1.attention.{which}.weight" for which in ("query", "key", "value")]
    for channel in range(0, 96, 7):
        x = float(highs[0][:, :, channel].abs().max())
        w = max(float(bundle.params[name].decode()[:, channel].abs().max()) for name in names)
        s = x**0.7 / w**0.3
        for name in ("layers.1.norm1.weight", "layers.1.norm1.bias"):
            was, now = (each.params[name].decode()[channel] for each in (bundle, after))
            assert float(now) == pytest.approx(float(was) / s, rel=1e-4)
        for name in names:
            was, now = (each.params[name].decode()[:, channel] for each in (bundle, after))
            assert torch.allclose(now, was * s, rtol=1e-4)


def with_outliers(bundle: Bundle) -> Bundle:
    """The same answers, from three channels of each normalisation that are 100 times as wide."""
    params = {name: param.decode().clone() for name, param in bundle.params.items()}
    for i in range(4):
        for norm, readers in (("norm1", ("query", "key", "value")), ("norm2", ("fc1",))):
            for own in ("weight", "bias"):
                params[f"layers.{i}.{norm}.{own}"][:3] *= 100
            for reader in readers:
                inside = reader if reader == "fc1" else f"attention.{reader}"
                params[f"layers.{i}.{inside}.weight"][:, :3] /= 100
    return Bundle(bundle.arch, {name: Dense(values) for name, values in params.items()})


def test_outliers_that_ruin_rounding_do_so_no_more(topics: Data) -> None:
    bundle = with_outliers(zoo.load("transformer-topics"))
    smooth, report = apply(bundle, step("smoothquant"), topics)
    rounding = step("quantize", bits=8, granularity="tensor", activations="token", activation_bits=6)
    lost = [
        float((answers(apply(each, rounding, topics)[0], topics) - answers(bundle, topics)).norm())
        for each in (bundle, smooth)
    ]
    assert lost[1] < 0.2 * lost[0]
    layers = report.tables["layers"].set_index("layer")
    assert layers.loc["layers.0.fc1", "error_after"] < 0.2 * layers.loc["layers.0.fc1", "error_before"]
    assert (
        layers.loc["layers.0.fc1", "input_precision_after"]
        > layers.loc["layers.0.fc1", "input_precision_before"]
    )


def test_the_curve_of_errors_meets_the_table_and_its_start(topics: Data) -> None:
    bundle = zoo.load("transformer-topics")
    _, report = apply(bundle, step("smoothquant", alpha=0.25, calibration=100), topics)
    *errors, still = smoothing.error_along(bundle, topics.train, 100, "layers.2.fc2")
    row = report.tables["layers"].set_index("layer").loc["layers.2.fc2"]
    assert errors[smoothing.ALPHAS.index(0.25)] == pytest.approx(row["error_after"])
    assert still == pytest.approx(row["error_before"])


def test_where_nothing_migrates_nothing_changes_and_the_rest_is_named(topics: Data) -> None:
    bundle = zoo.load("transformer-topics")
    readers = [
        name.removesuffix(".weight") for name in bundle.params if name.endswith(("query.weight", "c1.weight"))
    ]
    some, report = apply(bundle, step("smoothquant", leave_out=tuple(readers), calibration=64), topics)
    moved = {name for name, param in some.params.items() if param is not bundle.params[name]}
    assert not any("norm1" in name or "norm2" in name or "key" in name for name in moved)
    assert {"layers.0.fc1.weight", "layers.0.fc2.weight", "norm.weight", "fc.weight"} <= moved
    named = next(note for note in report.notes if note.startswith("What these layers read stays"))
    assert "layers.0.attention.out" in named
    ends = (*readers, *(f"layers.{i}.fc2" for i in range(4)), "fc")
    none, _ = apply(bundle, step("smoothquant", leave_out=ends, calibration=64), topics)
    assert none.fingerprint == bundle.fingerprint


def test_zeros_stay_and_codes_become_floats_that_are_said() -> None:
    data = data_of("lenet-5-small")
    pruned, _ = apply(zoo.load("lenet-5-small"), step("prune_weights", sparsity=0.8), None)
    rounded, _ = apply(pruned, step("quantize", bits=4), None)
    after, report = apply(rounded, step("smoothquant"), data)
    for name, param in pruned.params.items():
        if len(param.shape) > 1:
            assert bool((after.params[name].decode()[param.decode() == 0] == 0).all())
    assert any("are 32-bit floats again: put quantize after" in note for note in report.notes)


def test_what_it_cannot_do_is_refused(topics: Data) -> None:
    rounded, _ = apply(zoo.load("transformer-topics"), step("quantize", activations="token"), topics)
    with pytest.raises(SlimscopeError, match="put smoothquant before the step"):
        apply(rounded, step("smoothquant"), topics)
    with pytest.raises(SlimscopeError, match="is recurrent"):
        apply(zoo.load("lstm-32"), step("smoothquant"), data_of("lstm-32"))
    rows = torch.utils.data.TensorDataset(torch.randn(40, 3), torch.arange(40) % 2)
    data = user_parts.task_of((rows, rows, rows), "rows")
    bundle = sources.adopt(nn.Sequential(nn.Linear(3, 2)).eval(), data)[0]
    with pytest.raises(SlimscopeError, match="nothing in front of a layer can be divided exactly"):
        apply(bundle, step("smoothquant"), data)
