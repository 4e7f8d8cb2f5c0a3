"""Analytic clipping on nets: budgets hold, means are kept, and the claim on 4 bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.file import packfile
from engine.net import zoo
from engine.recipe import run
from engine.tensor.formats import Dense, Rows
from engine.types import Arch, Bundle, FormatError, Report, Step, weight_layers


def applied(bundle: Bundle, **settings: Any) -> tuple[Bundle, Report]:
    return run.apply(bundle, Step("aciq", settings), None)


@pytest.fixture(scope="module")
def net() -> Bundle:
    return zoo.load("lenet-300-100")


@pytest.fixture(scope="module")
def uneven() -> Bundle:
    """Outputs whose weights are of sizes between 1 and 32, with long tails."""
    torch.manual_seed(0)
    sizes = torch.logspace(0, 5, 64, base=2)[:, None]
    weight = sizes * torch.distributions.Laplace(0.0, 1.0).sample((64, 400))
    return Bundle(Arch("bare"), {"a.weight": Dense(weight)})


def noise(bundle: Bundle, **settings: Any) -> float:
    return float(applied(bundle, **settings)[1].figures[1].value)


def test_a_row_by_hand() -> None:
    """E|w| is 1, and 2 bits are 3 bins; the clip solves a exp(a) = 27, and a bin is 2/3 of it wide."""
    bundle = Bundle(Arch("bare"), {"a.weight": Dense(torch.tensor([[2.0, -1.0, 0.5, -0.5, 0.0]]))})
    after, _ = applied(bundle, bits=2, distribution="laplace", correction=False)
    param = after.params["a.weight"]
    assert isinstance(param, Rows)
    assert float(param.scale) == pytest.approx(2 / 3 * 2.4144, abs=1e-3)
    assert param.codes.tolist() == [[1, -1, 0, 0, 0]]


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_the_mean_width_stays_within_its_budget(net: Bundle, bits: int) -> None:
    after, _ = applied(net, bits=bits)
    for weight in weight_layers(net).values():
        assert float(after.params[weight].tensors()["bits"].double().mean()) <= bits


def test_clips_of_the_formula_lose_less_than_the_extremes_in_four_bits(uneven: Bundle) -> None:
    weight = uneven.params["a.weight"].decode()
    plain, _ = run.apply(uneven, Step("quantize", {"bits": 4}), None)
    extremes = float((plain.params["a.weight"].decode() - weight).square().mean())
    assert noise(uneven, bits=4, allocation="equal", correction=False) < extremes / 1.3


def test_bits_by_spread_lose_less_than_equal_bits(uneven: Bundle) -> None:
    settings = {"bits": 4, "correction": False}
    assert noise(uneven, **settings) < noise(uneven, allocation="equal", **settings) / 1.5


def test_means_and_deviations_of_outputs_are_kept(net: Bundle) -> None:
    after, _ = applied(net, bits=3)
    for weight in weight_layers(net).values():
        was, now = net.params[weight].decode().double(), after.params[weight].decode().double()
        assert now.mean(1).tolist() == pytest.approx(was.mean(1).tolist(), abs=1e-6)
        assert now.std(1).tolist() == pytest.approx(was.std(1).tolist(), rel=1e-5)


def test_zeros_stay_where_means_are_corrected(net: Bundle) -> None:
    pruned, _ = run.apply(net, Step("prune_weights", {"sparsity": 0.6}), None)
    after, _ = applied(pruned, bits=3)
    for weight in weight_layers(net).values():
        assert torch.equal(after.params[weight].decode() == 0, pruned.params[weight].decode() == 0)


def test_the_file_takes_the_rows_bits(net: Bundle) -> None:
    after, report = applied(net, bits=4)
    data = packfile.pack(after)
    assert packfile.unpack(data).fingerprint == after.fingerprint
    bits = report.figures[0].value
    assert 8 * len(data) / 266_200 < bits + 0.2
    assert bits < 4 + 0.2  # a scale, an offset and a width for each of 410 rows


def test_rows_that_do_not_fit_are_refused() -> None:
    two = torch.tensor([2], dtype=torch.int32)
    with pytest.raises(FormatError, match="a code of 'w' does not fit the bits of its row"):
        Rows(torch.tensor([[2]]), two, torch.ones(1), torch.zeros(1)).check("w")
    good = Rows(torch.tensor([[1, 0]], dtype=torch.int32), two, torch.ones(1), torch.zeros(1))
    parts = [bytes(data) for *_, data in good.sections()]
    with pytest.raises(FormatError, match="unknown kind"):
        Rows.from_sections("w", [1, 2], [True], ["packed", "raw", "packed"], iter(parts))
    wide = Rows(good.codes, two + 15, good.scale, good.offset)
    parts = [bytes(data) for *_, data in wide.sections()]
    with pytest.raises(FormatError, match="rows of 'w' have 17 to 17 bits: allowed are 2 to 16"):
        Rows.from_sections("w", [1, 2], [False], ["packed", "raw", "packed"], iter(parts))
