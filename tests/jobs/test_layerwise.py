"""A layer of a large net by itself is what it is in the whole net; the whole net's file is that of memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

import engine.techniques  # noqa: F401
from engine.figures import count
from engine.file import packfile
from engine.jobs import layerwise, models, streaming
from engine.recipe import run, technique
from engine.tensor import ranking
from engine.tensor.formats import Dense
from engine.tensor.histogram import HistogramIndex, RefinedIndex, index_of
from engine.tensor.index import Index
from engine.types import Arch, Bundle, Cancelled, Progress, Recipe, SlimscopeError, Step

SHAPES = {"a.weight": (40, 30), "b.weight": (64, 20), "b.bias": (64,), "c.weight": (8, 4, 3, 3)}


def bare(seed: int = 0) -> Bundle:
    source = torch.Generator().manual_seed(seed)
    spread = torch.linspace(0.5, 2.0, len(SHAPES)).tolist()
    return Bundle(
        Arch("bare"),
        {
            name: Dense(torch.randn(shape, generator=source) * scale)
            for (name, shape), scale in zip(SHAPES.items(), spread, strict=True)
        },
    )


def exact(bundle: Bundle, layers: tuple[str, ...]) -> Index:
    weights = dict(count.weights(bundle))
    return index_of([weights[layer] for layer in layers])


STEPS: list[tuple[str, dict[str, Any]]] = [
    ("prune_weights", {"sparsity": 0.8}),
    ("prune_weights", {"sparsity": 0.8, "allocation": "layer"}),
    ("prune_weights", {"sparsity": 0.8, "leave_out": ["c"], "per_layer": {"b": 0.3}}),
    ("prune_weights", {"by": "quality", "quality": 0.7}),
    ("prune_weights", {"by": "threshold", "threshold": 0.4, "leave_out": ["a"]}),
    ("quantize", {"bits": 3, "granularity": "channel", "per_layer": {"a": 6}}),
    ("quantize", {"bits": 4, "granularity": "group", "group": 16, "leave_out": ["b"]}),
    ("low_rank", {"by": "energy", "energy": 0.5}),
]


@pytest.mark.parametrize(("name", "settings"), STEPS)
@pytest.mark.parametrize("layer", ["a", "b", "c"])
def test_a_layer_by_itself_becomes_what_it_becomes_in_the_net(
    name: str, settings: dict[str, Any], layer: str
) -> None:
    net, step = bare(), technique.step(name, **settings)
    together = run.apply(net, step, None)[0].state()
    labels = [label for label, _ in count.weights(net)]
    alone, report = layerwise.apply(layerwise.of_layer(net, layer, None), step, labels, partial(exact, net))
    for name_, values in alone.state().items():
        assert torch.equal(values, together[name_])
    assert report.step == step


def test_a_layer_that_is_left_out_stays() -> None:
    net, step = bare(), technique.step("prune_weights", leave_out=["a"])
    alone, _ = layerwise.apply(layerwise.of_layer(net, "a", None), step, ["a", "b", "c"], partial(exact, net))
    assert torch.equal(alone.state()["a.weight"], net.state()["a.weight"])


@pytest.mark.parametrize("settings", [s for n, s in STEPS if n == "prune_weights"])
def test_removals_count_what_pruning_removes(settings: dict[str, Any]) -> None:
    net, step = bare(), technique.step("prune_weights", **settings)
    told = run.apply(net, step, None)[1].tables["layers"].set_index("layer")
    labels = [label for label, _ in count.weights(net)]
    table = ranking.removals(dict(step.settings), labels, partial(exact, net)).set_index("layer")
    for column in ("weights", "kept", "removed", "sparsity"):
        assert table[column].tolist() == told[column].tolist()
    assert table["energy_kept"].tolist() == pytest.approx(told["energy_kept"].tolist(), abs=1e-6)
    assert (table["threshold"] >= told["threshold"]).all()
    assert not table["within"].any()


def test_removals_of_coarse_indexes_lie_within_what_they_say() -> None:
    net, step = bare(1), technique.step("prune_weights", sparsity=0.6)
    told = run.apply(net, step, None)[1].tables["layers"].set_index("layer")
    weights = dict(count.weights(net))

    def coarse(layers: tuple[str, ...]) -> Index:
        return HistogramIndex([weights[layer] for layer in layers])

    table = ranking.removals(dict(step.settings), list(weights), coarse).set_index("layer")
    off, _ = coarse(("a", "b", "c")).error_bound(table["threshold"].iloc[0])
    slack = table["within"] + off / table["weights"]
    assert ((table["sparsity"] - told["sparsity"]).abs() <= slack).all()


def test_rows_stand_for_a_layer_with_its_extremes_among_them() -> None:
    weight = torch.randn(1000, 10, generator=torch.Generator().manual_seed(0))
    weight[501, 3], weight[777, 9] = 50.0, -60.0
    shown = layerwise.of_layer(Bundle(Arch("bare"), {"a.weight": Dense(weight)}), "a", 1000)
    rows = shown.params["a.weight"].decode()
    assert 100 <= len(rows) <= 102
    assert (rows.max(), rows.min()) == (50.0, -60.0)
    assert all(any(torch.equal(row, whole) for whole in weight) for row in rows)


def test_the_error_of_all_rows_lies_within_the_margin_of_those_that_are_shown() -> None:
    source = torch.Generator().manual_seed(3)
    weight = torch.randn(400, 30, generator=source) * torch.rand(400, 1, generator=source)
    after = (weight * 4).round() / 4
    whole = float((after - weight).square().sum(1).mean())
    hits = 0
    for _ in range(200):
        rows = torch.randperm(400, generator=source)[:80]
        shown = float((after - weight)[rows].square().sum(1).mean())
        hits += abs(whole - shown) <= layerwise.margin(weight[rows], after[rows], 400) / 100 * shown
    assert 180 <= hits <= 200  # 95 %, by the normal distribution
    assert layerwise.margin(weight, after, 400) == 0.0
    assert layerwise.margin(weight[:80], weight[:80], 400) == 0.0


def test_all_layers_can_be_ranked_by_the_first_step_only() -> None:
    net = layerwise.of_layer(bare(), "a", None)
    with pytest.raises(SlimscopeError, match="first step"):
        layerwise.apply(net, technique.step("prune_weights"), ["a", "b", "c"], layerwise.alone(net))
    inside = technique.step("prune_weights", allocation="layer", sparsity=0.5)
    after, _ = layerwise.apply(net, inside, ["a", "b", "c"], layerwise.alone(net))
    assert count.sparsity(after).value == 0.5


def test_what_must_run_the_net_is_refused() -> None:
    net = layerwise.of_layer(bare(), "a")
    with pytest.raises(SlimscopeError, match="known architecture"):
        layerwise.apply(net, technique.step("finetune"), ["a"], layerwise.alone(net))


@given(st.integers(0, 50), st.floats(0, 1))
def test_a_refined_threshold_is_exact(seed: int, sparsity: float) -> None:
    values = torch.randn(500, generator=torch.Generator().manual_seed(seed))
    values[::9] = 0.0
    values[1::9] = values[2]  # ties
    removed = round(sparsity * 500)
    expected = float(np.sort(values.abs().numpy())[removed - 1]) if removed else 0.0
    assert RefinedIndex([values[:200], values[200:]]).threshold_for(sparsity) == expected


# ---------------------------------------------------------------- the whole net


@pytest.fixture
def at_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Bundle]:
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "home"))
    net, path = bare(2), tmp_path / "net.safetensors"
    save_file(net.state(), path)
    return models.put_path(net, path), models.get_model(models.put_path(net, path))


@pytest.mark.parametrize(
    "steps",
    [
        [("prune_weights", {"sparsity": 0.9})],
        [("prune_weights", {"by": "quality"}), ("quantize", {"bits": 5, "granularity": "channel"})],
        [("quantize", {"bits": 2}), ("prune_weights", {"allocation": "layer", "sparsity": 0.4})],
    ],
)
def test_the_file_written_layer_by_layer_is_that_of_the_net_in_memory(
    steps: list[tuple[str, dict[str, Any]]], at_path: tuple[str, Bundle]
) -> None:
    model_id, net = at_path
    recipe = technique.complete(Recipe(tuple(Step(*step) for step in steps)))
    after = run.run(net, recipe, None)[0]
    assert streaming.written(model_id, recipe) is None
    result = streaming.write({"model": model_id, "recipe": recipe.key}, Progress())
    figures, tensors, path = streaming.written(model_id, recipe) or pytest.fail("nothing is kept")
    assert path.read_bytes() == packfile.pack(after)
    assert {name: figure.value for name, figure in figures.items()} == {
        "file size": len(packfile.pack(after)),
        "sparsity": count.sparsity(after).value,
        "non-zero weights": count.nonzeros(after).value,
    }
    assert sum(tensors.values()) == figures["file size"].value
    assert [f["value"] for f in result["figures"]] == [f.value for f in figures.values()]


def test_split_layers_are_in_the_file(at_path: tuple[str, Bundle]) -> None:
    model_id, net = at_path
    recipe = technique.complete(Recipe((Step("low_rank", {"by": "energy", "energy": 0.5}),)))
    streaming.write({"model": model_id, "recipe": recipe.key}, Progress())
    _, _, path = streaming.written(model_id, recipe) or pytest.fail("nothing is kept")
    read, after = packfile.unpack(path.read_bytes()), run.run(net, recipe, None)[0]
    assert sorted(read.params) == sorted(after.params)
    assert all(torch.equal(values, after.state()[name]) for name, values in read.state().items())
    assert sorted(map(str, read.arch.data[1])) == sorted(map(str, after.arch.data[1]))


def test_writing_can_be_cancelled_and_leaves_nothing(at_path: tuple[str, Bundle]) -> None:
    model_id, _ = at_path
    recipe = technique.complete(Recipe((Step("prune_weights"),)))
    with pytest.raises(Cancelled):
        streaming.write({"model": model_id, "recipe": recipe.key}, Progress(cancelled=lambda: True))
    assert streaming.written(model_id, recipe) is None
    assert not [path for path in models.net_path("x").parent.glob("*") if path.is_file()]


def test_a_file_that_has_changed_since_is_not_taken_for_the_net(
    at_path: tuple[str, Bundle], tmp_path: Path
) -> None:
    model_id, _ = at_path
    save_file(bare(3).state(), tmp_path / "net.safetensors")
    with pytest.raises(SlimscopeError, match="not here"):
        models.get_model(model_id)
