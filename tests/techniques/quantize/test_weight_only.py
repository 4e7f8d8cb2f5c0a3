"""Weight-only as a step: methods by their names, factors taken up without a change of answers, embeddings."""

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data
from engine.figures import measure
from engine.net import embeddings, taking_up, zoo
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor import grids
from engine.tensor.formats import AffineGrid, Dense, Levels, Scaled, Shifted
from engine.tensor.granularity import per_group
from engine.types import Bundle, Report, SlimscopeError

NET, TEXT = "lenet-5-small", "transformer-topics"
UPPER = [
    f"layers.{number}.{name}"
    for number in (1, 2, 3)
    for name in (*(f"attention.{each}" for each in ("query", "key", "value", "out")), "fc1", "fc2")
]
AWQ = {"method": "awq", "bits": 3, "group": 32, "samples": 60, "leave_out": UPPER}


def few(name: str) -> Data:
    whole = sets.load(name)
    parts = (part.stratified(500) for part in (whole.train, whole.validation, whole.test))
    return Data(whole.name, *parts, classes=whole.classes)


@pytest.fixture(scope="module")
def mnist() -> Data:
    return few("mnist")


@pytest.fixture(scope="module")
def topics() -> Data:
    return few("debian-topics")


@pytest.fixture(scope="module")
def text(topics: Data) -> tuple[Bundle, Report]:
    return apply(zoo.load(TEXT), step("weight_only", **AWQ), topics)


def told(report: Report) -> dict[str, float]:
    return {figure.name: figure.value for figure in report.figures}


@pytest.mark.parametrize(
    ("method", "format"), [("rtn", AffineGrid), ("gptq", AffineGrid), ("hqq", Shifted), ("nf4", Levels)]
)
def test_each_method_gives_its_own_format_with_every_bit_counted(
    method: str, format: type, mnist: Data
) -> None:
    before = zoo.load("mlp-32")
    after, report = apply(before, step("weight_only", method=method, bits=3, group=16, samples=60), mnist)
    assert type(after.params["fc1.weight"]) is format
    rows = report.tables["layers"].set_index("layer")
    beside = {"rtn": 35, "gptq": 35, "hqq": 40, "nf4": 32}[method]
    width = 4 if method == "nf4" else 3
    assert rows.loc["fc1", "bits_per_weight"] == width + beside / 16
    if method == "rtn":
        plain = grids.quantize(before.params["fc1.weight"].decode(), 3, False, per_group(16))
        assert torch.equal(after.params["fc1.weight"].decode(), plain.decode())
        assert rows["error_nearest"].tolist() == rows["error_method"].tolist()


def test_at_2_bits_gptq_keeps_most_of_what_nearest_levels_lose(mnist: Data) -> None:
    before, sample = zoo.load(NET), mnist.validation
    answers = []
    for method in ("rtn", "gptq"):
        after, report = apply(before, step("weight_only", method=method, bits=2, samples=300), mnist)
        answers.append(measure.predictions(after, sample))
    gained = measure.paired_difference(*answers, sample.labels)
    assert gained.spread is not None
    assert gained.spread[0] > 0.03
    rows = report.tables["layers"]
    assert bool((rows["error_method"] < rows["error_nearest"]).all())


def test_factors_are_taken_up_by_what_is_before_and_no_answer_changes(
    text: tuple[Bundle, Report], topics: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    after, report = text
    rows = report.tables["layers"].set_index("layer")
    assert rows.loc["layers.0.attention.query", "factors"] == "in layers.0.norm1"
    assert rows.loc["layers.0.fc2", "factors"] == "in layers.0.fc1"
    assert rows.loc["layers.0.attention.out", "factors"] == "beside its codes"
    assert type(after.params["layers.0.attention.key.weight"]) is AffineGrid
    assert type(after.params["layers.0.attention.out.weight"]) is Scaled
    monkeypatch.setattr(taking_up, "makers", lambda arch: {})
    apart, _ = apply(zoo.load(TEXT), step("weight_only", **AWQ), topics)
    assert type(apart.params["layers.0.fc2.weight"]) is Scaled
    assert len(apart.params) == len(after.params)


def test_taken_up_and_apart_give_the_same_answers(topics: Data) -> None:
    before, found = zoo.load(TEXT), taking_up.makers(zoo.load(TEXT).arch)
    assert found["layers.1.attention.value"].readers == tuple(
        f"layers.1.attention.{name}" for name in ("query", "key", "value")
    )
    factors, params = {}, dict(before.params)
    rng = torch.Generator().manual_seed(0)
    for maker in {each.name: each for each in found.values()}.values():
        width = before.params[f"{maker.readers[0]}.weight"].shape[1]
        factor = torch.exp2(torch.randint(-3, 4, (width,), generator=rng).float())
        for label in maker.readers:
            factors[label] = factor
            values = before.params[f"{label}.weight"].decode()
            grid = grids.quantize(values * factor, 8, False, per_group(8))
            params[f"{label}.weight"] = Scaled(grid, 1 / factor)
    apart = before.become(params)
    together = taking_up.taken_up(apart, found.values(), factors)
    kinds = {type(together.params[f"{label}.weight"]) for label in found}
    assert kinds == {AffineGrid}
    one, other = (measure.logits(zoo.build(each), topics.validation) for each in (apart, together))
    assert torch.allclose(one, other, atol=1e-4)


def test_nothing_takes_factors_up_for_layers_that_are_left_out_or_read_rounded_inputs(mnist: Data) -> None:
    chosen = step("weight_only", method="awq", bits=3, group=16, samples=60, leave_out=["fc1"])
    after, _ = apply(zoo.load("mlp-32"), chosen, mnist)
    assert torch.equal(after.params["fc1.weight"].decode(), zoo.load("mlp-32").params["fc1.weight"].decode())
    assert not isinstance(after.params["fc2.weight"], Dense)
    rounded, _ = apply(zoo.load("mlp-32"), step("quantize", activations="static", round_weights=False), mnist)
    assert taking_up.makers(rounded.arch) == {}
    assert set(taking_up.makers(zoo.load("mlp-32").arch)) == {"fc2"}
    assert taking_up.makers(zoo.load("lstm-32").arch) == {}


def test_embeddings_stay_floats_unless_they_are_asked_for(text: tuple[Bundle, Report], topics: Data) -> None:
    after, report = text
    assert list(embeddings.of(after)) == ["tokens", "places"]
    assert isinstance(after.params["tokens.weight"], Dense)
    assert any("Embeddings that stay 32-bit floats: tokens, places." in note for note in report.notes)
    chosen = step("weight_only", **{**AWQ, "method": "rtn", "include_embedding": True})
    whole, other = apply(zoo.load(TEXT), chosen, topics)
    assert isinstance(whole.params["tokens.weight"], AffineGrid)
    assert told(report)["embeddings"] > 0.4 > 0.1 > told(other)["embeddings"]


def test_zeros_of_pruning_stay_under_every_method(mnist: Data) -> None:
    pruned, _ = apply(zoo.load(NET), step("prune_weights", sparsity=0.5), None)
    for method in ("rtn", "gptq", "awq", "hqq", "nf4"):
        after, _ = apply(pruned, step("weight_only", method=method, bits=2, samples=50), mnist)
        for name in ("conv2.weight", "fc1.weight", "fc2.weight"):
            gone = pruned.params[name].decode() == 0
            assert not bool(after.params[name].decode()[gone].any()), (method, name)


def test_what_can_not_be_fitted_is_said(mnist: Data) -> None:
    with pytest.raises(SlimscopeError, match="nothing to round: all layers are left out"):
        apply(zoo.load("mlp-32"), step("weight_only", leave_out=["fc1", "fc2"]), mnist)
    _, report = apply(zoo.load("lstm-32"), step("weight_only", samples=50), mnist)
    assert any("Rounded to nearest: lstm." in note for note in report.notes)
    before = zoo.load("mlp-32")
    weight = before.params["fc1.weight"].decode() * 1e38
    broken = before.become({**before.params, "fc1.weight": Dense(weight)})
    with pytest.raises(SlimscopeError, match=r"layer 'fc2' can't be fitted: .* not finite"):
        apply(broken, step("weight_only", samples=50), mnist)
