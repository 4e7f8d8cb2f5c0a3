"""Low rank as a step: split nets that answer as the dense product would, and layers left alone."""

import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.figures import count
from engine.net import zoo
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply
from engine.recipe.technique import get, step
from engine.tensor import factors
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle


def net(name: str) -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())


def images(name: str) -> torch.Tensor:
    shape = zoo.INPUTS[zoo.entry(name).data].shape
    return torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("form", ["channel", "spatial"])
@pytest.mark.parametrize("name", ["mlp-32", "lenet-5-small", "resnet-8"])
def test_the_split_net_answers_as_the_product_of_its_factors(name: str, form: str) -> None:
    before = net(name)
    after, report = apply(before, step("low_rank", by="share", share=0.5, form=form), None)
    table = report.tables["layers"].set_index("layer")
    assert table["applied"].any()
    params = dict(before.params)
    for label, row in table[table["applied"]].iterrows():
        first, second = (after.params[f"{label}.{i}.weight"].decode() for i in (0, 1))
        params[f"{label}.weight"] = Dense(factors.join(first, second, str(row["form"])))
    dense = zoo.build(Bundle(before.arch, params))(images(name))
    assert torch.allclose(zoo.build(after)(images(name)), dense, atol=1e-4 * float(dense.abs().max()) + 1e-5)


def test_parameters_are_those_that_the_table_counts() -> None:
    before = net("lenet-300-100")
    after, report = apply(before, step("low_rank", by="rank", rank=9), None)
    table = report.tables["layers"].set_index("layer")
    assert table["weights_after"].tolist() == [9 * 1084, 9 * 400, 9 * 110]
    assert table.loc["fc3", "break_even"] == pytest.approx(1000 / 110)
    removed = count.parameters(before).value - count.parameters(after).value
    assert removed == 266_200 - 9 * (1084 + 400 + 110)
    assert list(after.params)[:3] == ["fc1.0.weight", "fc1.1.weight", "fc1.1.bias"]


def test_a_layer_that_would_grow_stays_and_says_so() -> None:
    before = net("lenet-300-100")
    after, report = apply(before, step("low_rank", by="rank", rank=10), None)
    row = report.tables["layers"].set_index("layer").loc["fc3"]
    assert not row["applied"]
    assert row["why"] == "rank 10 would make 1,100 weights out of 1,000"
    # fc3 has full rank 10, so that rank 10 would lose nothing but what rounding does.
    assert (row["energy_kept"], row["error"]) == (pytest.approx(1.0), pytest.approx(0.0, abs=1e-9))
    assert row["weights_after"] == 1000
    assert after.params["fc3.weight"] is before.params["fc3.weight"]
    assert any(note.startswith("fc3 stays as it is") for note in report.notes)


def test_a_layer_that_stays_says_what_its_rank_would_keep() -> None:
    # 4 x 4 with squares 16, 9, 4, 1: rank 3 keeps 29 of 30, but would make 24 weights out of 16.
    bundle = Bundle(Arch("bare"), {"a.weight": Dense(torch.diag(torch.tensor([4.0, 3.0, 2.0, 1.0])))})
    after, report = apply(bundle, step("low_rank", by="rank", rank=3), None)
    row = report.tables["layers"].iloc[0]
    assert not row["applied"]
    assert row["energy_kept"] == pytest.approx(29 / 30)
    assert row["error"] == pytest.approx((1 / 30) ** 0.5)
    assert (row["weights_before"], row["weights_after"]) == (16, 16)
    assert [figure.value for figure in report.figures] == [16, 1.0]
    assert after.fingerprint == bundle.fingerprint


def test_equal_size_is_not_smaller() -> None:
    # 6 x 3: rank 2 has 2 * 9 = 18 weights, as many as before.
    bundle = Bundle(Arch("bare"), {"a.weight": Dense(torch.randn(6, 3))})
    _, report = apply(bundle, step("low_rank", by="rank", rank=2), None)
    assert report.tables["layers"]["applied"].tolist() == [False]


def test_by_energy_keeps_at_least_that_much() -> None:
    after, report = apply(net("lenet-300-100"), step("low_rank", by="energy", energy=0.7), None)
    table = report.tables["layers"].set_index("layer")
    assert (table["energy_kept"] >= 0.7).all()
    before = net("lenet-300-100").params["fc1.weight"].decode()
    first, second = (after.params[f"fc1.{i}.weight"].decode() for i in (0, 1))
    assert float((second @ first - before).norm() / before.norm()) == pytest.approx(
        table.loc["fc1", "error"], abs=1e-5
    )
    assert table.loc["fc1", "error"] ** 2 == pytest.approx(1 - table.loc["fc1", "energy_kept"])


def test_a_rank_of_its_own_and_a_layer_left_out() -> None:
    settings = {"by": "rank", "rank": 20, "per_layer": {"fc1": 3}, "leave_out": ["fc2"]}
    after, report = apply(net("lenet-300-100"), step("low_rank", **settings), None)
    assert after.params["fc1.0.weight"].shape == (3, 784)
    table = report.tables["layers"].set_index("layer")
    assert table.loc["fc2", "why"] == "left out"


def test_recurrent_matrices_are_left_alone() -> None:
    after, report = apply(net("lstm-32"), step("low_rank", by="rank", rank=2), None)
    table = report.tables["layers"].set_index("layer")
    assert table["applied"].to_dict() == {
        "lstm.weight_ih_l0": False,
        "lstm.weight_hh_l0": False,
        "fc": True,
    }
    zoo.build(after)(images("lstm-32"))


def test_a_split_layer_can_be_split_again() -> None:
    once, _ = apply(net("lenet-300-100"), step("low_rank", by="rank", rank=60), None)
    twice, _ = apply(once, step("low_rank", by="rank", rank=5), None)
    assert twice.params["fc1.0.0.weight"].shape == (5, 784)
    zoo.build(twice)(images("lenet-300-100"))


def test_a_grid_becomes_floats_and_the_note_says_so() -> None:
    rounded, _ = apply(net("mlp-32"), step("quantize", bits=4), None)
    after, report = apply(rounded, step("low_rank", by="rank", rank=4), None)
    assert isinstance(after.params["fc1.0.weight"], Dense)
    assert any("32-bit floats again" in note for note in report.notes)


def test_a_layer_with_rounded_input_is_left_alone() -> None:
    from engine.data import sets

    rounded, _ = apply(net("mlp-32"), step("quantize", activations="dynamic"), sets.load("mnist"))
    after, report = apply(rounded, step("low_rank", by="rank", rank=4), None)
    assert after.fingerprint == rounded.fingerprint
    assert report.tables["layers"]["why"].str.contains("its input is quantized").all()


def test_bare_weights_are_split_by_their_shape() -> None:
    bundle = Bundle(
        Arch("bare"), {"a.weight": Dense(torch.randn(8, 6, 3, 3)), "odd": Dense(torch.randn(9, 9))}
    )
    after, report = apply(bundle, step("low_rank", by="rank", rank=2, form="spatial"), None)
    assert after.params["a.0.weight"].shape == (2, 6, 3, 1)
    assert report.tables["layers"]["applied"].tolist() == [True, False]


def test_the_slider_ends_at_the_largest_full_rank() -> None:
    knob = get("low_rank").knobs["rank"]
    assert knob.bounds(net("lenet-300-100")) == (1, 300)  # type: ignore[attr-defined]
    with pytest.raises(SettingError, match=r"rank is 301.*1 to 300"):
        apply(net("lenet-300-100"), step("low_rank", by="rank", rank=301), None)
