"""Pruning as a step: who competes, what stays as it is, and what the table says."""

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine import count, zoo
from engine.run import apply
from engine.technique import SettingError, get, step
from engine.types import Arch, Book, Bundle, Dense, Grid


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
    after, report = apply(net(), step("prune_weights", sparsity=0.8, scope="layer"), None)
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
    assert isinstance(grid, Grid)
    assert isinstance(before, Grid)
    assert grid.scale is before.scale
    alive = grid.decode() != 0
    assert torch.equal(grid.decode()[alive], before.decode()[alive])
    assert count.sparsity(after).value == pytest.approx(0.9, abs=1e-4)


def test_shared_weights_get_an_entry_for_zero() -> None:
    book = Book(torch.tensor([[0, 1], [1, 0]], dtype=torch.int32), torch.tensor([0.5, -0.25]))
    after, _ = apply(Bundle(Arch("bare"), {"a.weight": book}), step("prune_weights", sparsity=0.5), None)
    assert after.params["a.weight"].decode().tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert isinstance(after.params["a.weight"], Book)


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
