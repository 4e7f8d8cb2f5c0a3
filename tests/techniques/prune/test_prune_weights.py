"""Pruning as a step: who competes, what stays as it is, and what the table says."""

from functools import cache
from typing import Any

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets
from engine.data.sets import Data, Samples, load
from engine.figures import count, measure
from engine.jobs import layerwise
from engine.net import zoo
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply
from engine.recipe.technique import get, step
from engine.tensor import masks, ranking
from engine.tensor.formats import AffineGrid, Codebook, Dense
from engine.types import Arch, Bundle, SlimscopeError, weight_layers


def net(name: str = "mlp-32") -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())


def by_hand() -> Bundle:
    return Bundle(
        Arch("bare"),
        {
            "a.weight": Dense(torch.tensor([[4.0, -3.0], [0.1, 0.2]])),
            "a.bias": Dense(torch.tensor([0.01, 0.01])),
            "b.weight": Dense(torch.tensor([[1.0, -2.0]])),
        },
    )


def zeros(bundle: Bundle, name: str) -> list[bool]:
    return (bundle.params[name].decode() == 0).flatten().tolist()


def test_in_the_model_the_smallest_of_all_layers_go() -> None:
    after, report = apply(by_hand(), step("prune_weights", sparsity=0.5), None)
    assert zeros(after, "a.weight") == [False, False, True, True]
    assert zeros(after, "b.weight") == [True, False]
    assert after.params["a.bias"].decode().tolist() == by_hand().params["a.bias"].decode().tolist()
    table = report.tables["layers"].set_index("layer")
    assert table.loc["a", ["weights", "kept", "removed"]].tolist() == [4, 2, 2]
    assert table.loc["a", "energy_kept"] == pytest.approx(25 / 25.05)
    assert table.loc["b", "threshold"] == 1.0
    assert [f.value for f in report.figures] == [3, 0.5]


def test_in_the_layer_every_layer_loses_the_same_share() -> None:
    after, report = apply(net(), step("prune_weights", sparsity=0.8, allocation="layer"), None)
    assert report.tables["layers"]["sparsity"].tolist() == pytest.approx([0.8, 0.8], abs=1e-3)
    assert count.sparsity(after).value == pytest.approx(0.8, abs=1e-4)


def test_a_layer_with_its_own_sparsity_leaves_the_ranking() -> None:
    after, report = apply(by_hand(), step("prune_weights", sparsity=0.5, per_layer={"b": 0.0}), None)
    assert zeros(after, "b.weight") == [False, False]
    assert zeros(after, "a.weight") == [False, False, True, True]
    assert report.tables["layers"]["removed"].tolist() == [2, 0]


def test_a_layer_left_out_is_the_same_object() -> None:
    before = net()
    after, report = apply(before, step("prune_weights", leave_out=["fc2"]), None)
    assert after.params["fc2.weight"] is before.params["fc2.weight"]
    assert report.tables["layers"]["layer"].tolist() == ["fc1"]
    assert any("fc2" in note for note in report.notes)


def test_by_threshold_a_weight_at_it_goes() -> None:
    after, _ = apply(by_hand(), step("prune_weights", by="threshold", threshold=0.2), None)
    assert zeros(after, "a.weight") == [False, False, True, True]
    assert not any(zeros(after, "b.weight"))


def test_by_quality_the_layers_own_spread_decides() -> None:
    after, report = apply(by_hand(), step("prune_weights", by="quality", quality=0.5), None)
    # std of (1, -2) is 1.5, of (4, -3, 0.1, 0.2) it is 2.49: thresholds 0.75 and 1.24
    assert report.tables["layers"]["removed"].tolist() == [2, 0]
    assert zeros(after, "a.weight") == [False, False, True, True]


def test_zeros_of_before_count_and_are_never_revived() -> None:
    once, _ = apply(net(), step("prune_weights", sparsity=0.9), None)
    twice, report = apply(once, step("prune_weights", sparsity=0.5), None)
    assert all(torch.equal(once.state()[n], twice.state()[n]) for n in once.params)
    assert report.figures[1].value == pytest.approx(0.9, abs=1e-4)


def test_a_quantized_net_keeps_codes_and_scales() -> None:
    rounded, _ = apply(net(), step("quantize", bits=4, scheme="asymmetric"), None)
    after, _ = apply(rounded, step("prune_weights", sparsity=0.9), None)
    grid, before = after.params["fc1.weight"], rounded.params["fc1.weight"]
    assert isinstance(grid, AffineGrid)
    assert isinstance(before, AffineGrid)
    assert grid.scale is before.scale
    alive = grid.decode() != 0
    assert torch.equal(grid.decode()[alive], before.decode()[alive])
    assert count.sparsity(after).value == pytest.approx(0.9, abs=1e-4)


def test_shared_weights_get_an_entry_for_zero() -> None:
    book = Codebook(torch.tensor([[0, 1], [1, 0]], dtype=torch.int32), torch.tensor([0.5, -0.25]))
    after, _ = apply(Bundle(Arch("bare"), {"a.weight": book}), step("prune_weights", sparsity=0.5), None)
    assert after.params["a.weight"].decode().tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert isinstance(after.params["a.weight"], Codebook)


def test_a_layer_without_weights_is_named() -> None:
    _, report = apply(by_hand(), step("prune_weights", by="threshold", threshold=1.0, leave_out=["a"]), None)
    assert not any("No weight" in note for note in report.notes)
    zero = Bundle(Arch("bare"), {"a.weight": Dense(torch.zeros(2, 2))})
    _, report = apply(zero, step("prune_weights", sparsity=0.0), None)
    assert any("No weight is left in a" in note for note in report.notes)


@pytest.mark.parametrize("share", [0.98, 0.99, 0.995, 0.999])
def test_high_sparsities_are_stops_of_the_slider(share: float) -> None:
    assert share in get("prune_weights").knobs["sparsity"].stops(None)  # type: ignore[attr-defined]


def test_what_is_not_allowed_is_said() -> None:
    with pytest.raises(SettingError, match=r"sparsity is 1\.5.*0 to 0\.999"):
        apply(net(), step("prune_weights", sparsity=1.5), None)
    with pytest.raises(SettingError, match=r"fc9.*fc1, fc2"):
        apply(net(), step("prune_weights", leave_out=["fc9"]), None)


def test_all_layers_left_out_changes_nothing() -> None:
    after, report = apply(net(), step("prune_weights", leave_out=["fc1", "fc2"]), None)
    assert after.fingerprint == net().fingerprint
    assert len(report.tables["layers"]) == 0


# ---------------------------------------------------------------- score x granularity x allocation

SCORES = ("magnitude", "random", "taylor", "obd", "wanda", "batch-norm")
SHAPES = ("element", "n:m", "block", "kernel", "filter", "channel")


@cache
def photos() -> Data:
    source = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, 32, 32), generator=source, dtype=torch.uint8)
    part = Samples(pixels, torch.arange(12) % 10, (0.5,) * 3, (0.25,) * 3)
    return Data("photos", part, part, part, tuple("0123456789"))


@cache
def residual() -> Bundle:
    """A net with convolutions, batch-norm of unequal scales, and a linear layer."""
    bundle, source = net("resnet-8"), torch.Generator().manual_seed(1)
    scales = {
        name: Dense(torch.rand(param.shape, generator=source) + 0.1)
        for name, param in bundle.params.items()
        if name.endswith(".weight") and len(param.shape) == 1
    }
    return Bundle(bundle.arch, {**bundle.params, **scales})


def test_the_defaults_are_magnitude_of_single_weights() -> None:
    short, _ = apply(net(), step("prune_weights", sparsity=0.7), None)
    weights = [net().params[name].decode() for name in ("fc1.weight", "fc2.weight")]
    for name, weight, kept in zip(
        ("fc1.weight", "fc2.weight"), weights, masks.by_sparsity_over(weights, 0.7), strict=True
    ):
        assert torch.equal(short.params[name].decode(), torch.where(kept, weight, 0.0))


@pytest.mark.parametrize("granularity", SHAPES)
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize("allocation", ["layer", "global", "erk"])
def test_every_score_goes_with_every_granularity_and_allocation(
    score: str, granularity: str, allocation: str
) -> None:
    before, chosen = (
        residual(),
        step("prune_weights", sparsity=0.5, score=score, granularity=granularity, allocation=allocation),
    )
    after, report = apply(before, chosen, photos())
    table = report.tables["layers"].set_index("layer")
    for label, row in table.iterrows():
        name = f"{label}.weight"
        gone = after.params[name].decode() == 0
        assert int(gone.sum()) == row["removed"]
        assert torch.equal(after.params[name].decode()[~gone], before.params[name].decode()[~gone])
        if granularity == "n:m":
            assert bool((gone.movedim(1, -1).reshape(-1, 4).sum(1) == 2).all())
        else:
            unit = masks.units(gone.shape, granularity, 4).flatten()
            shares = unit.bincount(gone.flatten().double()) / unit.bincount()
            assert set(shares.tolist()) <= {0.0, 1.0}
    assert report.figures[1].value == pytest.approx(0.5, abs=0.02)
    untouched = set(after.params) - {f"{label}.weight" for label in table.index}
    assert all(after.params[name] is before.params[name] for name in untouched)
    assert ("fc" in table.index) == (score != "batch-norm" and granularity != "kernel")
    assert ("conv1" in table.index) == (granularity != "n:m")  # three inputs can't be cut into fours


def test_scores_decide_differently_and_chance_knows_nothing() -> None:
    kept = {
        score: apply(residual(), step("prune_weights", score=score, sparsity=0.5), photos())[0].params[
            "layer2.0.conv2.weight"
        ]
        for score in SCORES
    }
    fingerprints = {score: tuple((p.decode() == 0).flatten().tolist()) for score, p in kept.items()}
    assert len(set(fingerprints.values())) == len(SCORES)


def test_the_loss_bears_what_taylor_picks_far_better_than_chance() -> None:
    bundle, digits = zoo.load("mlp-32"), load("mnist")
    right = {}
    for score in ("magnitude", "taylor", "random"):
        after, _ = apply(bundle, step("prune_weights", score=score, sparsity=0.8), digits)
        right[score] = measure.accuracy(after, digits.validation).value
    assert right["random"] < 0.6
    assert right["taylor"] > 0.75
    assert right["magnitude"] > 0.75


def test_a_layer_gets_the_same_chances_whatever_is_left_out() -> None:
    one = step("prune_weights", score="random", sparsity=0.5, allocation="layer", seed=4)
    other = step("prune_weights", score="random", sparsity=0.5, allocation="layer", seed=4, leave_out=["fc1"])
    first, second = apply(net(), one, None)[0], apply(net(), other, None)[0]
    assert torch.equal(first.state()["fc2.weight"], second.state()["fc2.weight"])
    seeded = apply(net(), step("prune_weights", score="random", sparsity=0.5, seed=5), None)[0]
    assert not torch.equal(first.state()["fc1.weight"], seeded.state()["fc1.weight"])


def test_chance_and_filters_leave_zeros_zero_and_count_them() -> None:
    once, _ = apply(net(), step("prune_weights", sparsity=0.9), None)
    for settings in ({"score": "random"}, {"granularity": "filter"}):
        twice, report = apply(once, step("prune_weights", sparsity=0.5, **settings), None)
        assert all(
            not twice.state()[name][once.state()[name] == 0].any() for name in ("fc1.weight", "fc2.weight")
        )
        gone = sum(int((twice.state()[name] == 0).sum()) for name in ("fc1.weight", "fc2.weight"))
        assert report.figures[0].value == gone


def test_erk_spares_the_small_layer_and_keeps_the_total() -> None:
    _, report = apply(net("lenet-300-100"), step("prune_weights", sparsity=0.9, allocation="erk"), None)
    assert report.figures[0].value == round(0.9 * 266_200)
    assert report.tables["layers"]["removed"].tolist() == [216_486, 23_094, 0]
    own = step("prune_weights", sparsity=0.9, allocation="erk", per_layer={"fc3": 0.5}, leave_out=["fc1"])
    table = apply(net("lenet-300-100"), own, None)[1].tables["layers"]
    assert table["removed"].tolist() == [27_000, 500]


def test_a_filter_goes_by_the_scale_behind_it() -> None:
    after, _ = apply(
        residual(),
        step("prune_weights", score="batch-norm", granularity="filter", allocation="global", sparsity=0.3),
        None,
    )
    pairs = {
        f"{conv}.weight": f"{conv.replace('conv', 'bn')}.weight"
        for conv in weight_layers(residual())
        if "conv" in conv
    }
    gone, stays = [], []
    for conv, norm in pairs.items():
        alive = after.params[conv].decode().flatten(1).any(1)
        scale = residual().params[norm].decode()
        gone += scale[~alive].tolist()
        stays += scale[alive].tolist()
    assert max(gone) <= min(stays)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"score": "taylor"}, "'taylor' must run the model"),
        ({"score": "obd"}, "'obd' must run the model"),
        ({"score": "batch-norm"}, "needs an architecture"),
        ({"granularity": "n:m", "m": 2, "n": 3}, "n is 3: allowed is 1 to m, which is 2"),
    ],
)
def test_what_does_not_fit_these_weights_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(SlimscopeError, match=says):
        apply(by_hand(), step("prune_weights", **settings), None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"score": "batch-norm"}, "fc1, no batch-norm is behind it; fc2, no batch-norm is behind it"),
        ({"granularity": "kernel"}, "fc1, it has no kernels; fc2, it has no kernels"),
        ({"granularity": "n:m", "m": 30}, "fc1, its 784 inputs are no multiple of 30"),
    ],
)
def test_where_no_layer_fits_nothing_is_removed_and_that_is_said(settings: dict[str, Any], says: str) -> None:
    after, report = apply(net(), step("prune_weights", **settings), None)
    assert after.fingerprint == net().fingerprint
    assert report.figures[0].value == 0
    assert any(note.startswith("Nothing is removed: ") and says in note for note in report.notes)


def test_notes_name_layers_that_do_not_fit_and_what_a_zero_filter_is_not() -> None:
    _, report = apply(residual(), step("prune_weights", granularity="n:m"), None)
    assert any("conv1, its 3 inputs are no multiple of 4" in note for note in report.notes)
    _, report = apply(residual(), step("prune_weights", granularity="filter"), None)
    said = " ".join(report.notes)
    assert "the multiply-adds stay" in said
    assert "rows of fc are the model's answers" in said


def test_other_ways_to_choose_take_no_notice_of_score_and_shape() -> None:
    odd = {"score": "random", "granularity": "filter", "allocation": "erk"}
    for by in ({"by": "threshold", "threshold": 0.03}, {"by": "quality", "quality": 1.2}):
        plain, told = apply(net(), step("prune_weights", **by), None)
        other, also = apply(net(), step("prune_weights", **by, **odd), None)
        assert other.fingerprint == plain.fingerprint
        assert also.notes == told.notes


def test_a_large_net_is_not_shown_what_an_index_can_not_tell() -> None:
    bundle = by_hand()
    for settings in ({"score": "random"}, {"granularity": "filter"}, {"allocation": "erk"}):
        chosen = step("prune_weights", **settings)
        assert not ranking.by_threshold(chosen.settings)
        with pytest.raises(SlimscopeError, match="granularity element, and allocation"):
            layerwise.apply(layerwise.of_layer(bundle, "a"), chosen, ["a", "b"], layerwise.alone(bundle))
    assert ranking.by_size(step("prune_weights", allocation="erk").settings)
    assert ranking.by_threshold(step("prune_weights", by="quality", score="random").settings)


# ---------------------------------------------------------------- Wanda


def test_wanda_removes_by_row_what_is_small_times_the_norm_of_its_input() -> None:
    before, part = net(), sets.load("mnist").train.stratified(60)
    data = Data("mnist", part, part, part, tuple("0123456789"))
    chosen = step("prune_weights", score="wanda", allocation="row", sparsity=0.5, samples=50)
    after, report = apply(before, chosen, data)
    entering = part.stratified(50, 0).inputs().flatten(1)
    weight = before.params["fc1.weight"].decode()
    worth = weight.abs() * entering.norm(dim=0)
    gone = after.params["fc1.weight"].decode() == 0
    assert gone.sum(1).tolist() == [392] * 32
    assert bool((torch.where(gone, worth, 0).amax(1) <= torch.where(gone, torch.inf, worth).amin(1)).all())
    assert any("Norms are those" in note for note in report.notes)
    plain, _ = apply(before, step("prune_weights", allocation="row", sparsity=0.5), None)
    assert (plain.params["fc1.weight"].decode() == 0).sum(1).tolist() == [392] * 32
    assert not torch.equal(plain.params["fc1.weight"].decode() == 0, gone)


def test_wanda_leaves_what_reads_no_rows_and_a_row_has_only_single_weights() -> None:
    data = sets.load("mnist")
    _, report = apply(zoo.load("lstm-32"), step("prune_weights", score="wanda", samples=50), data)
    assert report.tables["layers"]["layer"].tolist() == ["fc"]
    assert any("its outputs are no matrix times what enters it" in note for note in report.notes)
    with pytest.raises(SlimscopeError, match="'row' compares the weights of one output, not a filter"):
        apply(net(), step("prune_weights", allocation="row", granularity="filter"), None)
    with pytest.raises(SlimscopeError, match="'wanda' must run the model"):
        apply(by_hand(), step("prune_weights", score="wanda"), None)
