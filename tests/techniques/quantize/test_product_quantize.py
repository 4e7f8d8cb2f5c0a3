"""Product quantization of models: bits, what the inputs are good for, zeros, and where it says no."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run
from engine.tensor.formats import Dense, Product
from engine.types import Arch, Bundle, Report, SlimscopeError, Step, weight_layers


def applied(bundle: Bundle, data: Data | None = None, **settings: Any) -> tuple[Bundle, Report]:
    return run.apply(bundle, Step("product_quantize", settings), data)


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("mlp-32")


@pytest.fixture(scope="module")
def mnist() -> Data:
    return sets.load("mnist")


@pytest.fixture(scope="module")
def both(net: Bundle, mnist: Data) -> dict[str, tuple[Bundle, Report]]:
    return {error: applied(net, mnist, error=error) for error in ("weights", "outputs")}


def figure(report: Report, name: str) -> float:
    return next(float(each.value) for each in report.figures if each.name == name)


def test_bits_are_those_of_codes_and_tables_by_hand(both: dict[str, tuple[Bundle, Report]]) -> None:
    """fc1 is 784 x 32, fc2 32 x 10: 6,272 and 80 sub-vectors of 6 bits, and 64 x 4 floats each."""
    report = both["weights"][1]
    bits = 6 * (6272 + 80) + 2 * 64 * 4 * 32
    assert figure(report, "bits per weight") == pytest.approx(bits / (25_088 + 320))
    assert figure(report, "share of the tables") == pytest.approx(2 * 64 * 4 * 32 / bits)
    assert report.notes == ("The table takes more bits than the codes in fc2.",)
    assert "output_error" not in report.tables["layers"]


def test_a_sixteenth_of_the_size_costs_less_than_a_point(
    net: Bundle, mnist: Data, both: dict[str, tuple[Bundle, Report]]
) -> None:
    """101,800 bytes of floats at 96.86 % become about 6,050 at 96.9 % on the validation part."""
    after = both["outputs"][0]
    assert len(packfile.pack(after)) < 4 * 25_450 / 16
    lost = measure.accuracy(net, mnist.validation).value - measure.accuracy(after, mnist.validation).value
    assert lost < 0.01


def test_at_fewer_bits_the_error_is_less_than_that_of_shared_weights(
    net: Bundle, both: dict[str, tuple[Bundle, Report]]
) -> None:
    """Pixels beside one another have weights that are alike: 1.83 bits are better than 2 in fc1."""
    four = run.apply(net, Step("share_weights", {"entries": 4}), None)[1]
    shared, table = (each.tables["layers"].set_index("layer") for each in (four, both["weights"][1]))
    assert table.loc["fc1", "bits_per_weight"] < shared.loc["fc1", "bits_per_weight"]
    assert table.loc["fc1", "mse"] < shared.loc["fc1", "mse"]


def test_with_the_inputs_known_the_outputs_of_the_validation_part_are_nearer(
    net: Bundle, mnist: Data, both: dict[str, tuple[Bundle, Report]]
) -> None:
    wanted = measure.logits(zoo.build(net), mnist.validation)
    plain, aware = (
        float((measure.logits(zoo.build(after), mnist.validation) - wanted).norm())
        for after, _ in both.values()
    )
    assert aware < 0.85 * plain
    table = both["outputs"][1].tables["layers"].set_index("layer")
    assert table.loc["fc1", "output_error"] < 0.8 * table.loc["fc1", "output_error_plain"]
    assert figure(both["outputs"][1], "mean squared error") > figure(both["weights"][1], "mean squared error")


def test_zeros_of_pruning_stay_in_dense_layers_and_convolutions(mnist: Data) -> None:
    pruned = run.apply(zoo.load("lenet-5-small"), Step("prune_weights", {"sparsity": 0.6}), None)[0]
    after, _ = applied(pruned, mnist, error="outputs", samples=50)
    for name in weight_layers(pruned).values():
        assert isinstance(after.params[name], Product)
        assert torch.equal(after.params[name].decode() == 0, pruned.params[name].decode() == 0)
    assert packfile.difference(packfile.unpack(packfile.pack(after)), after) is None


def test_a_recurrent_matrix_is_found_by_its_weights_and_named(mnist: Data) -> None:
    after, report = applied(zoo.load("lstm-32"), mnist, error="outputs", samples=50)
    assert any("of the weights counts in lstm.weight_ih_l0, lstm.weight_hh_l0." in n for n in report.notes)
    plain = applied(zoo.load("lstm-32"))[0]
    assert torch.equal(after.params["lstm.weight_hh_l0"].decode(), plain.params["lstm.weight_hh_l0"].decode())


def test_outputs_need_a_model_that_runs() -> None:
    bare = Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(8, 16))})
    with pytest.raises(SlimscopeError, match="choose error = 'weights'"):
        applied(bare, error="outputs")
    assert len(applied(bare, entries=4)[1].tables["layers"]) == 1
