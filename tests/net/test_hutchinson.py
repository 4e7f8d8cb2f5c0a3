"""The trace by random signs: exact on a diagonal Hessian, near the whole Hessian of a net, and seeded."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from engine.data.sets import Samples
from engine.net import curvature, hutchinson


def samples(n: int = 40) -> Samples:
    chance = torch.Generator().manual_seed(1)
    return Samples(torch.randn(n, 6, generator=chance), torch.arange(n) % 3, (), ())


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def test_by_hand() -> None:
    """Two classes, x = 2, weights 0, p = 1/2: H = x^2 / 4 (1, -1; -1, 1), of trace 2; v^T H v is 0 or 4."""
    line = nn.Linear(1, 2, bias=False)
    nn.init.zeros_(line.weight)
    one = Samples(torch.tensor([[2.0]]), torch.tensor([0]), (), ())
    found = hutchinson.traces(line, one, 0, draws=400)["weight"]
    assert set(found.tolist()) == {0.0, 4.0}
    assert float(found.mean()) == pytest.approx(2.0, abs=4 * 2 / 400**0.5)


def test_it_is_the_trace_of_the_hessian_within_its_error() -> None:
    model, some = net(), samples()
    for name, weight in curvature.weights_of(model).items():

        def loss(value: torch.Tensor, name: str = name) -> torch.Tensor:
            answers = torch.func.functional_call(model, {name: value}, (some.inputs(),))
            return F.cross_entropy(answers, some.labels)

        whole = torch.autograd.functional.hessian(loss, weight.detach()).reshape(
            weight.numel(), weight.numel()
        )
        found = hutchinson.traces(model, some, 0, draws=150)[name]
        error = float(found.std()) / len(found) ** 0.5
        assert float(found.mean()) == pytest.approx(float(whole.trace()), abs=4 * error)
        assert error < 0.1 * float(whole.trace())
        exact = curvature.diagonal(net(), some)[name]
        assert float(exact.sum()) == pytest.approx(float(whole.trace()), rel=1e-4)


def test_a_seed_fixes_it_and_the_last_batch_counts_by_its_samples() -> None:
    model, some = net(), samples(13)  # a batch of 10 and one of 3
    one, other, third = (hutchinson.traces(model, some, seed, draws=2)["0.weight"] for seed in (3, 3, 4))
    assert one.tolist() == other.tolist() != third.tolist()
    assert len(one) == 4
