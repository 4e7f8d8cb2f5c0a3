"""The entropy penalty on nets: nearest codes at 0, exact zeros, what it buys, and where it is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run
from engine.tensor import grids
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Arch, Bundle, Report, SlimscopeError, Step, weight_layers


def applied(bundle: Bundle, data: Any = None, **settings: Any) -> tuple[Bundle, Report]:
    return run.apply(bundle, Step("entropy_penalty", settings), data)


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("lenet-300-100")


def figure(report: Report, name: str) -> float:
    return next(float(each.value) for each in report.figures if each.name == name)


def test_without_a_price_each_weight_gets_its_nearest_code(net: Bundle) -> None:
    nearest = run.apply(net, Step("quantize", {"bits": 5}), None)[0]
    after, report = applied(net, bits=5, penalty=0.0)
    for name in weight_layers(net).values():
        assert torch.equal(after.params[name].decode(), nearest.params[name].decode())
    assert figure(report, "moved") == 0.0


def test_codes_move_towards_zero_only_and_by_one_step_or_to_zero(net: Bundle) -> None:
    pruned = run.apply(net, Step("prune_weights", {"sparsity": 0.6}), None)[0]
    before = applied(pruned, penalty=0.0)[0]
    after, report = applied(pruned, penalty=1.0)
    for name in weight_layers(net).values():
        one, other = (each.params[name].tensors()["codes"] for each in (before, after))
        assert bool(((other == one) | (other == 0) | (other == one - one.sign())).all())
        assert not after.params[name].decode()[pruned.params[name].decode() == 0].any()
    table = report.tables["layers"]
    assert figure(report, "moved") == pytest.approx(
        float((table["moved"] * table["weights"]).sum() / table["weights"].sum())
    )


def test_a_third_of_the_file_goes_and_no_accuracy(net: Bundle) -> None:
    """5 bits on LeNet-300-100: 107,806 bytes at 99.40 % become 68,133 at 99.34 % on the validation part."""
    part = sets.load("mnist").validation
    nearest = run.apply(net, Step("quantize", {"bits": 5}), None)[0]
    after = applied(net)[0]
    assert len(packfile.pack(after)) < 0.66 * len(packfile.pack(nearest))
    lost = measure.accuracy(nearest, part).value - measure.accuracy(after, part).value
    assert lost < 0.002


def test_curvature_spends_bits_where_the_loss_notices_them(net: Bundle) -> None:
    data = sets.load("mnist")
    report = applied(net, data, importance="curvature", penalty=0.05)[1]
    moved = dict(zip(report.tables["layers"]["layer"], report.tables["layers"]["moved"], strict=True))
    assert moved["fc1"] > 2 * moved["fc3"], "most of what sees the images matters little"


def test_a_layer_that_a_high_price_empties_is_named(net: Bundle) -> None:
    report = applied(net, bits=2, penalty=4.0)[1]
    assert any(note.startswith("No weight is left in fc1") for note in report.notes)


def test_curvature_needs_a_model_that_runs() -> None:
    bare = Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(8, 16))})
    with pytest.raises(SlimscopeError, match="importance = 'equal'"):
        applied(bare, importance="curvature")
    assert applied(bare)[1].tables["layers"]["coded_bits"].sum() > 0


def test_weights_that_lie_on_a_grid_keep_it_and_their_codes_move() -> None:
    """A grid of LSQ, codes 0 to 7 around 4: its step stays, and 4 is what a weight of zero has."""
    first = zoo.load("mlp-32")
    names = list(weight_layers(first).values())
    on = first.become({**first.params, **{n: grids.learned(first.params[n].decode(), 3) for n in names}})
    same, report = applied(on, grid="own", penalty=0.0)
    assert figure(report, "moved") == 0.0
    assert same.fingerprint == on.fingerprint
    after, report = applied(on, grid="own", penalty=0.5)
    for name in names:
        before, now = on.params[name], after.params[name]
        assert isinstance(before, AffineGrid)
        assert isinstance(now, AffineGrid)
        assert torch.equal(now.scale, before.scale)
        assert torch.equal(now.zero, before.zero)
        one, other = before.codes - 4, now.codes - 4
        assert bool(((other == one) | (other == 0) | (other == one - one.sign())).all())
    assert figure(report, "moved") > 0.05
    assert len(packfile.pack(after)) < 0.95 * len(packfile.pack(on))
