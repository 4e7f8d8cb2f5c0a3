"""How each function of torch passes channels on, by its name. A rule gives None where it can't follow.

What a rule passes on must be zero for a channel that is zero, and the same for all others: only then does
a net without the channel answer as one with zeros in its place.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from engine.net.channels.trace import Flow, Rule, along, fixed, flows, name_of, places, plainly


def given(args: Any, kwargs: Any, place: int, name: str, default: Any = None) -> Any:
    """An argument of a function of torch, by its place or its name."""
    return args[place] if len(args) > place else kwargs.get(name, default)


# ---------------------------------------------------------------- layers


def layer(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """A linear layer or convolution reads the channels that enter, and makes new ones.

    A convolution that looks at one channel each has the channels that enter: they go from both.
    """
    x, weight, bias = args[0], given(args, kwargs, 1, "weight"), given(args, kwargs, 2, "bias")
    if not isinstance(x, Flow):
        return None
    module, groups = x.trace.owner(weight), given(args, kwargs, 6, "groups", 1)
    if module is None or getattr(module, "groups", 1) != groups:
        return _grouped(func, args, kwargs, weight, x) if groups != 1 else None
    spatial = weight.dim() - 2
    x = along(x, x.value.dim() - 1 - spatial)
    if spatial and x.block != 1:
        return None
    value = plainly(func, args, kwargs)
    made = x.ids if groups > 1 else x.trace.fresh(weight.shape[0])
    if groups == 1:
        x.trace.note("reads", weight, 1, x.ids, x.block)
    for tensor in (weight, bias):
        if tensor is not None:
            x.trace.note("makes", tensor, 0, made)
    return Flow(x.trace, value, x.axis, made)


def _grouped(func: Callable[..., Any], args: Any, kwargs: Any, weight: Tensor, x: Flow) -> Any:
    """Each group has as many filters and inputs as the others: none of them goes by itself."""
    name = x.trace.names.get(id(weight), "a convolution").removesuffix(".weight")
    return x.trace.opaque(func, args, kwargs, f"{name}: channels of grouped layers can't be removed")


def normal(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Batch-norm has one entry for each channel."""
    names = ("running_mean", "running_var", "weight", "bias")
    own = [given(args, kwargs, place, name) for place, name in enumerate(names, 1)]
    x = along(args[0], 1)
    if any(tensor is not None and x.trace.owner(tensor) is None for tensor in own):
        return None
    for tensor in (own[2], own[3], own[0], own[1]):
        if tensor is not None:
            x.trace.note("makes", tensor, 0, x.ids, x.block)
    return x


def embedding(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Each column of the table is a channel."""
    x, weight = args[0], given(args, kwargs, 1, "weight")
    if not isinstance(x, Flow) or x.trace.owner(weight) is None or given(args, kwargs, 3, "max_norm"):
        return None
    x.trace.pin(x, "channels can't be numbers of rows")
    made = x.trace.fresh(weight.shape[1])
    x.trace.note("makes", weight, 1, made)
    return Flow(x.trace, plainly(func, args, kwargs), -1, made)


# ---------------------------------------------------------------- each channel by itself


def each(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A function of single numbers, where it leaves zero as zero."""
    x, *rest = args
    if not isinstance(x, Flow) or any(isinstance(v, Tensor | Flow) for v in (*rest, *kwargs.values())):
        return None
    if func(torch.zeros(1), *rest, **kwargs).item() != 0:
        return None
    return x.like(plainly(func, args, kwargs))


def pool(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A function of places, the last one to three axes."""
    x, name = args[0], name_of(func)
    spatial = int(name[-2]) if name[-2].isdigit() else x.value.dim() - 2
    value = plainly(func, args, kwargs)
    return x.like(value) if isinstance(value, Tensor) and x.axis == x.value.dim() - 1 - spatial else None


def reduce(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A mean, sum or largest value over other axes than that of the channels."""
    x, dims = args[0], given(args, kwargs, 1, "dim")
    value = plainly(func, args, kwargs)
    if dims is None or not isinstance(value, Tensor):
        return None
    gone = {dim % x.value.dim() for dim in ((dims,) if isinstance(dims, int) else dims)}
    if x.axis in gone:
        return None
    is_kept = value.dim() == x.value.dim()
    return Flow(x.trace, value, x.axis - (0 if is_kept else sum(dim < x.axis for dim in gone)), x.ids)


def pad(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Zeros or other values of the same channel around; zero channels where a block's shortcut has them."""
    x: Flow = args[0]
    sides = tuple(given(args, kwargs, 1, "pad"))
    mode = given(args, kwargs, 2, "mode", "constant")
    if mode == "constant" and given(args, kwargs, 3, "value"):
        return None
    place = 2 * (x.value.dim() - 1 - x.axis)
    zeros, value = sides[place : place + 2], plainly(func, args, kwargs)
    if not any(zeros):
        return x.like(value)
    block = x.trace.net.get_submodule(x.trace.block)
    if mode != "constant" or x.block != 1 or tuple(getattr(block, "pad", ())) != zeros:
        return None
    before, after = x.trace.fresh(zeros[0]), x.trace.fresh(zeros[1])
    x.trace.pads[x.trace.block] = (before, after)
    return Flow(x.trace, value, x.axis, (*before, *x.ids, *after))


# ---------------------------------------------------------------- other shapes


def reshape(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """The same numbers in the same order: each channel must stay a run of places along one axis."""
    x, value = args[0], plainly(func, args, kwargs)
    for axis, width in enumerate(value.shape):
        if places(value, axis) == places(x.value, x.axis) and x.ids and width % len(x.ids) == 0:
            return Flow(x.trace, value, axis, x.ids)
    return None


def permute(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Axes in another order: those of a tensor whose sizes all differ tell which went where."""
    x = args[0]
    told = func(torch.empty(tuple(range(2, x.value.dim() + 2)), device="meta"), *args[1:], **kwargs)
    return Flow(x.trace, plainly(func, args, kwargs), list(told.shape).index(x.axis + 2), x.ids)


def cut(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """`x[:, :, 0]` and the like: whole numbers, slices and new axes beside the axis of the channels."""
    x, index = args
    index = index if isinstance(index, tuple) else (index,)
    if any(not (item is None or item is ... or type(item) in (int, slice)) for item in index):
        return None
    used = sum(item is not None and item is not ... for item in index)
    rest = [slice(None)] * (x.value.dim() - used)
    at = index.index(...) if ... in index else len(index)
    steps = iter([*index[:at], *rest, *index[at + 1 :]])
    axis, place = 0, 0
    for old in range(x.value.dim()):
        while (item := next(steps)) is None:
            place += 1
        if old == x.axis:
            if item != slice(None):
                return None
            axis = place
        place += isinstance(item, slice)
    return Flow(x.trace, plainly(func, args, kwargs), axis, x.ids)


def pieces(func: Callable[..., Any], args: Any, kwargs: Any) -> tuple[Flow, ...] | None:
    """`split` and `chunk` along another axis than that of the channels."""
    x, values = args[0], plainly(func, args, kwargs)
    if given(args, kwargs, 2, "dim", 0) % x.value.dim() == x.axis:
        return None
    return tuple(x.like(value) for value in values)


# ---------------------------------------------------------------- several at once


def _aligned(parts: list[Flow | Tensor]) -> list[Flow] | None:
    """Flows of as many axes with their channels along the same one; what is fixed goes along with any."""
    all_flows = list(flows(parts))
    lead = next((flow for flow in all_flows if not flow.is_fixed), all_flows[0])
    made = []
    for one in parts:
        flow = one if isinstance(one, Flow) else fixed(lead.trace, one.to("meta"))
        if flow.value.dim() != lead.value.dim():
            return None
        if flow.is_fixed:
            flow = fixed(lead.trace, flow.value, lead.axis)
            flow.ids = flow.ids[:: lead.block]
        if flow.axis != lead.axis or flow.block != lead.block:
            return None
        made.append(flow)
    return made


def cat(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Channels side by side, or those of the same place joined."""
    made, value = _aligned(list(args[0])), plainly(func, args, kwargs)
    if made is None:
        return None
    first, *others = made
    if given(args, kwargs, 1, "dim", 0) % value.dim() == first.axis:
        return Flow(first.trace, value, first.axis, tuple(channel for flow in made for channel in flow.ids))
    for flow in others:
        first.trace.join(first.ids, flow.ids)
    return first.like(value)


def added(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A sum or difference: a channel is zero where it is in both."""
    total = _paired(func, args, kwargs)
    if total is not None and isinstance(args[1], Flow):
        total.trace.summed += total.ids
    return total


def multiplied(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """A product; a number that is the same for all channels of a place leaves zero as it is."""
    for x, other in (args, args[::-1]) if len(args) == 2 else ():
        if not isinstance(x, Flow) or not isinstance(other, Flow | Tensor):
            continue
        shape = (other.value if isinstance(other, Flow) else other).shape
        right = x.value.dim() - 1 - x.axis
        if len(shape) <= x.value.dim() and (right >= len(shape) or shape[len(shape) - 1 - right] == 1):
            for flow in flows(other):
                x.trace.pin(flow, "channels can't be followed through a product with all others")
            return x.like(plainly(func, args, kwargs))
    return _paired(func, args, kwargs)


def _paired(func: Callable[..., Any], args: Any, kwargs: Any) -> Flow | None:
    """Two tensors, channel by channel; or one and a number."""
    if len(args) != 2 or not isinstance(args[0], Flow | Tensor):
        return None
    if not isinstance(args[1], Flow | Tensor):
        return each(func, args, kwargs)
    made = _aligned(list(args))
    if made is None or kwargs or len(made[0].ids) != len(made[1].ids):
        return None
    made[0].trace.join(made[0].ids, made[1].ids)
    return made[0].like(plainly(func, args, kwargs))


NAMES: dict[Rule, str] = {
    layer: "linear conv1d conv2d conv3d",
    normal: "batch_norm",
    embedding: "embedding",
    each: "relu relu6 leaky_relu elu selu celu gelu silu mish tanh sigmoid hardtanh hardswish hardsigmoid "
    "hardshrink softshrink tanhshrink threshold softplus clamp clip abs neg square pow sqrt round floor "
    "dropout truediv itruediv div",
    pool: "max_pool1d max_pool2d max_pool3d avg_pool1d avg_pool2d avg_pool3d lp_pool1d lp_pool2d "
    "adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d "
    "adaptive_max_pool3d dropout1d dropout2d dropout3d interpolate",
    reduce: "mean sum amax amin",
    pad: "pad",
    reshape: "flatten reshape view unflatten squeeze unsqueeze clone contiguous detach to float type_as",
    permute: "permute transpose swapaxes movedim",
    cut: "getitem",
    pieces: "split chunk",
    cat: "cat concat concatenate",
    added: "add radd iadd sub rsub isub",
    multiplied: "mul rmul imul",
}
RULES: dict[str, Rule] = {name: rule for rule, names in NAMES.items() for name in names.split()}
