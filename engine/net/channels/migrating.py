"""Channels whose range can move on: who makes them is divided, the layers that read them are multiplied.

The trace of `channels.scaling` with normalisation as a maker: the scale and shift behind its statistics can
be divided like a layer's weights and bias.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from engine.data import user_errors
from engine.memory import remembered
from engine.net import sources, zoo
from engine.net.channels import rules, scaling
from engine.net.channels.groups import found
from engine.net.channels.parts import Group
from engine.net.channels.trace import Flow, Rule, Trace, along, plainly
from engine.net.taps import module_of
from engine.types import Arch

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _affine(axis: int, weight: int, bias: int) -> Rule:
    """Normalisation whose channels lie along `axis`: `weight` and `bias` are places of its arguments."""

    def rule(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
        own = [rules.given(args, kwargs, place, name) for place, name in ((weight, "weight"), (bias, "bias"))]
        x = along(args[0], axis)
        scale = own[0]
        if not isinstance(scale, Tensor) or scale.dim() != 1 or x.block != 1:
            return None
        if any(tensor is not None and id(tensor) not in x.trace.names for tensor in own):
            return None
        x.trace.pin(x)
        made = x.trace.fresh(len(scale))
        for tensor in own:
            if tensor is not None:
                x.trace.note("makes", tensor, 0, made)
        return Flow(x.trace, plainly(func, args, kwargs), x.axis, made)

    return rule


def _shared(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A product or quotient with a number that is the same for all channels of a place."""
    if len(args) != 2 or not isinstance(args[0], Flow):
        return None
    x, other = args
    if not isinstance(other, Flow | Tensor):
        return scaling.RULES["mul"](func, args, kwargs)
    shape = (other.value if isinstance(other, Flow) else other).shape
    right = x.value.dim() - 1 - x.axis
    if len(shape) > x.value.dim() or (right < len(shape) and shape[len(shape) - 1 - right] != 1):
        return None
    if isinstance(other, Flow):
        x.trace.pin(other)
    return x.like(plainly(func, args, kwargs))


OWN: dict[str, Rule] = {
    "layer_norm": _affine(-1, 2, 3),
    "rms_norm": _affine(-1, 2, 4),
    "batch_norm": _affine(1, 3, 4),
    **dict.fromkeys(("mul", "imul", "truediv", "itruediv", "div"), _shared),
}


def migrations(arch: Arch) -> dict[str, Group]:
    """Maker -> the channels that it makes and layers alone read, in the order of the net.

    A maker is a normalisation, or a layer with nothing but ReLU, pooling or the like behind it. Raises
    SlimscopeError for recurrent nets, and for weights without a known architecture.

    >>> groups = migrations(Arch("transformer-topics"))
    >>> [part.param for part in groups["layers.0.norm2"].reads]
    ['layers.0.fc1.weight']
    >>> [module_of(part.param).rpartition(".")[2] for part in groups["layers.0.norm1"].reads]
    ['query', 'key', 'value']
    """
    return dict(_traced(arch.key))


@remembered
def _traced(key: str) -> dict[str, Group]:
    arch = Arch.from_key(key)
    net = zoo.skeleton(arch).eval()
    scaling.refuse_recurrent(net)
    with user_errors.own_errors(f"the channels of {arch.title} can't be followed"):
        trace = Trace(net, sources.inputs(arch), {**scaling.RULES, **OWN}, (*arch.ties, *arch.ties.values()))
    return {name: group for name, group in found(trace).items() if _fits(net, group)}


def _fits(net: nn.Module, group: Group) -> bool:
    """Whether one module makes all of it, and nothing but layers read it."""
    makers = {part.param.rpartition(".")[0] for part in group.makes}
    return (
        len(makers) == 1
        and not group.stream
        and not group.pads
        and all(part.param.rpartition(".")[2] in ("weight", "bias") for part in group.makes)
        and bool(group.reads)
        and all(
            part.param.endswith(".weight") and isinstance(net.get_submodule(module_of(part.param)), LAYERS)
            for part in group.reads
        )
    )
