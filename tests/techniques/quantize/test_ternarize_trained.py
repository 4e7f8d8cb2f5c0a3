"""Trained ternary: a step of it by hand, what is stored, which layers stay, and its worth."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import assert_resumes_exactly
from torch import nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import few_bits, measure
from engine.file import packfile
from engine.net import zoo
from engine.net.train import stored, train_on
from engine.recipe.run import apply
from engine.tensor.formats import Codebook, Dense
from engine.tensor.ternary import ThreeValues, scaled, three_values
from engine.types import Bundle, Progress, Report, SlimscopeError, Step, weight_layers


def some(train: int, rest: int) -> Data:
    whole = sets.load("mnist")
    counts = zip((whole.train, whole.validation, whole.test), (train, rest, rest), strict=True)
    return Data(whole.name, *(part.stratified(n) for part, n in counts), whole.classes)


@pytest.fixture(scope="module")
def small() -> Data:
    return some(400, 200)


@pytest.fixture(scope="module")
def trained(small: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load("lenet-5-small"), Step("ternarize_trained", {"epochs": 2}), small)


# ---------------------------------------------------------------- by hand, and against the closed form


def test_one_step_of_training_by_hand() -> None:
    """Largest 1, so the threshold is 0.2: the weights are p, 0, -n, -n, with gradients 1, 10, 100, 1000."""
    layer = nn.Linear(4, 1, bias=False)
    latent = torch.tensor([[1.0, -0.1, -0.5, -0.3]])
    layer.weight.data = latent.clone()
    book = three_values(latent, 0.2)
    assert book.table.tolist() == pytest.approx([-0.4, 0.0, 1.0])
    part = train_on(layer, {"weight": book}, way=lambda book: ThreeValues(book, 0.2))
    layer(torch.tensor([[1.0, 10.0, 100.0, 1000.0]])).sum().backward()
    torch.optim.SGD([*layer.parameters()], 1e-4).step()
    after = stored(layer, part)["weight"]
    assert isinstance(after, Codebook)
    assert after.table.tolist() == pytest.approx([-(0.4 + 1e-4 * 1100), 0.0, 1.0 - 1e-4])
    moved = layer.parametrizations.weight.original  # type: ignore[union-attr]
    by_hand = [1.0 - 1e-4, -0.1 - 1e-3, -0.5 - 0.4e-2, -0.3 - 0.4e-1]  # gradients times p, 1, n, n
    assert moved.flatten().tolist() == pytest.approx(by_hand)  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("share", [0.05, 0.3])
def test_gradients_are_those_of_the_papers_formula(share: float) -> None:
    random = torch.Generator().manual_seed(0)
    latent = scaled(torch.randn(30, 20, generator=random)).requires_grad_()
    back = torch.randn(30, 20, generator=random)
    module = ThreeValues(three_values(latent, share), share)
    (module(latent) * back).sum().backward()
    p, n = module.positive, module.negative
    above, below = latent > share, latent < -share
    assert torch.equal(module(latent), torch.where(above, p, torch.where(below, -n, 0.0)))
    assert p.grad is not None and n.grad is not None  # noqa: PT018  (for the type checker)
    assert float(p.grad) == pytest.approx(float(back[above].sum()), rel=1e-4)
    assert float(n.grad) == pytest.approx(-float(back[below].sum()), rel=1e-4)
    slope = torch.where(above, p, torch.where(below, n, torch.ones(())))
    assert latent.grad is not None
    assert torch.allclose(latent.grad, slope * back)


def test_the_scales_of_the_start_have_the_least_squared_error() -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(1))
    book = three_values(values, 0.2)
    error = float((book.decode() - values).square().sum())
    for at in (0, 2):
        for factor in (0.99, 1.01):
            table = book.table.clone()
            table[at] *= factor
            assert float((Codebook(book.codes, table).decode() - values).square().sum()) > error


def test_a_side_without_weights_has_the_scale_of_the_other_and_zeros_stay() -> None:
    assert three_values(torch.tensor([2.0, 4.0, 0.0]), 0.1).table.tolist() == [-3.0, 0.0, 3.0]
    assert not three_values(torch.zeros(2, 3), 0.1).decode().any()
    assert not scaled(torch.zeros(2)).any()


def test_a_scale_that_was_driven_below_zero_is_stored_above_it() -> None:
    module = ThreeValues(three_values(torch.tensor([1.0, -1.0]), 0.1), 0.1)
    with torch.no_grad():
        module.positive.fill_(-3.0)
    table = module.encode(torch.tensor([1.0, -1.0])).table
    assert table[0] == -1.0
    assert 0 < table[2] < 1e-30


# ---------------------------------------------------------------- on models


def test_the_file_is_what_was_trained(trained: tuple[Bundle, Report], small: Data) -> None:
    after, report = trained
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, small.test), measure.predictions(after, small.test))
    said = {figure.name: figure.value for figure in report.figures}
    start, *_, last = report.tables["curve"]["validation accuracy"]
    right = measure.accuracy(again, small.validation).value
    assert said["validation accuracy after"] == right == pytest.approx(last)
    assert said["validation accuracy, rounded and not trained"] == start < right
    layers = report.tables["layers"].set_index("layer")
    for label, name in weight_layers(after).items():
        param = after.params[name]
        assert isinstance(param, Codebook)
        assert param.table.tolist() == pytest.approx(
            [-layers.loc[label, "negative"], 0.0, layers.loc[label, "positive"]]
        )
        assert int((param.decode() == 0).sum()) == layers.loc[label, "zeros"]
        assert layers.loc[label, "bits_per_weight"] < 2 + 104 / param.codes.numel()


def test_scales_are_told_after_each_epoch(small: Data) -> None:
    rows: list[dict[str, float]] = []
    progress = Progress(lambda share, row: rows.append(dict(row or {})))
    _, report = apply(zoo.load("mlp-32"), Step("ternarize_trained", {"epochs": 2}), small, progress)
    steps, layers = report.tables["steps"], report.tables["layers"]
    assert few_bits.step_table(rows).equals(steps)
    last = steps[(steps["epoch"] == 2) & (steps["of"] == "positive weights")]["times_first"]
    assert last.tolist() == pytest.approx((layers["positive"] / layers["first_positive"]).tolist())


def test_the_ends_may_stay_floats_where_there_is_a_middle(small: Data) -> None:
    step = Step("ternarize_trained", {"epochs": 1, "keep_ends": True})
    after, report = apply(zoo.load("lenet-5-small"), step, small)
    kinds = [type(after.params[name]) for name in weight_layers(after).values()]
    assert kinds == [Dense, Codebook, Codebook, Dense]
    assert report.tables["layers"]["layer"].tolist() == ["conv2", "fc1"]
    with pytest.raises(SlimscopeError, match=r"keep_ends is on, and the model has 2 layers .* switch it off"):
        apply(zoo.load("mlp-32"), step, small)


def test_pruned_weights_stay_zero_and_those_below_the_threshold_may_come_back(small: Data) -> None:
    pruned, _ = apply(zoo.load("mlp-32"), Step("prune_weights", {"sparsity": 0.8}), None)
    for keep in (True, False):
        step = Step("ternarize_trained", {"epochs": 3, "keep_zeros": keep, "learning_rate": 0.05})
        after, _ = apply(pruned, step, small)
        zero = pruned.params["fc1.weight"].decode() == 0
        assert bool((after.params["fc1.weight"].decode()[zero] == 0).all()) == keep


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(small: Data, tmp_path: Path) -> None:
    assert_resumes_exactly(zoo.load("mlp-32"), Step("ternarize_trained", {"epochs": 2}), small, 6, tmp_path)


def test_trained_it_is_far_better_than_the_exact_three_values_untrained() -> None:
    """The claim: 3,000 images, 3 epochs; 1,000 images judge both, and the files are about as long."""
    data, bundle = some(3000, 1000), zoo.load("lenet-5-small")
    untrained, _ = apply(bundle, Step("ternarize", {"granularity": "tensor"}), data)
    trained, _ = apply(bundle, Step("ternarize_trained", {"epochs": 3}), data)
    answers = [measure.predictions(each, data.test) for each in (untrained, trained)]
    gain = measure.paired_difference(*answers, data.test.labels)
    assert gain.spread is not None
    assert gain.spread[0] > 0.1
    assert packfile.size(trained).value < 1.1 * packfile.size(untrained).value
