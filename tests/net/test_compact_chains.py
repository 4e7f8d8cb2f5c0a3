"""Chains in the place of a convolution: their answers, their costs, and files that rebuild them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from engine.file import onnx_file
from engine.file.onnx_file import running
from engine.net import compact as chains
from engine.net import kinds, surgery, zoo
from engine.tensor import compact
from engine.tensor.compact import Design
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError

DESIGNS = (Design("separable"), Design("grouped", 2), Design("shuffled", 2), Design("inverted", expansion=2))
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {"kernel_size": 3},
    "strided": {"kernel_size": 3, "stride": 2, "padding": 1},
    "oblong": {"kernel_size": (5, 3), "padding": (2, 0), "dilation": (1, 2)},
    "same": {"kernel_size": 3, "padding": "same"},
}


@pytest.mark.parametrize("design", DESIGNS, ids=lambda design: design.name)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_chain_answers_as_its_one_kernel_and_costs_what_the_formula_says(
    design: Design, shape: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    conv, x = nn.Conv2d(4, 8, bias=False, **shape), torch.randn(2, 4, 9, 11)
    factors = compact.start(conv.weight.detach().flatten(2), design)
    net = chains.chain(conv, design).requires_grad_(False)
    net.load_state_dict(chains.state_of(factors, design, conv.kernel_size))
    conv.weight.data = factors.kernel.float().view_as(conv.weight)
    given = conv(x)
    assert torch.allclose(net(x), given, atol=1e-5)
    area, after = chains.area_of(conv), given[0, 0].numel()
    formula = sum(compact.macs(design, 4, 8, area, 9 * 11, after))
    assert kinds.layer_table(net, x[:1])["macs"].sum() == formula
    with FlopCounterMode(display=False) as counter:
        net(x[:1])
    assert counter.get_total_flops() == 2 * formula
    assert sum(p.numel() for p in net.parameters()) == sum(compact.weights(design, 4, 8, area))


@pytest.mark.parametrize("bias", [False, True])
def test_patches_are_what_a_kernel_reads_and_means_are_a_biass(bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 5, 3, 2, 1, bias=bias)
    net, x = nn.Sequential(conv), torch.randn(40, 3, 8, 8)
    read = chains.patches(conv, x)
    given = conv(x).movedim(1, 0).flatten(1)
    wanted = conv.weight.flatten(1) @ read + (conv.bias[:, None] if bias else 0)
    assert torch.allclose(wanted, given, atol=1e-5)
    moments, means, outputs = chains.moments(net, net, "0", x)
    assert compact.error(conv.weight.detach().double().flatten(2), moments) < 1e-9
    assert torch.allclose(means.float(), read.mean(1) if bias else torch.zeros(()), atol=1e-5)
    assert torch.allclose(outputs.float(), given.mean(1) if bias else torch.zeros(()), atol=1e-5)


def test_a_net_with_a_shuffle_can_be_written_as_onnx() -> None:
    arch = Arch("lenet-5-small").edit("replace_conv", layer="conv2", design="shuffled", groups=2, expansion=1)
    torch.manual_seed(0)
    state = zoo.skeleton(arch).state_dict()
    bundle = Bundle(arch, {name: Dense(torch.randn(own.shape) * 0.1) for name, own in state.items()})
    images = torch.randn(3, 1, 28, 28)
    model = onnx_file.write_floats(bundle, images)
    answer = running.answer(running.session(model), images)
    assert torch.allclose(answer, zoo.build(bundle)(images), atol=1e-4)


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        (nn.Linear(4, 4), "no 2-D convolution"),
        (nn.Conv2d(8, 8, 3, groups=2), "in groups already"),
        (nn.Conv2d(8, 8, 1), "cheap already"),
        (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), "pads by reflect"),
        (nn.Conv2d(6, 8, 3), "6 inputs are no multiple of 4"),
        (nn.Conv2d(8, 6, 3), "6 outputs are no multiple of 4"),
    ],
)
def test_what_can_not_be_replaced_says_why(layer: nn.Module, says: str) -> None:
    assert says in chains.why_not(layer, Design("grouped", 4))
    with pytest.raises(SlimscopeError, match=says):
        surgery.replace_conv(
            nn.ModuleDict({"own": layer}), layer="own", design="grouped", groups=4, expansion=1
        )


def test_an_edit_of_a_design_that_gains_nothing_or_is_unknown_is_refused() -> None:
    net = nn.ModuleDict({"own": nn.Conv2d(8, 8, 3)})
    with pytest.raises(SlimscopeError, match="would make"):
        surgery.replace_conv(net, layer="own", design="inverted", groups=1, expansion=6)
    with pytest.raises(SlimscopeError, match="design is 'round'"):
        surgery.replace_conv(net, layer="own", design="round", groups=1, expansion=1)
