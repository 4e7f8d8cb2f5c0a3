"""Learned rounding as a step: layers give what they gave, better than with the nearest levels."""

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.net import zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, Cancelled, Progress, Report


@pytest.fixture(scope="module")
def mnist() -> Data:
    whole = sets.load("mnist")
    parts = (part.stratified(400) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def learned(mnist: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load("mlp-32"), step("adaround", steps=300), mnist)


def test_at_4_bits_every_layers_outputs_are_nearer_than_with_nearest_levels(
    learned: tuple[Bundle, Report],
) -> None:
    table = learned[1].tables["layers"].set_index("layer")
    assert table.index.tolist() == ["fc1", "fc2"]
    assert bool((table["error_learned"] < table["error_nearest"]).all())
    assert table.loc["fc1", "error_learned"] < 0.75 * table.loc["fc1", "error_nearest"]
    assert table.loc["fc1", "points"] == 320


def test_weights_are_on_the_same_grid_as_the_nearest_ones(
    learned: tuple[Bundle, Report], mnist: Data
) -> None:
    nearest, _ = apply(zoo.load("mlp-32"), step("quantize", bits=4, range="mse"), None)
    for row, name in enumerate(("fc1.weight", "fc2.weight")):
        one, other = learned[0].params[name], nearest.params[name]
        assert isinstance(one, AffineGrid)
        assert isinstance(other, AffineGrid)
        assert torch.equal(one.scale, other.scale)
        assert int((one.codes - other.codes).abs().max()) == 1
        moved = float((one.codes != other.codes).float().mean())
        assert learned[1].tables["layers"]["other_level"][row] == pytest.approx(moved)


def test_zeros_stay_and_convolutions_are_matched_at_some_places(mnist: Data) -> None:
    pruned, _ = apply(zoo.load("lenet-5-small"), step("prune_weights", sparsity=0.5), None)
    after, report = apply(pruned, step("adaround", steps=100, samples=100), mnist)
    gone = pruned.params["conv2.weight"].decode() == 0
    assert bool((after.params["conv2.weight"].decode()[gone] == 0).all())
    assert report.tables["layers"]["points"].tolist() == [800, 800, 80, 80]


def test_what_cannot_be_matched_is_rounded_to_nearest_and_named(mnist: Data) -> None:
    after, report = apply(zoo.load("lstm-32"), step("adaround", steps=100, samples=50), mnist)
    assert any("Rounded to nearest: lstm." in note for note in report.notes)
    nearest, _ = apply(zoo.load("lstm-32"), step("quantize", bits=4, range="mse"), None)
    name = next(name for name in after.params if "weight_hh" in name)
    assert torch.equal(after.params[name].decode(), nearest.params[name].decode())


def test_it_can_be_stopped(mnist: Data) -> None:
    told: list[float] = []
    progress = Progress(lambda done, row: told.append(done), lambda: len(told) > 5)
    with pytest.raises(Cancelled):
        apply(zoo.load("mlp-32"), step("adaround", steps=100), mnist, progress)
    assert told == sorted(told)
