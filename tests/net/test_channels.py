"""Channels: what goes together, that a smaller net answers as one with zeros, and how much smaller it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import odd_models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets, user_parts
from engine.figures import count
from engine.file import packfile
from engine.net import channels, kinds, sources, zoo
from engine.net.zoo.nets import VGG, LeNet5, Perceptron
from engine.recipe.run import apply
from engine.recipe.technique import step
from engine.tensor.formats import AffineGrid, Codebook, Dense
from engine.types import Arch, Bundle, SlimscopeError, weight_layers

NETS = ("lenet-300-100", "lenet-5", "lenet-5-small", "vgg-small", "resnet-8", "resnet-20")


def net(name: str) -> Bundle:
    """A seeded net whose biases and batch-norm are anything but zero and one."""
    state = zoo.seeded(name, 0).state_dict()
    generator = torch.Generator().manual_seed(1)
    for key, tensor in state.items():
        if tensor.dim() == 1:
            noise = torch.rand(tensor.shape, generator=generator)
            state[key] = noise + 0.5 if key.endswith(("var", "weight")) else noise - 0.5
    return zoo.bundle_of(name, state)


def images(name: str, n: int = 4) -> Tensor:
    shape = zoo.INPUTS[zoo.entry(name).data].shape
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))


def some(bundle: Bundle, share: float, seed: int) -> dict[str, list[int]]:
    """A random kept set: about `share` of every group, at least one channel."""
    generator = torch.Generator().manual_seed(seed)
    kept = {}
    for name, group in channels.groups(bundle).items():
        order = torch.randperm(group.channels, generator=generator)
        kept[name] = sorted(order[: max(1, round(share * group.channels))].tolist())
    return kept


def assert_equal_answers(a: Bundle, b: Bundle) -> None:
    inputs = images(a.arch.name)
    ours, theirs = zoo.build(a)(inputs), zoo.build(b)(inputs)
    assert float((ours - theirs).abs().max()) <= 1e-5 * max(1.0, float(theirs.abs().max()))


# ---------------------------------------------------------------- what goes together


def test_the_groups_of_a_chain_are_its_layers_without_the_last() -> None:
    known = channels.groups(net("vgg-small"))
    assert [group.channels for group in known.values()] == [32, 32, 64, 64, 128, 128, 256, 256]
    assert known["conv2"].layers == ("conv2",)
    assert [part.param for part in known["conv2"].makes] == [
        "conv2.weight",
        *(f"bn2.{name}" for name in ("weight", "bias", "running_mean", "running_var")),
    ]
    assert [part.param for part in known["conv2"].reads] == ["conv3.weight"]
    assert not any(group.stream for group in known.values())


def test_a_flattened_image_is_read_in_blocks() -> None:
    (part,) = channels.groups(net("lenet-5"))["conv2"].reads
    assert (part.param, part.axis, part.block) == ("fc1.weight", 1, 16)
    assert part.places(3) == range(48, 64)


def test_a_residual_stream_is_one_group_for_each_stage_that_it_starts_in() -> None:
    known = channels.groups(net("resnet-20"))
    streams = {name: group for name, group in known.items() if group.stream}
    assert {name: group.channels for name, group in streams.items()} == {
        "conv1": 16,
        "layer2.0.conv2": 16,
        "layer3.0.conv2": 32,
    }
    # The 16 channels of the first stage lie in the middle of the 32 and of the 64.
    where = {part.param: part.at for part in streams["conv1"].makes}
    assert where["layer1.2.conv2.weight"] == tuple(range(16))
    assert where["layer2.0.conv2.weight"] == tuple(range(8, 24))
    assert where["layer3.2.bn2.bias"] == tuple(range(24, 40))
    assert {part.at for part in streams["layer2.0.conv2"].reads if part.param == "layer2.1.conv1.weight"} == {
        (*range(8), *range(24, 32))
    }
    assert len(known) - len(streams) == 9  # inside of each block the channels are free
    made = {(part.param, place) for g in known.values() for part in g.makes for place in part.at}
    widths = {name: param.shape[0] for name, param in net("resnet-20").params.items() if name[:2] != "fc"}
    assert made == {(name, place) for name, width in widths.items() for place in range(width)}


def test_thin_layers_of_a_split_are_layers_too() -> None:
    split, _ = apply(net("lenet-5"), step("low_rank", by="rank", rank=8, leave_out=["conv1", "fc2"]), None)
    known = channels.groups(split)
    sizes = {"conv1": 20, "conv2.0": 8, "conv2.1": 50, "fc1.0": 8, "fc1.1": 500}
    assert {name: group.channels for name, group in known.items()} == sizes
    kept = some(split, 0.5, seed=3)
    assert_equal_answers(channels.keep(split, kept), channels.masked(split, kept))


@pytest.mark.parametrize("activations", ["static", "dynamic"])
@pytest.mark.parametrize("scheme", ["symmetric", "asymmetric"])
def test_rounded_inputs_stay_rounded(activations: str, scheme: str) -> None:
    before, _ = apply(
        net("lenet-5-small"),
        step("quantize", bits=6, activations=activations, scheme=scheme, activation_bits=5),
        sets.load("mnist"),
    )
    kept = some(before, 0.6, seed=2)
    after = channels.keep(before, kept)
    assert hasattr(zoo.build(after).get_submodule("conv2"), "input_quantizer")
    assert_equal_answers(after, channels.masked(before, kept))
    again, _ = apply(after, step("low_rank", by="rank", rank=2), None)  # it knows that inputs are rounded
    assert again.fingerprint == after.fingerprint


def test_a_smaller_net_can_be_split_and_rounded() -> None:
    after = channels.keep(net("vgg-small"), some(net("vgg-small"), 0.5, seed=0))
    split, _ = apply(after, step("low_rank", by="share", share=0.5, form="spatial"), None)
    assert any(verb == "split" for verb, _ in split.arch.edits)
    rounded, _ = apply(split, step("quantize", activations="dynamic"), sets.load("cifar10"))
    assert_equal_answers(packfile.unpack(packfile.pack(rounded)), rounded)


def test_recurrent_nets_are_refused() -> None:
    with pytest.raises(SlimscopeError, match="layer 'lstm' is recurrent"):
        channels.groups(net("lstm-32"))


def test_a_forward_that_looks_at_values_is_refused() -> None:
    bundle = sources.adopt(odd_models.branching(), user_parts.task_of(odd_models.vectors(), "vectors"))[0]
    with pytest.raises(SlimscopeError, match=r"odd_models.py:\d+: .* depends on the values"):
        channels.groups(bundle)


def test_weights_without_an_architecture_are_refused() -> None:
    with pytest.raises(SlimscopeError, match="no known architecture"):
        channels.groups(Bundle(Arch("bare"), {"a.weight": Dense(torch.ones(2, 2))}))


# ---------------------------------------------------------------- the smaller net is the one with zeros


@pytest.mark.parametrize("name", NETS)
@settings(max_examples=6)
@given(share=st.floats(0, 1), seed=st.integers(0, 2**32))
def test_the_smaller_net_answers_as_the_one_with_zeros(name: str, share: float, seed: int) -> None:
    before = net(name)
    kept = some(before, share, seed)
    masked, smaller = channels.masked(before, kept), channels.keep(before, kept)
    assert_equal_answers(smaller, masked)
    assert weight_layers(smaller) == weight_layers(before)
    assert list(smaller.params) == list(before.params)
    again = packfile.unpack(packfile.pack(smaller))
    assert again.arch == smaller.arch
    assert torch.equal(zoo.build(again)(images(name)), zoo.build(smaller)(images(name)))
    assert {n: p.shape for n, p in masked.params.items()} == {n: p.shape for n, p in before.params.items()}
    # Every number that is gone in one is an exact zero in the other, and no other became one.
    zeros = sum(int((t == 0).sum()) for t in masked.state().values())
    gone = sum(t.numel() for t in before.state().values()) - sum(t.numel() for t in smaller.state().values())
    assert zeros == gone


@pytest.mark.parametrize("name", ["lenet-5", "vgg-small", "resnet-8"])
def test_zeros_are_what_hooks_that_silence_channels_would_do(name: str) -> None:
    before = net(name)
    kept = some(before, 0.5, seed=5)
    silenced = zoo.fork(before).eval()
    for group in channels.groups(before).values():
        gone = [c for c in range(group.channels) if c not in kept[group.name]]
        for part in group.makes:
            module, _, leaf = part.param.rpartition(".")
            if leaf == "bias":  # each layer's last word: its own bias, or its batch-norm's
                silenced.get_submodule(module).register_forward_hook(silence([part.at[c] for c in gone]))
    expected = silenced(images(name))
    for after in (channels.masked(before, kept), channels.keep(before, kept)):
        found = zoo.build(after)(images(name))
        assert torch.allclose(found, expected, atol=1e-5 * max(1.0, float(expected.detach().abs().max())))


def silence(places: Sequence[int]):  # type: ignore[no-untyped-def]
    def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, places] = 0.0
        return output

    return hook


@pytest.mark.parametrize(
    ("name", "widths"),
    [("lenet-300-100", (7, 3)), ("lenet-5", (4, 9, 21)), ("vgg-small", (3, 5, 8, 13, 21, 34, 55, 89))],
)
def test_the_smaller_net_is_the_one_that_is_built_narrow(name: str, widths: tuple[int, ...]) -> None:
    before = net(name)
    known = channels.groups(before)
    kept = {group: list(range(n)) for group, n in zip(known, widths, strict=True)}
    after = channels.keep(before, kept)
    make = {"lenet-300-100": lambda: Perceptron(784, *widths, 10), "lenet-5": lambda: LeNet5(*widths)}
    narrow = make.get(name, lambda: VGG(*widths))()
    narrow.load_state_dict(after.state(), strict=not name.startswith("vgg"))
    assert torch.equal(narrow.eval()(images(name)), zoo.build(after)(images(name)))
    # The first rows and columns of the weights, laid out by hand:
    second = list(weight_layers(before).values())[1]
    assert torch.equal(after.state()[second], before.state()[second][: widths[1], : widths[0]])


def test_were_only_the_weights_zero_a_constant_would_survive() -> None:
    before = net("vgg-small")
    kept = {"conv1": list(range(20))}
    rows = before.state()["conv1.weight"].clone()
    rows[20:] = 0.0
    half = before.become({**before.params, "conv1.weight": Dense(rows)})
    there = zoo.build(channels.masked(before, kept))(images("vgg-small"))
    assert float((zoo.build(half)(images("vgg-small")) - there).abs().max()) > 1e-2


def test_twice_is_once_with_both() -> None:
    before = net("resnet-8")
    first = channels.keep(before, {"conv1": range(2, 16), "layer3.0.conv2": range(10, 32)})
    second = channels.keep(first, {"conv1": range(3, 14), "layer2.0.conv1": [0, 5]})
    at_once = channels.keep(
        before, {"conv1": range(5, 16), "layer3.0.conv2": range(10, 32), "layer2.0.conv1": [0, 5]}
    )
    assert second.state().keys() == at_once.state().keys()
    assert all(torch.equal(second.state()[n], at_once.state()[n]) for n in second.params)
    assert torch.equal(zoo.build(second)(images("resnet-8")), zoo.build(at_once)(images("resnet-8")))


def test_a_shortcut_is_padded_by_what_is_left_on_either_side() -> None:
    kept = {"layer2.0.conv2": [0, 1, 2, 15], "layer3.0.conv2": range(16)}
    after = channels.keep(net("resnet-8"), kept)
    built = zoo.build(after)
    assert built.get_submodule("layer2.0").pad == (3, 1)
    assert built.get_submodule("layer3.0").pad == (16, 0)
    assert_equal_answers(after, channels.masked(net("resnet-8"), kept))


def test_where_all_stays_nothing_is_new() -> None:
    before = net("resnet-8")
    whole = {name: range(group.channels) for name, group in channels.groups(before).items()}
    assert channels.keep(before, whole) is before
    assert channels.masked(before, {}).fingerprint == before.fingerprint


def test_the_origin_and_the_input_stay_as_they_are() -> None:
    before = net("lenet-5-small")
    print_before = before.fingerprint
    after = channels.keep(channels.masked(before, {"conv1": [0]}), {"conv1": [0]})
    assert after.origin is before
    assert Bundle(before.arch, before.params).fingerprint == print_before


def test_a_smaller_net_can_be_trained() -> None:
    after = channels.keep(net("vgg-small"), some(net("vgg-small"), 0.3, seed=0))
    trained = zoo.fork(after).train()
    trained(images("vgg-small")).sum().backward()
    assert all(p.grad is not None and p.grad.shape == p.shape for p in trained.parameters())


# ---------------------------------------------------------------- grids and codebooks


@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_codes_and_scales_are_cut_with_their_channels(granularity: str) -> None:
    before, _ = apply(
        net("lenet-5-small"),
        step("quantize", bits=5, granularity=granularity, group=16, scheme="asymmetric"),
        None,
    )
    kept = some(before, 0.5, seed=1)
    after = channels.keep(before, kept)
    rows, columns = kept["conv2"], kept["conv1"]
    old, new = before.params["conv2.weight"], after.params["conv2.weight"]
    assert torch.equal(new.decode(), old.decode()[rows][:, columns])
    assert isinstance(old, AffineGrid)
    if granularity == "group":  # 16 weights of a row of 4 x 25 share a scale: a cut runs through them
        assert isinstance(new, Dense)
        assert channels.turned_dense(before, after) == ("conv2.weight", "fc1.weight", "fc2.weight")
        assert isinstance(after.params["conv1.weight"], AffineGrid)  # loses whole rows, whose scales go along
    else:
        assert isinstance(new, AffineGrid)
        assert torch.equal(new.codes, old.codes[rows][:, columns])
        assert torch.equal(new.scale, old.scale if granularity == "tensor" else old.scale[rows])
        assert channels.turned_dense(before, after) == ()
    assert_equal_answers(after, channels.masked(before, kept))
    assert_equal_answers(packfile.unpack(packfile.pack(after)), after)


def test_zeros_in_a_grid_keep_its_scales() -> None:
    before, _ = apply(net("lenet-5-small"), step("quantize", bits=4), None)
    after = channels.masked(before, {"conv1": [1, 3]})
    old, new = before.params["conv1.weight"], after.params["conv1.weight"]
    assert isinstance(old, AffineGrid)
    assert isinstance(new, AffineGrid)
    assert new.scale is old.scale
    assert torch.equal(new.codes[1], old.codes[1])
    assert not new.decode()[[0, 2]].any()


def test_shared_weights_keep_their_table() -> None:
    before = net("lenet-5-small")
    values, at = torch.unique(before.state()["conv2.weight"].sign(), return_inverse=True)
    book = Codebook(at.to(torch.int32), values)
    shared = before.become({**before.params, "conv2.weight": book})
    cut = channels.keep(shared, {"conv1": [0, 2], "conv2": [1, 5]}).params["conv2.weight"]
    assert isinstance(cut, Codebook)
    assert cut.table is book.table
    assert torch.equal(cut.decode(), book.decode()[[1, 5]][:, [0, 2]])


# ---------------------------------------------------------------- how much smaller


@settings(max_examples=15)
@given(first=st.integers(1, 20), second=st.integers(1, 50), units=st.integers(1, 500))
def test_parameters_and_multiply_adds_fall_as_the_formula_says(first: int, second: int, units: int) -> None:
    kept = {"conv1": range(first), "conv2": range(second), "fc1": range(units)}
    after = channels.keep(net("lenet-5"), kept)
    weights = (25 * first, 25 * first * second, 16 * second * units, 10 * units)
    assert count.parameters(after).value == sum(weights) + first + second + units + 10
    positions = (24 * 24, 8 * 8, 1, 1)
    expected = [w * n for w, n in zip(weights, positions, strict=True)]
    assert kinds.layer_macs(after)["macs"].tolist() == expected


def test_what_goes_with_a_filter_by_hand() -> None:
    table = channels.goes_with(net("lenet-5"), "conv2", 3).set_index("parameter")
    assert table["elements"].to_dict() == {"conv2.weight": 500, "conv2.bias": 1, "fc1.weight": 16 * 500}
    assert table.loc["fc1.weight", ["role", "what", "axis", "start", "stop"]].tolist() == [
        "reads",
        "input slice",
        1,
        48,
        64,
    ]
    table = channels.goes_with(net("resnet-8"), "layer1.0.conv1", 0)
    assert table["what"].tolist() == [
        "filter",
        "batch-norm scale",
        "batch-norm shift",
        "batch-norm mean",
        "batch-norm variance",
        "input slice",
    ]


@pytest.mark.parametrize("name", ["lenet-300-100", "resnet-20"])
def test_what_goes_with_one_channel_is_what_one_channel_saves(name: str) -> None:
    before = net(name)
    for group in channels.groups(before).values():
        last = group.channels - 1
        table = channels.goes_with(before, group.name, last)
        after = channels.keep(before, {group.name: range(last)})
        saved = {
            n: before.params[n].decode().numel() - after.params[n].decode().numel() for n in before.params
        }
        told = table.groupby("parameter")["elements"].sum().to_dict()
        assert {n: numbers for n, numbers in saved.items() if numbers} == told


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("kept", "says"),
    [
        ({"fc2": [0]}, r"group 'fc2' .* there are conv1, conv2, fc1"),
        ({"conv1": [4]}, r"channel 4 is not in conv1: allowed is 0 to 3"),
        ({"conv1": [-1]}, r"channel -1 .* 0 to 3"),
        ({"conv1": []}, r"no channel of conv1 would stay: allowed are 1 to 4"),
    ],
)
def test_what_is_not_there_cannot_be_kept(kept: Mapping[str, list[int]], says: str) -> None:
    for work in (channels.keep, channels.masked):
        with pytest.raises(SlimscopeError, match=says):
            work(net("lenet-5-small"), kept)


def test_only_channels_that_are_there_have_company() -> None:
    with pytest.raises(SlimscopeError, match="channel 9 is not in conv1"):
        channels.goes_with(net("lenet-5-small"), "conv1", 9)


@pytest.mark.parametrize(
    ("name", "settings", "says"),
    [
        ("lenet-5-small", {"outputs": {"conv1": 5}}, r"out_channels of 'conv1' is 5: allowed is 1 to 4"),
        ("lenet-5-small", {"inputs": {"fc1": 0}}, r"in_features of 'fc1' is 0: allowed is 1 to 128"),
        ("lstm-32", {"outputs": {"lstm": 5}}, r"'lstm' \(LSTM\) can't be made narrower"),
        ("lenet-5-small", {"outputs": {"conv9": 5}}, r"'conv9' is not in this model"),
        ("lenet-5-small", {"pads": {"conv1": [1, 1]}}, r"shortcut of 'conv1' can't be padded"),
        ("resnet-8", {"pads": {"layer2.0": [-1, 1]}}, r"can't be padded by \[-1, 1\]"),
        ("resnet-8", {"pads": {"layer2.0": [1]}}, r"can't be padded by \[1\]"),
    ],
)
def test_an_edit_that_fits_no_net_is_refused(name: str, settings: Mapping[str, object], says: str) -> None:
    arch = Arch(name).edit("narrow", **{"outputs": {}, "inputs": {}, "pads": {}, **settings})
    with pytest.raises(SlimscopeError, match=says):
        zoo.skeleton(arch)


@pytest.mark.parametrize("name", NETS)
def test_where_channels_lie_agrees_with_what_goes_with_each(name: str) -> None:
    bundle = net(name)
    for group in channels.groups(bundle).values():
        rows = channels.parts_of(bundle, group.name)
        for channel in (0, group.channels - 1):
            table = channels.goes_with(bundle, group.name, channel)
            assert sum(row["elements"] for row in rows) == table["elements"].sum()
            starts = {
                (part.rpartition(".")[0], start)
                for part, start in table[["parameter", "start"]].values.tolist()
            }
            assert {(row["layer"], row["at"][channel]) for row in rows} == starts
        assert all(max(row["at"]) + row["block"] <= row["of"] for row in rows)
