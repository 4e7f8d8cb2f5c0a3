"""Heads of attention: which slices of a net's tensors belong to one, and how much the loss depends on it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import channels, zoo
from engine.net.channels import Group, Part
from engine.net.zoo.llama import GroupedAttention
from engine.net.zoo.text import Attention
from engine.types import Bundle, SlimscopeError


@dataclass(frozen=True)
class Block:
    """One attention: its heads as a group of channels, and whether they can be cut out for good.

    Torch's own attention has one width for all, so its heads can only be zero.
    """

    group: Group
    is_cut: bool

    @property
    def reads(self) -> Part:
        """The columns of the last matrix that read what each head gives."""
        return self.group.reads[0]


def blocks(bundle: Bundle) -> dict[str, Block]:
    """The attentions of a net by their label, in its order. Raises SlimscopeError where it has none."""
    if not bundle.arch.runs:
        raise SlimscopeError("where attention has its heads is known only of a model that runs")
    net = zoo.skeleton(bundle.arch)
    found = {label: block for label, module in net.named_modules() if (block := _block(net, label, module))}
    if not found and any(isinstance(module, GroupedAttention) for module in net.modules()):
        raise SlimscopeError(
            f"the heads of {zoo.title(bundle.arch)} share keys and values in groups: none is cut out alone"
        )
    if not found:
        raise SlimscopeError(f"{zoo.title(bundle.arch)} has no attention: there are no heads to remove")
    return found


def _block(net: nn.Module, label: str, module: nn.Module) -> Block | None:
    match module:
        case Attention():
            makes = [_end(net, f"{label}.{name}", -1) for name in ("query", "key", "value")]
            out = _end(net, f"{label}.out", 0)
            reader, size = net.get_submodule(out), module.size
            assert isinstance(reader, nn.Linear)
            heads = reader.in_features // size
            at = tuple(range(0, heads * size, size))
            parts = [
                Part(f"{layer}.{name}", 0, size, at)
                for layer in makes
                for name, _ in net.get_submodule(layer).named_parameters(recurse=False)
            ]
            return Block(_group(label, heads, parts, Part(f"{out}.weight", 1, size, at)), True)
        case nn.MultiheadAttention():
            size, heads = module.head_dim, module.num_heads
            at = tuple(range(0, heads * size, size))
            own = {f"{label}.{name}" for name, _ in module.named_parameters(recurse=False)}
            parts = [
                Part(f"{label}.{name}", 0, size, tuple(third * module.embed_dim + place for place in at))
                for name, thirds in _JOINT.items()
                for third in thirds
                if f"{label}.{name}" in own
            ]
            return Block(_group(label, heads, parts, Part(f"{label}.out_proj.weight", 1, size, at)), False)
    return None


# torch's names -> which thirds of the rows they hold: those of queries, keys and values
_JOINT = {
    "in_proj_weight": (0, 1, 2),
    "in_proj_bias": (0, 1, 2),
    "q_proj_weight": (0,),
    "k_proj_weight": (0,),
    "v_proj_weight": (0,),
}


def _end(net: nn.Module, label: str, place: int) -> str:
    """The layer itself, or of a split one its thin layer at that end."""
    layer = net.get_submodule(label)
    return f"{label}.{range(len(layer))[place]}" if isinstance(layer, nn.Sequential) else label


def _group(label: str, heads: int, makes: list[Part], reads: Part) -> Group:
    layers = tuple(dict.fromkeys(part.param.rpartition(".")[0] for part in makes))
    return Group(label, heads, layers, tuple(makes), (reads,))


def without(bundle: Bundle, kept: Mapping[str, list[int]]) -> Bundle:
    """The net without some heads: cut out for good where that can be done, exact zeros elsewhere.

    `kept` has the heads that stay of each attention that loses some.
    """
    known = blocks(bundle)
    groups = {label: block.group for label, block in known.items()}
    cut = {label: stay for label, stay in kept.items() if known[label].is_cut}
    zero = {label: stay for label, stay in kept.items() if label not in cut}
    return channels.keep(channels.masked(bundle, zero, groups), cut, groups)


@remembered  # a slider moves many times over the same net
def importance(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, Tensor]:
    """Attention -> for each head the mean of |d loss / d mask| over `count` samples: (heads,) float64, nat.

    The mask is a number that multiplies what the head gives, 1 in the net as it is (Michel 2019, arXiv
    1905.10650, section 4.1). Scaling what a head gives is scaling the columns that read it, so the derivative
    is the sum over these columns of weight times gradient.
    """
    known, net = blocks(bundle), zoo.fork(bundle).eval()
    weights = {label: net.get_parameter(block.reads.param) for label, block in known.items()}
    samples.check_loss()
    chosen = samples.stratified(count, seed)
    total = {label: torch.zeros(block.group.channels, dtype=torch.float64) for label, block in known.items()}
    for row in range(len(chosen)):
        one = chosen.take(slice(row, row + 1))
        loss = F.cross_entropy(net(one.inputs()), one.labels)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (label, weight), gradient in zip(weights.items(), gradients, strict=True):
            columns = (weight.detach() * gradient).sum(0, dtype=torch.float64)
            total[label] += columns.view(-1, known[label].reads.block).sum(1).abs()
    return MappingProxyType({label: found / len(chosen) for label, found in total.items()})


@torch.inference_mode()
def shares(bundle: Bundle, label: str, inputs: Tensor) -> Tensor:
    """Where each place of the first text looks, in an attention of the zoo's: (heads, places, places)."""
    net = zoo.fork(bundle).eval()
    module = net.get_submodule(label)
    assert isinstance(module, Attention)
    found: list[Tensor] = []
    module.register_forward_pre_hook(lambda _, args: found.append(module.shares(*args)[0]))
    net(inputs[:1])
    return found[0]
