"""Trained centroids: summed gradients, one step by hand, zeros, ties, and the file is what was trained."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import assert_resumes_exactly
from torch import nn
from torch.nn import functional as F

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.file import packfile
from engine.net import zoo
from engine.net.train import Plan, fit, stored, train_on
from engine.recipe.run import apply
from engine.tensor.formats import AffineGrid, Centroids, Codebook, Product, SharedVectors
from engine.types import Bundle, SlimscopeError, Step, weight_layers


@pytest.fixture(scope="module")
def small() -> Data:
    whole = sets.load("mnist")
    parts = (
        part.stratified(n)
        for part, n in zip((whole.train, whole.validation, whole.test), (400, 200, 200), strict=True)
    )
    return Data(whole.name, *parts, whole.classes)


def shared(net: str = "mlp-32", sparsity: float = 0.8, entries: int = 4) -> Bundle:
    pruned, _ = apply(zoo.load(net), Step("prune_weights", {"sparsity": sparsity}), None)
    return apply(pruned, Step("share_weights", {"entries": entries}), None)[0]


def books(bundle: Bundle) -> dict[str, Codebook]:
    return {name: p for name, p in bundle.params.items() if isinstance(p, Codebook)}


def test_an_entrys_gradient_is_the_sum_of_its_weights_gradients() -> None:
    bundle = shared()
    inputs, labels = torch.randn(30, 1, 28, 28), torch.arange(30) % 10
    plain = zoo.fork(bundle)
    F.cross_entropy(plain(inputs), labels).backward()
    net = zoo.fork(bundle)
    part = train_on(net, books(bundle), way=Centroids)
    F.cross_entropy(net(inputs), labels).backward()
    for name, book in books(bundle).items():
        of_weights = plain.get_parameter(name).grad
        assert of_weights is not None
        for entry, value in enumerate(book.table.tolist()):
            summed = float(of_weights[book.codes == entry].double().sum()) if value else 0.0
            ours = part.module.get_parameter(f"{name.replace('.', '/')}.table").grad
            assert ours is not None
            assert float(ours[entry]) == pytest.approx(summed, rel=1e-4, abs=1e-6)


def test_one_step_by_hand() -> None:
    layer = nn.Linear(4, 1, bias=False)
    book = Codebook(torch.tensor([[1, 0, 1, 2]], dtype=torch.int32), torch.tensor([0.0, 1.0, -2.0]))
    part = train_on(layer, {"weight": book}, way=Centroids)
    (layer(torch.tensor([[1.0, 10.0, 100.0, 1000.0]]))).sum().backward()
    torch.optim.SGD(part.parameters(), 0.01).step()
    after = stored(layer, part)["weight"]
    assert isinstance(after, Codebook)
    assert after.table.tolist() == pytest.approx([0.0, 1 - 0.01 * 101, -2 - 0.01 * 1000], rel=1e-5)
    assert torch.equal(after.codes, book.codes)
    assert torch.equal(layer.weight, after.decode())


@pytest.mark.parametrize("net", ["mlp-32", "lenet-5-small", "lstm-32"])
def test_what_is_stored_answers_as_what_was_trained(net: str, small: Data) -> None:
    bundle = shared(net)
    trained = zoo.fork(bundle)
    part = train_on(trained, books(bundle), way=Centroids)
    fit(trained, small.train, Plan(1, 0.001, "adam", clip_norm=1.0), parts=(part,))
    names = {**bundle.params, **stored(trained, part)}
    state = {name: param.decode() for name, param in names.items() if name not in books(bundle)}
    live = {name: value for name, value in trained.state_dict().items() if name in state}
    again = zoo.fork(bundle)
    with torch.no_grad():
        for name, parameter in again.named_parameters():
            parameter.copy_(live.get(name, names[name].decode()))
    again.eval()
    inputs = small.test.inputs(torch.arange(50))
    torch.testing.assert_close(again(inputs), trained(inputs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("moves", ["centroids", "weights"])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_it_learns_and_stays_shared(moves: str, optimizer: str, small: Data) -> None:
    before = shared()
    rate = 0.002 if optimizer == "adam" else 0.0005
    settings = {"epochs": 4, "learning_rate": rate, "moves": moves, "optimizer": optimizer}
    after, report = apply(before, Step("train_centroids", settings), small)
    curve = report.tables["curve"]
    assert curve["loss"].iloc[-1] < curve["loss"].iloc[1]
    now, then = (measure.accuracy(b, small.validation).value for b in (after, before))
    assert now > then
    for name, book in books(before).items():
        trained = after.params[name]
        assert isinstance(trained, Codebook)
        assert len(trained.table) == len(book.table)
        assert not torch.equal(trained.table, book.table)
        assert bool((trained.decode()[book.decode() == 0] == 0).all())
        assert torch.equal(trained.codes, book.codes) or moves == "weights"
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, small.test), measure.predictions(after, small.test))
    assert packfile.size(after).value <= packfile.size(before).value * 1.05 or moves == "weights"


def test_a_shared_sub_vectors_gradient_is_the_sum_of_its_sub_vectors() -> None:
    """By hand: entry 1 is used twice, and the zero of the first sub-vector counts nothing."""
    book = Product(
        codes=torch.tensor([1, 0, 1], dtype=torch.int32),
        table=torch.tensor([[0.5, 2.0], [1.0, -1.0]]),
        size=(1, 5),
        zero=torch.tensor([[1, 0, 0, 0, 0]], dtype=torch.int32),
    )
    layer = nn.Linear(5, 1, bias=False)
    part = train_on(layer, {"weight": book}, way=SharedVectors)
    assert layer.weight.tolist() == [[0.0, -1.0, 0.5, 2.0, 1.0]]
    layer(torch.tensor([[1.0, 10.0, 100.0, 1000.0, 10000.0]])).sum().backward()
    torch.optim.SGD(part.parameters(), 0.001).step()
    after = stored(layer, part)["weight"]
    assert isinstance(after, Product)
    moved = [[0.5 - 0.1, 2.0 - 1.0], [1.0 - 10.0, -1.0 - 0.01]]
    torch.testing.assert_close(after.table, torch.tensor(moved))
    assert torch.equal(layer.weight, after.decode())


def test_tables_of_sub_vectors_win_back_what_they_lost_at_the_same_size(small: Data) -> None:
    """The claim: 16 entries for 8 weights each, fitted to the weights alone, trained on 400 images."""
    pruned, _ = apply(zoo.load("mlp-32"), Step("prune_weights", {"sparsity": 0.2}), None)
    before, _ = apply(pruned, Step("product_quantize", {"entries": 16, "length": 8}), small)
    after, report = apply(before, Step("train_centroids", {"epochs": 4, "learning_rate": 0.002}), small)
    right = [measure.predictions(each, small.test) for each in (before, after)]
    gain = measure.paired_difference(*right, small.test.labels)
    assert gain.spread is not None
    assert gain.spread[0] > 0
    assert report.tables["layers"]["layer"].tolist() == [*weight_layers(before)]
    for name in weight_layers(before).values():
        old, new = before.params[name], after.params[name]
        assert isinstance(old, Product)
        assert isinstance(new, Product)
        assert torch.equal(new.codes, old.codes)
        assert torch.equal(new.decode() == 0, old.decode() == 0)
    again = packfile.unpack(packfile.pack(after))
    assert torch.equal(measure.predictions(again, small.test), measure.predictions(after, small.test))
    assert packfile.size(after).value <= packfile.size(before).value * 1.05
    with pytest.raises(SlimscopeError, match="shares sub-vectors, and its weights can't move"):
        apply(before, Step("train_centroids", {"moves": "weights"}), small)


def test_layers_that_share_nothing_stay_and_biases_train(small: Data) -> None:
    net, _ = apply(zoo.load("mlp-32"), Step("quantize", {"leave_out": ["fc2"]}), None)
    mixed, _ = apply(net, Step("share_weights", {"leave_out": ["fc1"]}), None)
    after, report = apply(mixed, Step("train_centroids", {"epochs": 1}), small)
    assert isinstance(after.params["fc1.weight"], AffineGrid)
    assert torch.equal(after.params["fc1.weight"].decode(), mixed.params["fc1.weight"].decode())
    assert not torch.equal(after.params["fc1.bias"].decode(), mixed.params["fc1.bias"].decode())
    assert report.tables["layers"]["layer"].tolist() == ["fc2"]


def test_a_net_that_shares_nothing_does_first(small: Data) -> None:
    after, report = apply(zoo.load("mlp-32"), Step("train_centroids", {"epochs": 1, "entries": 8}), small)
    assert {len(book.table) for book in books(after).values()} == {8}
    assert len(books(after)) == len(weight_layers(after))
    assert any("No layer shared weights" in note for note in report.notes)


def test_a_weight_with_two_names_is_trained_as_one() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
            self.b.weight = self.a.weight

        def forward(self, x: torch.Tensor) -> Any:
            return self.b(self.a(x))

    net = Tied()
    book = Codebook(torch.tensor([[0, 1], [1, 0]], dtype=torch.int32), torch.tensor([0.5, -1.0]))
    part = train_on(net, {"a.weight": book}, ties={"b.weight": "a.weight"}, way=Centroids)
    assert torch.equal(net.b.weight, book.decode())
    net(torch.eye(2)).sum().backward()
    torch.optim.SGD(part.parameters(), 0.1).step()
    assert torch.equal(net.a.weight, net.b.weight)
    assert not torch.equal(net.a.weight, book.decode())


def test_a_run_that_was_stopped_goes_on_as_if_it_had_not_been(small: Data, tmp_path: Path) -> None:
    step = Step("train_centroids", {"epochs": 3})
    assert_resumes_exactly(shared(), step, small, 6, tmp_path)
