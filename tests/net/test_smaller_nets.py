"""Edits that make a net smaller than channels alone can: smaller kernels and images, skipped layers."""

from __future__ import annotations

import own_models
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from engine.data import user_parts
from engine.figures import count
from engine.file import packfile
from engine.net import channels, compact, sources, zoo
from engine.net.designing import Blueprint, choices, drawn, skipped
from engine.net.narrower import bundle_of, fresh
from engine.types import Arch, SlimscopeError

WHOLE = (1.0, 1.0, 1.0)


@given(
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.sampled_from([3, 5, 7]),
    st.sampled_from([1, 3, 5]),
)
@settings(max_examples=60, deadline=None)
def test_a_smaller_kernel_gives_outputs_of_the_same_size(
    top: int, left: int, stride: int, dilation: int, own: int, size: int
) -> None:
    old = nn.Conv2d(3, 4, own, stride, (top, left), dilation)
    images, less = torch.zeros(1, 3, 20, 17), dilation * (own - size) // 2
    spreads = size > 1 and (own - 1) % (size - 1) == 0
    if size >= own or not (spreads or less <= min(top, left)):
        with pytest.raises(SlimscopeError):
            compact.with_kernel(old, size)
        return
    new = compact.with_kernel(old, size)
    assert new.kernel_size == (size, size)
    assert new(images).shape == old(images).shape


def test_a_smaller_kernel_reads_around_the_same_places() -> None:
    """With the same weights at its places, and zeros at the others, the large kernel gives the same."""
    for padding, at in ((1, slice(1, 4)), (0, slice(0, 5, 2))):  # in the middle; two points apart
        old = nn.Conv2d(2, 3, 5, padding=padding)
        new = compact.with_kernel(old, 3)
        with torch.no_grad():
            old.weight.zero_()
            old.weight[:, :, at, at] = new.weight
            old.bias.copy_(new.bias)
        images = torch.randn(1, 2, 9, 9, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(new(images), old(images), atol=1e-6)


def test_what_can_be_skipped_gives_what_it_reads() -> None:
    arch = zoo.load("resnet-20").arch
    assert len(skipped(arch)) == 9
    shorter = (
        arch.edit("skip", layer="layer1.0").edit("skip", layer="layer1.1").edit("skip", layer="layer1.2")
    )
    whole, net = zoo.seeded("resnet-20", 0).eval(), fresh(shorter, 0).eval()
    net.load_state_dict({n: t for n, t in whole.state_dict().items() if not n.startswith("layer1.")})
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    first = F.relu(whole.bn1(whole.conv1(images)))
    last = whole.layer3(whole.layer2(first)).mean((2, 3))
    assert torch.equal(net(images), whole.fc(last))


def test_images_are_made_smaller_before_the_first_layer() -> None:
    arch = Arch("resnet-8").edit("shrink_input", share=0.75)
    net, whole = fresh(arch, 0).eval(), zoo.seeded("resnet-8", 0).eval()
    net.load_state_dict(whole.state_dict())
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net(images), whole(F.interpolate(images, (24, 24), mode="bilinear")))


@pytest.mark.parametrize(
    ("name", "blueprint"),
    [
        ("resnet-8", Blueprint(WHOLE, depth=0.33, resolution=0.5, smaller_kernels=True, since=1)),
        ("vgg-small", Blueprint((0.25, 0.5, 0.5), compact.Design("separable"), 1, 0.67, 0.75)),
        ("lenet-5", Blueprint((0.5, 0.5, 0.5), smaller_kernels=True)),
        ("transformer-topics", Blueprint((0.5, 0.5, 0.5), depth=0.33)),
    ],
)
def test_a_design_is_counted_as_torch_counts_it_and_comes_back_from_its_file(
    name: str, blueprint: Blueprint
) -> None:
    arch = drawn(zoo.load(name), blueprint)
    net = fresh(arch, 0).eval()
    bundle, inputs = bundle_of(arch, net), sources.data(arch).test.inputs(slice(0, 2))
    with (
        FlopCounterMode(display=False) as counter,
        torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH),
    ):
        net(inputs[:1])
    assert count.macs(bundle).value == counter.get_total_flops() / 2
    again = packfile.unpack(packfile.pack(bundle))
    assert torch.equal(zoo.build(again)(inputs), zoo.build(bundle)(inputs))
    assert channels.groups(again)


def test_a_strangers_net_has_the_choices_that_it_runs_with() -> None:
    data = user_parts.task_of(own_models.parts("residual depthwise"), "own")
    bundle, _, _ = sources.adopt(own_models.model("residual depthwise"), data)
    able = choices(bundle)
    assert able.depths == (1.0, 0.67, 0.33)
    for depth in able.depths:
        for resolution in able.resolutions:
            arch = drawn(bundle, Blueprint((0.5, 0.5, 0.5), depth=depth, resolution=resolution))
            net = zoo.build(bundle_of(arch, fresh(arch, 0)))
            assert net(data.test.inputs(slice(0, 2))).isfinite().all()


def test_what_cannot_be_is_said() -> None:
    for verb, own, said in (
        ("shrink_input", {"share": 0.4}, r"0\.4 of their sides: allowed is 0\.5 to below 1"),
        ("skip", {"layer": ""}, "the whole model can't be skipped"),
        ("skip", {"layer": "layer9"}, "'layer9' is not in this model"),
        ("shrink_kernel", {"layer": "fc", "size": 1}, "Linear is no plain 2-D convolution"),
        ("shrink_kernel", {"layer": "conv1", "size": 2}, "3x3, padded by .* can't be 2x2"),
        ("shrink_kernel", {"layer": "conv1", "size": -1}, "can't be -1x-1"),
    ):
        with pytest.raises(SlimscopeError, match=said):
            zoo.skeleton(Arch("resnet-8").edit(verb, **own))
    words = zoo.skeleton(Arch("lenet-300-100").edit("shrink_input", share=0.5))
    with pytest.raises(SlimscopeError, match="are no images: they can't be made smaller"):
        words(torch.zeros(2, 784))
