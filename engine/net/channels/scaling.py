"""Channels that can be scaled: one layer makes them, one reads them, and what is between passes factors on.

The trace of `channels.trace` with rules of its own: a channel times s must come out as s times what came out
before, for every s > 0. ReLU does that, and pooling; ReLU6, GELU and tanh do not, nor does a sum with others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from engine.data import user_errors
from engine.memory import remembered
from engine.net import sources, taps, zoo
from engine.net.channels import rules
from engine.net.channels.groups import found
from engine.net.channels.parts import Group
from engine.net.channels.trace import Flow, Rule, Trace, along, flows, plainly
from engine.types import Arch, SlimscopeError

PROBES = torch.logspace(-12, 12, 97, dtype=torch.float64)


def layer(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """As for the removal of channels; but what a depthwise convolution makes can have factors of its own."""
    x, weight, bias = args[0], rules.given(args, kwargs, 1, "weight"), rules.given(args, kwargs, 2, "bias")
    if not isinstance(x, Flow) or rules.given(args, kwargs, 6, "groups", 1) == 1:
        return rules.layer(func, args, kwargs)
    if x.trace.owner(weight) is None or weight.shape[1] != 1:
        return None
    x = along(x, x.value.dim() + 1 - weight.dim())
    if x.block != 1:
        return None
    made = x.trace.fresh(weight.shape[0])
    x.trace.note("reads", weight, 0, x.ids)
    for tensor in (weight, bias):
        if tensor is not None:
            x.trace.note("makes", tensor, 0, made)
    return Flow(x.trace, plainly(func, args, kwargs), x.axis, made)


def normal(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Batch-norm reads channels and makes new ones: it takes no factor on."""
    mean = rules.given(args, kwargs, 1, "running_mean")
    variance = rules.given(args, kwargs, 2, "running_var")
    x = along(args[0], 1)
    if mean is None or x.trace.owner(mean) is None:
        return None
    made = x.trace.fresh(len(x.ids))
    x.trace.note("reads", mean, 0, x.ids, x.block)
    x.trace.note("makes", variance, 0, made, x.block)
    return Flow(x.trace, x.value, x.axis, made)


def each(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A function of single numbers that gives three times as much for three times as much, of any size."""
    flow = rules.each(func, args, kwargs)
    if flow is None:
        return None
    probes = torch.cat([-PROBES, PROBES])
    once, thrice = (func(factor * probes, *args[1:], **kwargs) for factor in (1, 3))
    return flow if torch.allclose(3 * once, thrice, rtol=1e-6, atol=0) else None


def multiplied(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A product with a number; two channels in one product would bring both factors."""
    return None if len(list(flows(args))) > 1 else rules.multiplied(func, args, kwargs)


OWN: Mapping[Rule, Rule] = {
    rules.layer: layer,
    rules.normal: normal,
    rules.each: each,
    rules.multiplied: multiplied,
}
RULES: Mapping[str, Rule] = {name: OWN.get(rule, rule) for name, rule in rules.RULES.items()}


def pairs(arch: Arch) -> dict[str, Group]:
    """Layer -> the channels that it makes and one other layer reads, nothing else; in the order of the net.

    Raises SlimscopeError for recurrent nets, and for weights without a known architecture.

    >>> {name: group.reads[0].param for name, group in pairs(Arch("lenet-5")).items()}
    {'conv1': 'conv2.weight', 'conv2': 'fc1.weight', 'fc1': 'fc2.weight'}
    """
    return {name: group for name, group in _traced(arch.key).items() if _joins_two(group)}


def _joins_two(group: Group) -> bool:
    """Whether one layer makes all of it and one reads it: batch-norm is neither."""
    return (
        len(group.layers) == 1
        and not group.stream
        and not group.pads
        and any(part.param == f"{group.name}.weight" for part in group.makes)
        and all(part.param in (f"{group.name}.weight", f"{group.name}.bias") for part in group.makes)
        and len(group.reads) == 1
        and group.reads[0].param.endswith(".weight")
    )


def foldable(arch: Arch) -> dict[str, str]:
    """Layer -> the batch-norm behind it that can become a part of it: nothing else reads its outputs."""
    known, behind, net = _traced(arch.key), taps.normal_behind(arch), zoo.skeleton(arch)
    answer = {}
    for name, normal in behind.items():
        group = known.get(name)
        if group is None or group.stream or group.layers != (name,) or len(group.reads) != 1:
            continue
        (read,) = group.reads
        whole = tuple(range(len(net.get_parameter(f"{name}.weight"))))
        if read.param == f"{normal}.running_mean" and all(part.at == whole for part in (*group.makes, read)):
            answer[name] = normal
    return answer


@remembered
def _traced(key: str) -> dict[str, Group]:
    arch = Arch.from_key(key)
    net = zoo.skeleton(arch).eval()
    refuse_recurrent(net)
    with user_errors.own_errors(f"the channels of {arch.title} can't be followed"):
        return found(Trace(net, sources.inputs(arch), RULES, (*arch.ties, *arch.ties.values())))


def refuse_recurrent(net: nn.Module) -> None:
    """Raises SlimscopeError for a net with a recurrent layer."""
    for name, module in net.named_modules():
        if isinstance(module, nn.RNNBase):
            raise SlimscopeError(
                f"layer {name!r} is recurrent: its units feed back into themselves and can't be scaled"
            )
