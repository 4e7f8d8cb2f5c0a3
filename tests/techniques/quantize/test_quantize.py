"""Quantization as a step: weights on a grid, rounded inputs, and how steps compose."""

import math
from pathlib import Path

import odd_models
import pytest
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.commands import compress
from engine.data import sets, user
from engine.data.sets import Data
from engine.figures import count, measure
from engine.file import packfile
from engine.net import sources, zoo
from engine.net.surgery import InputQuantizer
from engine.recipe.knobs import SettingError
from engine.recipe.run import apply, run
from engine.recipe.technique import step
from engine.tensor import grids
from engine.tensor.formats import AffineGrid, Dense
from engine.types import Arch, Bundle, Recipe, SlimscopeError


@pytest.fixture(scope="module")
def mnist() -> Data:
    return sets.load("mnist")


def net(name: str = "mlp-32") -> Bundle:
    return zoo.bundle_of(name, zoo.seeded(name, 0).state_dict())


def test_every_layer_becomes_a_grid_and_biases_stay() -> None:
    before = net()
    after, report = apply(before, step("quantize", bits=5), None)
    assert isinstance(after.params["fc1.weight"], AffineGrid)
    assert after.params["fc1.bias"] is before.params["fc1.bias"]
    table = report.tables["layers"].set_index("layer")
    assert table.loc["fc1", "scales"] == 32
    assert table.loc["fc1", "bits_per_weight"] == pytest.approx(5 + 32 / 784)
    assert table.loc["fc1", "levels_used"] == 31
    original = before.params["fc1.weight"].decode().double()
    noise = (original - after.params["fc1.weight"].decode()).square().sum()
    expected = 10 * math.log10(float(original.square().sum() / noise))
    assert table.loc["fc1", "sqnr_db"] == pytest.approx(expected)


def test_bits_per_weight_count_scales_and_zero_points() -> None:
    settings = {"bits": 4, "scheme": "asymmetric", "granularity": "group", "group": 56}
    _, report = apply(net(), step("quantize", **settings), None)
    table = report.tables["layers"].set_index("layer")
    assert table.loc["fc1", "scales"] == 32 * 14
    assert table.loc["fc1", "bits_per_weight"] == pytest.approx(4 + (32 + 4) / 56)
    total = (4 * (784 * 32 + 320) + (32 * 14 + 10) * 36) / (784 * 32 + 320)
    assert report.figures[0].value == pytest.approx(total)


def test_more_bits_are_never_worse() -> None:
    errors = [apply(net(), step("quantize", bits=b), None)[1].figures[1].value for b in range(2, 10)]
    assert errors == sorted(errors, reverse=True)


def test_a_layer_may_have_bits_of_its_own_or_be_left_out() -> None:
    before = net()
    after, _ = apply(before, step("quantize", bits=8, per_layer={"fc2": 3}), None)
    assert [after.params[f"fc{i}.weight"].bits for i in (1, 2)] == [8, 3]  # type: ignore[union-attr]
    after, report = apply(before, step("quantize", leave_out=["fc1"]), None)
    assert after.params["fc1.weight"] is before.params["fc1.weight"]
    assert report.tables["layers"]["layer"].tolist() == ["fc2"]


def test_zeros_of_pruning_stay_exactly_zero() -> None:
    pruned, _ = apply(net(), step("prune_weights", sparsity=0.9), None)
    for settings in (
        {"bits": 1},
        {"bits": 3, "scheme": "asymmetric"},
        {"bits": 4, "range": "mse", "granularity": "group", "group": 8},
        {"bits": 8, "range": "percentile", "percentile": 95.0, "scheme": "asymmetric"},
    ):
        after, _ = apply(pruned, step("quantize", **settings), None)
        for name, param in pruned.params.items():
            gone = param.decode() == 0
            assert bool((after.params[name].decode()[gone] == 0).all()), settings


def test_one_bit_is_the_sign_and_the_note_says_so() -> None:
    after, report = apply(net(), step("quantize", bits=1), None)
    original = net().params["fc1.weight"].decode()
    expected = original.sign() * original.abs().mean(1, keepdim=True)
    assert torch.allclose(after.params["fc1.weight"].decode(), expected)
    assert any("sign" in note for note in report.notes)


def test_low_rank_then_pruning_then_rounding() -> None:
    recipe = Recipe(
        (
            step("low_rank", by="share", share=0.4),
            step("prune_weights", sparsity=0.5),
            step("quantize", bits=6),
        )
    )
    after, reports = run(net("lenet-5-small"), recipe, None)
    assert count.sparsity(after).value >= 0.5
    assert isinstance(after.params["fc1.0.weight"], AffineGrid)
    assert len(reports) == 3
    zoo.build(after)


def test_static_inputs_get_a_scale_that_spans_what_was_seen(mnist: Data) -> None:
    before = net()
    after, report = apply(before, step("quantize", activations="static", scheme="asymmetric"), mnist)
    images = mnist.train.stratified(256).inputs().flatten(1)
    scale = after.params["fc1.input_quantizer.scale"].decode()
    assert scale.shape == (1,)
    assert float(scale) == pytest.approx(float(images.max() - images.min()) / 255, rel=1e-6)
    built = zoo.build(after)
    assert isinstance(built.fc1.input_quantizer, InputQuantizer)
    table = report.tables["activations"].set_index("layer")
    assert table.loc["fc1", "seen_low"] == pytest.approx(float(images.min()))
    assert table.loc["fc2", "zero"] == 0  # after ReLU nothing is negative
    assert any("256" in note for note in report.notes)


def test_what_enters_a_layer_is_rounded_to_its_grid(mnist: Data) -> None:
    after, _ = apply(net(), step("quantize", activations="static", activation_bits=4), mnist)
    built, seen = zoo.fork(after).eval(), {}
    built.fc2.register_forward_pre_hook(lambda module, args: seen.update(x=args[0].detach()))
    built(mnist.test.take(slice(0, 50)).inputs())
    steps = seen["x"] / after.params["fc2.input_quantizer.scale"].decode()
    assert torch.allclose(steps, steps.round(), atol=1e-4)
    assert 0 <= float(steps.min()) <= float(steps.max()) <= 7


def test_dynamic_inputs_have_no_parameters(mnist: Data) -> None:
    after, report = apply(net(), step("quantize", activations="dynamic"), mnist)
    assert not any("input_quantizer" in name for name in after.params)
    assert [verb for verb, _ in after.arch.edits] == ["quantize_input"] * 2
    assert set(report.tables["activations"]["kind"]) == {"dynamic"}
    full = measure.logits(zoo.build(net()), mnist.test.take(slice(0, 100)))
    rounded = measure.logits(zoo.build(after), mnist.test.take(slice(0, 100)))
    assert float((full - rounded).abs().max()) < 0.05 * float(full.abs().max())


def test_a_symmetric_grid_on_relu_wastes_half_and_says_so(mnist: Data) -> None:
    _, report = apply(net(), step("quantize", activations="static"), mnist)
    assert any("fc2 is never negative" in note for note in report.notes)
    _, report = apply(net(), step("quantize", activations="static", scheme="asymmetric"), mnist)
    assert not any("never negative" in note for note in report.notes)


def test_activations_of_convolutions_and_of_an_lstm(mnist: Data) -> None:
    for name, layers in (("lenet-5-small", ["conv1", "conv2", "fc1", "fc2"]), ("lstm-32", ["lstm", "fc"])):
        settings = {"activations": "static", "range": "percentile"}
        after, report = apply(net(name), step("quantize", **settings), mnist)
        assert report.tables["activations"]["layer"].tolist() == layers
        zoo.build(after)(mnist.test.take(slice(0, 2)).inputs())
    assert any("Inside of a recurrent layer" in note for note in report.notes)


def test_activations_need_a_net_and_data(mnist: Data) -> None:
    with pytest.raises(SlimscopeError, match="known architecture"):
        apply(net(), step("quantize", activations="static"), None)
    bare = Bundle(Arch("bare"), {"a.weight": Dense(torch.ones(2, 2))})
    with pytest.raises(SlimscopeError, match="known architecture"):
        apply(bare, step("quantize", activations="dynamic"), mnist)


def test_inputs_are_not_rounded_twice(mnist: Data) -> None:
    once, _ = apply(net(), step("quantize", activations="static"), mnist)
    with pytest.raises(SlimscopeError, match="'fc1' is quantized already"):
        apply(once, step("quantize", activations="static"), mnist)
    again, _ = apply(once, step("quantize", bits=4), mnist)
    assert again.params["fc1.weight"].bits == 4  # type: ignore[union-attr]


def test_the_sketch_of_many_values_holds_the_extremes() -> None:
    from engine.net import taps

    values = torch.zeros(2**19)
    values[1], values[2] = -3.0, 7.0
    sketch = taps._sketch(values, "minmax")
    assert (float(sketch.min()), float(sketch.max())) == (-3.0, 7.0)
    assert len(sketch) < 2**17 + 3


def test_a_quantized_net_can_be_quantized_again() -> None:
    once, _ = apply(net(), step("quantize", bits=8), None)
    twice, report = apply(once, step("quantize", bits=8), None)
    assert report.figures[1].value < 1e-12
    values = once.params["fc1.weight"].decode()
    assert torch.allclose(twice.params["fc1.weight"].decode(), values, atol=1e-6)
    assert grids.error(values, twice.params["fc1.weight"], True).max_error < 1e-6  # type: ignore[arg-type]


def test_what_is_not_allowed_is_said() -> None:
    with pytest.raises(SettingError, match=r"bits is 17.*1 to 16"):
        apply(net(), step("quantize", bits=17), None)
    with pytest.raises(SettingError, match=r"scheme is 'log'.*symmetric, asymmetric"):
        apply(net(), step("quantize", scheme="log"), None)


@pytest.mark.parametrize("activations", ["static", "dynamic"])
def test_layers_that_take_no_floats_of_their_own_are_left_and_named(
    activations: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    user.name(f"{odd_models.__file__}:mixed", f"{odd_models.__file__}:words")
    bundle = sources.load_user()
    task = sources.data(bundle.arch)
    after, report = apply(bundle, step("quantize", activations=activations, activation_bits=4), task)
    rounded = ["encoder.linear1", "encoder.linear2", "up", "norm", "out"]
    assert sorted(report.tables["activations"]["layer"]) == sorted(rounded)
    left = next(note for note in report.notes if "stays 32-bit floats" in note)
    assert left.endswith(": tokens, encoder.self_attn, encoder.self_attn.out_proj.")
    built, seen = zoo.fork(after).eval(), {}
    for name in rounded:
        layer = built.get_submodule(name)
        layer.register_forward_pre_hook(lambda module, args, name=name: seen.update({name: args[0]}))
    built(task.test.inputs())
    assert all(len(values.unique()) <= 16 for values in seen.values())
    assert sorted(seen) == sorted(rounded)
    path = tmp_path / "mixed.slim"
    path.write_bytes(packfile.pack(after))
    again = compress.decode_elsewhere(path, (), ())
    assert again["fingerprint"] == after.fingerprint
    assert again["answers"] == measure.predictions(after, task.test).tolist()


# ---------------------------------------------------------------- ranges and rounding of a later day


@pytest.mark.parametrize("method", ["average", "percentile", "mse", "kl", "aciq"])
def test_static_ranges_of_inputs_may_be_found_in_a_way_of_their_own(method: str, mnist: Data) -> None:
    chosen = {"activations": "static", "scheme": "asymmetric", "activation_bits": 4}
    bundle = zoo.load("mlp-32")
    widest, narrow = (
        apply(bundle, step("quantize", **chosen, activation_range=way), mnist) for way in ("minmax", method)
    )
    assert torch.equal(narrow[0].params["fc1.weight"].decode(), widest[0].params["fc1.weight"].decode())
    scales = [
        each[1].tables["activations"].set_index("layer").loc["fc2", "scale"] for each in (widest, narrow)
    ]
    assert 0 < scales[1] < scales[0], "none but the extremes spans all that was seen"
    assert (
        widest[1].tables["activations"]["clipped"].max()
        == 0
        < narrow[1].tables["activations"]["clipped"].max()
    )


def test_without_rounded_weights_only_inputs_are_rounded(mnist: Data) -> None:
    before = net()
    after, report = apply(before, step("quantize", activations="dynamic", round_weights=False), mnist)
    assert all(after.params[name] is param for name, param in before.params.items())
    assert report.tables["layers"].empty
    assert [figure.name for figure in report.figures] == ["rounded inputs"]
    alone, _ = apply(before, step("quantize", round_weights=False), None)
    assert isinstance(alone.params["fc1.weight"], AffineGrid), (
        "hidden without activations, it changes nothing"
    )


def test_weights_rounded_by_chance_have_the_same_scales() -> None:
    nearest, chance = (
        apply(net(), step("quantize", bits=4, rounding=way, seed=7), None)[0]
        for way in ("nearest", "stochastic")
    )
    one, other = nearest.params["fc1.weight"], chance.params["fc1.weight"]
    assert isinstance(one, AffineGrid)
    assert isinstance(other, AffineGrid)
    assert torch.equal(one.scale, other.scale)
    assert int((one.codes - other.codes).abs().max()) == 1


# ---------------------------------------------------------------- a range for each token


@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_each_token_is_rounded_as_torch_rounds_rows_with_scales_of_their_own(scheme: str) -> None:
    x = torch.randn(4, 3, 6, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 2, 12).view(
        4, 3, 1
    )
    symmetric = scheme == "symmetric"
    quantizer = InputQuantizer(4, symmetric, True, alone=-1).eval()
    scale, zero = (each.flatten() for each in quantizer.affine(x))
    ends = (-7, 7) if symmetric else (0, 15)
    rows = torch.fake_quantize_per_channel_affine(x.reshape(12, 6), scale, zero.to(torch.int32), 0, *ends)
    assert torch.allclose(quantizer(x).reshape(12, 6), rows, atol=1e-6, rtol=1e-5)


def test_a_sample_does_not_change_the_answer_to_another(mnist: Data) -> None:
    some = mnist.test.take(slice(0, 20)).inputs()
    some[1:] *= 30
    for activations, alike in (("token", True), ("dynamic", False)):
        settings = {"activations": activations, "activation_bits": 4}
        built = zoo.build(apply(zoo.load("lenet-5-small"), step("quantize", **settings), mnist)[0])
        assert torch.allclose(built(some)[:1], built(some[:1]), rtol=1e-4, atol=1e-4) == alike


def test_a_range_for_each_sample_loses_less_than_one_for_the_batch(mnist: Data) -> None:
    bundle, chosen = zoo.load("lenet-5-small"), {"activation_bits": 4, "scheme": "asymmetric"}
    token, batch = (
        apply(bundle, step("quantize", activations=way, **chosen), mnist) for way in ("token", "dynamic")
    )
    noise = [each[1].tables["activations"].set_index("layer")["sqnr_db"] for each in (token, batch)]
    assert bool((noise[0] > noise[1] + 2)[["conv2", "fc1", "fc2"]].all())
    assert set(token[1].tables["activations"]["kind"]) == {"token"}
    assert token[1].tables["activations"]["clipped"].max() < 1e-3
    assert any("each sample has its own" in note for note in token[1].notes)


def test_a_packed_file_says_whether_tokens_are_rounded_by_themselves(mnist: Data) -> None:
    after, _ = apply(zoo.load("lstm-32"), step("quantize", activations="token"), mnist)
    again = packfile.unpack(packfile.pack(after))
    assert again.fingerprint == after.fingerprint
    assert zoo.build(again).lstm.input_quantizer.alone == -1  # type: ignore[union-attr]


def test_files_and_links_of_before_do_not_say_tokens(mnist: Data) -> None:
    after, _ = apply(net(), step("quantize", activations="dynamic"), mnist)
    assert set(after.arch.edits[0][1]) == {"layer", "bits", "symmetric", "dynamic"}
    static = after.arch.plain.edit(
        "quantize_input", layer="fc1", bits=8, symmetric=True, dynamic=False, tokens=True
    )
    with pytest.raises(SlimscopeError, match="has a static range"):
        zoo.skeleton(static)


def test_ranges_are_read_from_as_many_training_samples_as_are_asked_for(mnist: Data) -> None:
    """The largest pixel of so many images is the range of the first layer; all that there are, at most."""
    few = Data(mnist.name, mnist.train.take(slice(0, 40)), mnist.validation, mnist.test, mnist.classes)
    for data, asked, seen in ((mnist, 16, 16), (mnist, 256, 256), (few, 4096, 40)):
        settings = {"activations": "static", "scheme": "asymmetric", "calibration": asked}
        _, report = apply(net(), step("quantize", **settings), data)
        row = report.tables["activations"].set_index("layer").loc["fc1"]
        images = data.train.stratified(seen).inputs()
        assert (row["seen_low"], row["seen_high"]) == (float(images.min()), float(images.max()))
        assert any(f"from {seen} fixed training samples" in note for note in report.notes)
