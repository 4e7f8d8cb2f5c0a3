"""Nets of many kinds: which of their channels can go, and that without them they answer as with zeros."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from engine.data import user, user_parts
from engine.file import packfile
from engine.net import channels, sources, zoo
from engine.types import Bundle, SlimscopeError, weight_layers

IMAGE, SOUND, TOKENS = (3, 8, 8), (2, 20), (9,)


class Net(nn.Module):
    """Layers by name, and what is done with them."""

    def __init__(self, run: Callable[..., Tensor], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: Tensor) -> Tensor:
        return self.run(self, x)


def conv(made: int, read: int, size: int = 3, **more: object) -> nn.Conv2d:
    return nn.Conv2d(read, made, size, padding=size // 2, **more)  # type: ignore[arg-type]


def separable(net: Net, x: Tensor) -> Tensor:
    x = F.relu6(net.norm1(net.first(x)))
    x = F.hardswish(net.norm2(net.each(x)))
    return net.out(F.silu(net.point(x)).mean((2, 3)))


def sound(net: Net, x: Tensor) -> Tensor:
    x = F.max_pool1d(F.gelu(net.norm(net.first(x))), 2)
    x = F.leaky_relu(net.second(x), 0.1)
    return net.out(x.view(x.size(0), -1))


def dense(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    for layer in (net.second, net.third):
        x = torch.cat([x, F.elu(layer(x))], dim=1)
    return net.out(F.adaptive_avg_pool2d(net.norm(x), 1).flatten(1))


def words(net: Net, x: Tensor) -> Tensor:
    x = net.tokens(x).transpose(1, 2)
    return net.out(torch.tanh(net.conv(x)).amax(dim=2))


def shortcut(net: Net, x: Tensor) -> Tensor:
    x = net.stem(x)
    y = net.norm(net.inner(F.relu(x, inplace=True)))
    y += net.side(x)
    return net.out(F.avg_pool2d(y.relu_(), 8)[:, :, 0, 0])


def gated(net: Net, x: Tensor) -> Tensor:
    a, b = net.both(x.flatten(1)).chunk(2, dim=-1)
    return net.out(net.left(a) * F.silu(net.right(b)) / 3)


def tokens_of(net: Net, x: Tensor) -> Tensor:
    x = net.tokens(x) + net.places.weight
    return net.out(net.layers(x).mean(1))


def squeeze(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    x = x * torch.sigmoid(net.grow(F.relu(net.shrink(x.mean((2, 3))))))[:, :, None, None]
    return net.out(net.last(x).sum((2, 3)))


def twice(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    x = net.same(torch.cat([x, x], 1))
    x = net.again(F.relu(net.again(F.relu(net.again(x)))))
    return net.out(x.mean((-1, -2)))


def halves(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    x = x[:, :4] + x[:, 4:]
    return net.out(net.last(x).permute(0, 2, 3, 1).mean((1, 2)))


def line(made: int, read: int) -> nn.Linear:
    return nn.Linear(read, made)


def encoder() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True, activation="gelu")
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


# Each net, its inputs, and the groups of channels that can go.
NETS = {
    "separable": (
        lambda: Net(
            separable,
            first=conv(8, 3),
            norm1=nn.BatchNorm2d(8),
            each=conv(8, 8, groups=8),
            norm2=nn.BatchNorm2d(8),
            point=conv(6, 8, 1),
            out=line(4, 6),
        ),
        IMAGE,
        {"first": 8, "point": 6},
    ),
    "sound": (
        lambda: Net(
            sound,
            first=nn.Conv1d(2, 8, 5, padding=2),
            norm=nn.BatchNorm1d(8),
            second=nn.Conv1d(8, 6, 3),
            out=line(4, 48),
        ),
        SOUND,
        {"first": 8, "second": 6},
    ),
    "dense": (
        lambda: Net(
            dense,
            first=conv(6, 3),
            second=conv(4, 6),
            third=conv(4, 10),
            norm=nn.BatchNorm2d(14),
            out=line(4, 14),
        ),
        IMAGE,
        {"first": 6, "second": 4, "third": 4},
    ),
    "words": (
        lambda: Net(words, tokens=nn.Embedding(20, 12), conv=nn.Conv1d(12, 8, 3), out=line(4, 8)),
        TOKENS,
        {"tokens": 12, "conv": 8},
    ),
    "shortcut": (
        lambda: Net(
            shortcut,
            stem=conv(6, 3),
            inner=conv(8, 6),
            norm=nn.BatchNorm2d(8),
            side=conv(8, 6, 1),
            out=line(4, 8),
        ),
        IMAGE,
        {"stem": 6, "inner": 8},
    ),
    "gated": (
        lambda: Net(gated, both=line(12, 192), left=line(8, 6), right=line(8, 6), out=line(4, 8)),
        IMAGE,
        {"left": 8},
    ),
    "transformer": (
        lambda: Net(
            tokens_of,
            tokens=nn.Embedding(20, 16),
            places=nn.Embedding(9, 16),
            layers=encoder(),
            out=line(4, 16),
        ),
        TOKENS,
        {"layers.layers.0.linear1": 24, "layers.layers.1.linear1": 24},
    ),
    "squeeze": (
        lambda: Net(
            squeeze, first=conv(8, 3), shrink=line(5, 8), grow=line(8, 5), last=conv(6, 8), out=line(4, 6)
        ),
        IMAGE,
        {"shrink": 5, "last": 6},
    ),
    "twice": (
        lambda: Net(twice, first=conv(5, 3), same=conv(6, 10), again=conv(6, 6), out=line(4, 6)),
        IMAGE,
        {"same": 6},
    ),
    "halves": (
        lambda: Net(halves, first=conv(8, 3), last=conv(6, 4), out=line(4, 6)),
        IMAGE,
        {"last": 6},
    ),
}


def samples(shape: tuple[int, ...], n: int) -> Tensor:
    generator = torch.Generator().manual_seed(n)
    if shape == TOKENS:
        return torch.randint(20, (n, *shape), generator=generator)
    return torch.randn(n, *shape, generator=generator)


def adopted(model: Net, shape: tuple[int, ...]) -> Bundle:
    """The net as a user's, with biases and statistics that are anything but zero and one."""
    generator = torch.Generator().manual_seed(zlib.crc32(model.run.__name__.encode()))
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) - (0.4 if tensor.dim() > 1 else 0.3))
            if name.endswith("running_var"):
                tensor.abs_().add_(0.5)
    parts = [TensorDataset(samples(shape, n), torch.arange(n) % 4) for n in (24, 12, 16)]
    return sources.adopt(model.eval(), user_parts.task_of(parts, "data"))[0]


def opened(name: str, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    monkeypatch.setenv(user.VARIABLE, "")
    make, shape, _ = NETS[name]
    return adopted(make(), shape)


@pytest.mark.parametrize("name", NETS)
def test_the_channels_that_can_go(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = channels.groups(opened(name, monkeypatch))
    assert {label: group.channels for label, group in found.items()} == NETS[name][2]


@pytest.mark.parametrize("name", NETS)
def test_without_them_it_answers_as_with_zeros(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before, inputs = opened(name, monkeypatch), samples(NETS[name][1], 5)

    @settings(max_examples=8, deadline=None)
    @given(share=st.floats(0, 0.9), seed=st.integers(0, 2**32))
    def holds(share: float, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        kept = {}
        for label, group in channels.groups(before).items():
            order = torch.randperm(group.channels, generator=generator)
            kept[label] = sorted(order[: max(1, round((1 - share) * group.channels))].tolist())
        masked, smaller = channels.masked(before, kept), channels.keep(before, kept)
        expected = zoo.build(masked)(inputs)
        assert torch.allclose(zoo.build(smaller)(inputs), expected, rtol=1e-4, atol=1e-4)
        zeros = sum(int((t == 0).sum()) for t in masked.state().values())
        sizes = [sum(t.numel() for t in bundle.state().values()) for bundle in (before, smaller)]
        assert zeros == sizes[0] - sizes[1]
        again = packfile.unpack(packfile.pack(smaller))
        assert torch.equal(zoo.build(again)(inputs), zoo.build(smaller)(inputs))
        assert weight_layers(smaller) == weight_layers(before)

    holds()


def test_a_depthwise_filter_goes_with_the_channel_that_it_looks_at(monkeypatch: pytest.MonkeyPatch) -> None:
    before = opened("separable", monkeypatch)
    assert channels.groups(before)["first"].layers == ("first", "each")
    after = zoo.build(channels.keep(before, {"first": [1, 4, 6]}))
    each = after.get_submodule("each")
    assert (each.in_channels, each.out_channels, each.groups) == (3, 3, 3)
    assert torch.equal(each.weight, before.params["each.weight"].decode()[[1, 4, 6]])


def test_what_is_laid_side_by_side_is_read_behind_what_came_before(monkeypatch: pytest.MonkeyPatch) -> None:
    third = channels.groups(opened("dense", monkeypatch))["third"]
    assert {part.param: part.at for part in (*third.makes, *third.reads)} == {
        "third.weight": (0, 1, 2, 3),
        "third.bias": (0, 1, 2, 3),
        **{f"norm.{name}": (10, 11, 12, 13) for name in ("weight", "bias", "running_mean", "running_var")},
        "out.weight": (10, 11, 12, 13),
    }


def sigmoids(net: Net, x: Tensor) -> Tensor:
    return net.out(torch.sigmoid(net.first(x)).mean((2, 3)))


def grouped(net: Net, x: Tensor) -> Tensor:
    return net.out(net.second(net.first(x)).mean((2, 3)))


def shifted(net: Net, x: Tensor) -> Tensor:
    return net.out((net.first(x) + 1).mean((2, 3)))


def padded(net: Net, x: Tensor) -> Tensor:
    return net.out(F.pad(net.first(x), (1, 1, 1, 1), value=1.0).mean((2, 3)))


def weighed(net: Net, x: Tensor) -> Tensor:
    return net.out(F.conv2d(x, net.first.weight - net.first.weight.mean()).mean((2, 3)))


def written(net: Net, x: Tensor) -> Tensor:
    return net.out(net.first(x).view(-1, 4, 64).mean(2))


def judged(net: Net, x: Tensor) -> Tensor:
    x = net.first(x)
    return net.out((x if x.sum() > 0 else -x).mean((2, 3)))


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (sigmoids, "followed through sigmoid"),  # of zero it is a half
        (grouped, "second: channels of grouped layers can't be removed"),
        (shifted, "followed through add"),
        (padded, "followed through pad"),
        (written, "first can't lose a channel: .*test_trace.py"),  # a number in the code
        (judged, r"can't be followed: .*test_trace.py:\d+: .* depends on the values"),
    ],
)
def test_what_can_not_be_followed_stays_and_is_named(
    run: Callable[..., Tensor], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    layers = {"first": conv(4, 3), "out": line(4, 4)}
    if run is grouped:
        layers["second"] = conv(4, 4, groups=2)
    with pytest.raises(SlimscopeError, match=says):
        channels.groups(adopted(Net(run, **layers), IMAGE))


def test_weights_that_are_worked_out_have_no_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(user.VARIABLE, "")
    assert channels.groups(adopted(Net(weighed, first=conv(4, 3), out=line(4, 4)), IMAGE)) == {}
