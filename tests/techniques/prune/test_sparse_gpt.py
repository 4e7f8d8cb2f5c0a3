"""SparseGPT as a step: outputs stay nearer than by size, patterns hold, and what does not fit is said."""

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import walk, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import Dense
from engine.types import Bundle, Report, SlimscopeError, weight_layers

NET = "lenet-5-small"


@pytest.fixture(scope="module")
def mnist() -> Data:
    whole = sets.load("mnist")
    parts = (part.stratified(600) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def pruned(mnist: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load(NET), step("sparse_gpt", sparsity=0.6, samples=300), mnist)


def test_each_layer_loses_its_share_and_its_outputs_less_than_by_size(pruned: tuple[Bundle, Report]) -> None:
    table = pruned[1].tables["layers"].set_index("layer")
    assert table.index.tolist() == ["conv1", "conv2", "fc1", "fc2"]
    assert table["sparsity"].tolist() == pytest.approx([0.6] * 4, abs=0.005)
    assert bool((table["error_sparse_gpt"] < table["error_magnitude"]).all())
    for label, name in weight_layers(pruned[0]).items():
        assert int((pruned[0].params[name].decode() == 0).sum()) == table.loc[label, "removed"]


def test_at_60_percent_it_loses_less_accuracy_than_size_and_than_not_making_up(
    pruned: tuple[Bundle, Report], mnist: Data
) -> None:
    before, sample = zoo.load(NET), mnist.validation
    plain, _ = apply(before, step("prune_weights", sparsity=0.6, allocation="layer"), None)
    alone, _ = apply(before, step("sparse_gpt", sparsity=0.6, samples=300, update=False), mnist)
    ours = measure.predictions(pruned[0], sample)
    for other in (plain, alone):
        gained = measure.paired_difference(measure.predictions(other, sample), ours, sample.labels)
        assert gained.spread is not None
        assert gained.spread[0] > 0.05


def test_on_text_it_loses_no_more_than_size_and_embeddings_stay() -> None:
    topics, before = sets.load("debian-topics"), zoo.load("transformer-topics")
    after, report = apply(before, step("sparse_gpt", samples=60), topics)
    plain, _ = apply(
        before,
        step("prune_weights", sparsity=0.5, allocation="layer", leave_out=["tokens", "places"]),
        None,
    )
    assert after.params["tokens.weight"] is before.params["tokens.weight"]
    assert any("tokens, its outputs are no matrix times" in note for note in report.notes)
    sample = topics.validation
    answers = [measure.predictions(each, sample) for each in (plain, after)]
    change = measure.paired_difference(*answers, sample.labels)
    assert change.spread is not None
    assert change.spread[1] > 0


def test_n_of_m_runs_along_the_inputs_and_layers_that_do_not_fit_are_named(mnist: Data) -> None:
    after, report = apply(zoo.load(NET), step("sparse_gpt", granularity="n:m", samples=50), mnist)
    assert report.tables["layers"]["layer"].tolist() == ["conv2", "fc1", "fc2"]
    assert any("conv1, its 1 inputs are no multiple of 4" in note for note in report.notes)
    for label in ("conv2", "fc1", "fc2"):
        weight = after.params[f"{label}.weight"].decode().movedim(1, -1).reshape(-1, 4)
        assert bool(((weight != 0).sum(1) == 2).all())


def test_zeros_stay_and_codes_become_floats(mnist: Data) -> None:
    before, _ = apply(zoo.load(NET), step("prune_weights", sparsity=0.5), None)
    before, _ = apply(before, step("quantize", bits=8), None)
    after, report = apply(before, step("sparse_gpt", sparsity=0.6, samples=50), mnist)
    for name in weight_layers(before).values():
        assert isinstance(after.params[name], Dense)
        gone = before.params[name].decode() == 0
        assert not bool(after.params[name].decode()[gone].any())
    assert any("are 32-bit floats again: put quantize after" in note for note in report.notes)


def test_what_can_not_be_fitted_is_refused_in_a_sentence(mnist: Data) -> None:
    with pytest.raises(SlimscopeError, match=r"no layer that SparseGPT can prune: all are left out"):
        apply(zoo.load("mlp-32"), step("sparse_gpt", leave_out=["fc1", "fc2"]), mnist)
    before = zoo.load("mlp-32")
    weight = before.params["fc1.weight"].decode() * 1e38
    broken = before.become({**before.params, "fc1.weight": Dense(weight)})
    with pytest.raises(SlimscopeError, match=r"layer 'fc2' can't be fitted: .* not finite"):
        apply(broken, step("sparse_gpt", samples=50), mnist)


def test_only_words_of_a_text_are_fitted() -> None:
    texts = torch.tensor([[5, 6, 7, 0, 0, 0], [9, 0, 0, 0, 0, 0], [0] * 6])
    words = walk.words_of(texts)
    net = torch.nn.Linear(2, 2)
    rng = torch.Generator().manual_seed(0)
    places = walk.drawn_places(net, torch.zeros(3, 6, 2), 4, rng, words)
    assert sorted(set(places[0].tolist())) == [0, 1, 2]
    assert places[1].tolist() == [0, 0, 0, 0]
    assert len(set(places[2].tolist())) == 4
    assert walk.words_of(texts.float()) is None
