"""Channels: which slices of a net's tensors belong to one filter or unit, and how to take them out.

A channel is what one filter of a convolution or one row of a linear layer makes. Taking it out
for good means its row, its bias, its batch-norm entries, and the slice of every layer that reads it.
Where values are added up, as in a residual stream, channels of several layers go together.

Which slices those are is found by sending channel numbers instead of values through the net. A
narrower input of a residual block is padded with zero channels (option A of He 2016), so a channel
of an early stage is the same number as one in the middle of every later stage. It goes from all
stages or from none: a later stage's channel cannot be zero while the shortcut still adds an
earlier one's values to it. The reverse would be possible, but the shortcut would have to become a
list of places; this way what is left is again a run between two runs of zero channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data import user
from engine.memory import remembered
from engine.net import kinds, sources, zoo
from engine.tensor import masks
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError, weight_layers


@dataclass(frozen=True)
class Part:
    """Where the channels of a group lie in one tensor: channel c at `at[c]` and on, along `axis`.

    Each takes `block` consecutive places: 1, or height * width for a linear layer that reads
    a flattened image.
    """

    param: str
    axis: int
    block: int
    at: tuple[int, ...]

    def places(self, channel: int) -> range:
        """The indices along `axis` that belong to one channel."""
        return range(self.at[channel], self.at[channel] + self.block)


@dataclass(frozen=True)
class Pad:
    """Channels of a group that a block's shortcut fills with zeros, before and after its input's own."""

    block: str
    before: frozenset[int]
    after: frozenset[int]


@dataclass(frozen=True)
class Group:
    """Channels of which each can be removed, with all that must go along.

    `name` is the label of the first layer that makes them, `layers` has the labels of all that do.
    `stream` is true where values of several layers are added up in these channels.
    """

    name: str
    channels: int
    layers: tuple[str, ...]
    makes: tuple[Part, ...]
    reads: tuple[Part, ...]
    pads: tuple[Pad, ...] = ()
    stream: bool = False


def groups(bundle: Bundle) -> dict[str, Group]:
    """All groups of channels that can be removed, by name, in the order of the net.

    What enters the net and what leaves it stays, so the classifier's outputs are in no group.
    Thin layers of a split are layers like any other: their group is `fc1.0`. Raises SlimscopeError
    for recurrent nets and for weights without a known architecture.

    >>> {name: group.channels for name, group in groups(zoo.initial("lenet-5")).items()}
    {'conv1': 20, 'conv2': 50, 'fc1': 500}
    """
    return dict(_traced(bundle.arch.key).groups)


def masked(bundle: Bundle, kept: Mapping[str, Sequence[int]]) -> Bundle:
    """The same architecture with exact zeros wherever a removed channel is made or read.

    `kept` maps names of groups to the channels that stay; groups without an entry stay whole.
    Biases and batch-norm are zeroed too: else a constant survives. A removed channel's running
    mean and variance become 0, which is what batch-norm sees of it from now on.
    Grids keep their scales, codebooks their codes.
    """
    params = dict(bundle.params)
    for name, axes in _removed(groups(bundle), kept).items():
        stays = torch.ones(params[name].shape, dtype=torch.bool)
        for axis, places in axes.items():
            stays.index_fill_(axis, torch.tensor(sorted(places)), False)
        params[name] = masks.remove(params[name], stays)
    return bundle.become(params)


def keep(bundle: Bundle, kept: Mapping[str, Sequence[int]]) -> Bundle:
    """The physically smaller net: it answers as `masked` does, without the zeros.

    `kept` maps names of groups to the channels that stay, in any order; groups without an entry
    stay whole. Codes and scales are cut with their channels; only where a cut runs through
    the runs of weights that share a scale does a grid become 32-bit floats (`turned_dense`).
    Raises SlimscopeError for a group or channel that is not there, or where none would stay.
    """
    trace = _traced(bundle.arch.key)
    known = trace.groups
    removed = _removed(known, kept)
    if not removed:
        return bundle
    params = dict(bundle.params)
    outputs: dict[str, int] = {}
    inputs: dict[str, int] = {}
    for name, axes in removed.items():
        for axis, places in axes.items():
            stays = torch.tensor([i for i in range(params[name].shape[axis]) if i not in places])
            params[name] = params[name].take(axis, stays)
            (inputs if axis else outputs)[name.rpartition(".")[0]] = len(stays)
    pads = _pads_left(trace, known, kept)
    return bundle.become(params, bundle.arch.edit("narrow", outputs=outputs, inputs=inputs, pads=pads))


def turned_dense(before: Bundle, after: Bundle) -> tuple[str, ...]:
    """Names of parameters that were codes and are 32-bit floats now."""
    return tuple(
        name
        for name, param in before.params.items()
        if not isinstance(param, Dense) and isinstance(after.params.get(name), Dense)
    )


def goes_with(bundle: Bundle, group: str, index: int) -> pd.DataFrame:
    """One row per slice that goes with one channel: parameter, role, what, axis, start, stop, elements.

    `role` is `makes` or `reads`; `start` and `stop` are places along `axis`; `elements` counts the
    numbers in the slice. The sum is not what `keep` saves for many channels: slices cross.

    >>> goes_with(zoo.initial("lenet-5"), "conv1", 3)[["parameter", "what", "elements"]].values.tolist()
    [['conv1.weight', 'filter', 25], ['conv1.bias', 'bias', 1], ['conv2.weight', 'input slice', 1250]]
    """
    one = _known(groups(bundle), group)
    _check_channels(one, [index])
    rows = [
        _slice(bundle, part, role, index)
        for role, parts in (("makes", one.makes), ("reads", one.reads))
        for part in parts
    ]
    return pd.DataFrame(rows)


def parts_of(bundle: Bundle, group: str) -> list[dict[str, Any]]:
    """Where all channels of a group lie, a row for each layer that makes or reads them, batch-norm too.

    `layer`, `role` (`makes` or `reads`), `what` of it goes with a channel, `elements` (its numbers); channel
    c has `block` places from `at[c]` on, of `of` along the axis.

    >>> [(row["layer"], row["what"], row["of"]) for row in parts_of(zoo.initial("lenet-5"), "conv1")]
    [('conv1', 'filter, bias', 20), ('conv2', 'input slice', 20)]
    """
    one = _known(groups(bundle), group)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for role, parts in (("makes", one.makes), ("reads", one.reads)):
        for part in parts:
            found, layer = _slice(bundle, part, role, 0), part.param.rpartition(".")[0]
            of = bundle.params[part.param].shape[part.axis]
            fresh = {"layer": layer, "role": role, "what": [], "elements": 0, "of": of}
            row = rows.setdefault((layer, role), fresh | {"block": part.block, "at": list(part.at)})
            row["what"].append("batch-norm" if found["what"] in NORMAL.values() else found["what"])
            row["elements"] += found["elements"]
    return [{**row, "what": ", ".join(dict.fromkeys(row["what"]))} for row in rows.values()]


LAYER_COLUMNS = (
    "layer",
    "weights",
    "weights_after",
    "filters",
    "kept",
    "removed",
    "sparsity",
    "macs_before",
    "macs_after",
)


def layer_table(before: Bundle, after: Bundle) -> pd.DataFrame:
    """Every layer, also those that only lose what they read, so that columns add up to the net's."""
    macs = [kinds.macs_by_layer(bundle) for bundle in (before, after)]
    rows = []
    for label, name in weight_layers(before).items():
        old, new = (torch.Size(b.params[name].shape) for b in (before, after))
        share = 1 - new[0] / old[0]
        sizes = (old.numel(), new.numel(), old[0], new[0], old[0] - new[0], share)
        rows.append((label, *sizes, *(table[label] for table in macs)))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def smallest(
    scores: Mapping[str, Tensor], share: float, allocation: str, own: Mapping[str, float]
) -> dict[str, set[int]]:
    """Group -> channels of lowest score, the share of all that go.

    `scores` (channels,) of each group; `allocation` is `layer` (each loses the share) or `global` (one
    ranking of all); groups in `own` have a share of their own and stay out of the ranking. The best of each
    group stays; of equals the first goes first.

    >>> smallest({"a": torch.tensor([1.0, 2.0, 3.0])}, 0.34, "layer", {})
    {'a': {0}}
    """
    apart = {name: own[name] for name in scores if name in own}
    rest = [name for name in scores if name not in apart]
    if allocation == "layer":
        apart |= dict.fromkeys(rest, share)
        rest = []
    gone: dict[str, set[int]] = {name: set() for name in rest}
    for name, part in apart.items():
        order = torch.argsort(scores[name], stable=True).tolist()
        gone[name] = set(order[: min(round(part * len(order)), len(order) - 1)])
    ranked = []
    for name in rest:
        order = torch.argsort(scores[name], stable=True).tolist()
        ranked += [(float(scores[name][channel]), name, channel) for channel in order[:-1]]
    ranked.sort(key=lambda entry: entry[0])
    for _, name, channel in ranked[: round(share * sum(len(scores[name]) for name in rest))]:
        gone[name].add(channel)
    return gone


def kept_of(groups: Mapping[str, Group], gone: Mapping[str, set[int]]) -> dict[str, list[int]]:
    """Group -> channels that stay, for those that lose some: what `keep` and `masked` want."""
    return {name: [c for c in range(groups[name].channels) if c not in lost] for name, lost in gone.items()}


NORMAL = {
    "weight": "batch-norm scale",
    "bias": "batch-norm shift",
    "running_mean": "batch-norm mean",
    "running_var": "batch-norm variance",
}


STATISTICS = (NORMAL["running_mean"], NORMAL["running_var"])  # numbers that are not trained


def _slice(bundle: Bundle, part: Part, role: str, index: int) -> dict[str, Any]:
    shape = bundle.params[part.param].shape
    module, _, leaf = part.param.rpartition(".")
    if role == "reads":
        what = "input slice"
    elif len(shape) > 1:
        what = "filter"
    else:
        what = NORMAL[leaf] if f"{module}.running_mean" in bundle.params else leaf
    places = part.places(index)
    return {
        "parameter": part.param,
        "role": role,
        "what": what,
        "axis": part.axis,
        "start": places.start,
        "stop": places.stop,
        "elements": torch.Size(shape).numel() // shape[part.axis] * part.block,
    }


# ---------------------------------------------------------------- what goes and what stays


def _known(groups: Mapping[str, Group], name: str) -> Group:
    if name not in groups:
        raise SlimscopeError(f"group {name!r} has no channels to remove; there are {', '.join(groups)}")
    return groups[name]


def _check_channels(group: Group, channels: Sequence[int]) -> None:
    for channel in channels:
        if not 0 <= channel < group.channels:
            raise SlimscopeError(
                f"channel {channel} is not in {group.name}: allowed is 0 to {group.channels - 1}"
            )


def _gone(groups: Mapping[str, Group], kept: Mapping[str, Sequence[int]]) -> dict[str, set[int]]:
    """Group name -> channels that do not stay. Checks `kept`."""
    gone = {}
    for name, channels in kept.items():
        group = _known(groups, name)
        _check_channels(group, channels)
        if not channels:
            raise SlimscopeError(f"no channel of {name} would stay: allowed are 1 to {group.channels}")
        gone[name] = set(range(group.channels)) - set(channels)
    return gone


def _removed(
    groups: Mapping[str, Group], kept: Mapping[str, Sequence[int]]
) -> dict[str, dict[int, set[int]]]:
    """Parameter -> axis -> places that go: layers can hold channels of several groups."""
    removed: dict[str, dict[int, set[int]]] = {}
    for name, channels in _gone(groups, kept).items():
        for part in (*groups[name].makes, *groups[name].reads) if channels else ():
            places = removed.setdefault(part.param, {}).setdefault(part.axis, set())
            places.update(place for channel in channels for place in part.places(channel))
    return removed


def _pads_left(
    trace: _Trace, groups: Mapping[str, Group], kept: Mapping[str, Sequence[int]]
) -> dict[str, list[int]]:
    """Block -> numbers of zero channels before and after, for each block with a padded shortcut."""
    left = {block: [len(ids) for ids in both] for block, both in trace.pads.items()}
    for name, channels in _gone(groups, kept).items():
        for pad in groups[name].pads:
            left[pad.block][0] -= len(pad.before & channels)
            left[pad.block][1] -= len(pad.after & channels)
    return left


# ---------------------------------------------------------------- which channel goes where

FIXED = 0  # the number of every channel that may not go


class _Where(NamedTuple):
    """A tensor axis that carries channels, each over `block` places; `role` is `makes` or `reads`."""

    role: str
    param: str
    axis: int
    block: int


class _Trace:
    """The record of a run in which channel numbers stand for values.

    Numbers that must go together are joined in one tree (union-find): `parent` points to the
    smaller, so that what is joined with FIXED is fixed.
    """

    def __init__(self, net: nn.Module, inputs: int) -> None:
        self.names = {id(t): name for name, t in (*net.named_parameters(), *net.named_buffers())}
        self.parent = [FIXED]
        self.notes: list[tuple[_Where, tuple[int, ...]]] = []
        self.summed: list[int] = []
        self.pads: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self.block = ""  # the block with a padded shortcut that was entered last
        for name, module in net.named_modules():
            if hasattr(module, "pad"):
                module.register_forward_pre_hook(lambda _, __, name=name: setattr(self, "block", name))
        answers: _Flow = net(_Flow(self, (FIXED,) * inputs))
        for channel in answers.ids:
            self.join(FIXED, channel)

    def fresh(self, count: int) -> tuple[int, ...]:
        ids = tuple(range(len(self.parent), len(self.parent) + count))
        self.parent += ids
        return ids

    def root(self, channel: int) -> int:
        while self.parent[channel] != channel:
            channel = self.parent[channel]
        return channel

    def join(self, a: int, b: int) -> None:
        low, high = sorted((self.root(a), self.root(b)))
        self.parent[high] = low

    def note(self, role: str, tensor: Tensor, axis: int, ids: tuple[int, ...], block: int = 1) -> None:
        self.notes.append((_Where(role, self.names[id(tensor)], axis, block), ids))

    def layer(self, x: _Flow, weight: Tensor, bias: Tensor | None, *rest: object) -> _Flow:
        """A convolution or linear layer: it reads the channels of x and makes new ones."""
        block, odd = divmod(weight.shape[1], len(x.ids))
        if odd or block == 0 or (weight.dim() > 2 and block > 1):
            raise SlimscopeError(
                f"{self.names[id(weight)]} reads {weight.shape[1]} channels out of {len(x.ids)}: "
                "channels of grouped layers can't be removed"
            )
        self.note("reads", weight, 1, x.ids, block)
        made = self.fresh(weight.shape[0])
        for tensor in (weight, bias):
            if tensor is not None:
                self.note("makes", tensor, 0, made)
        return _Flow(self, made, x.dims)

    def normal(self, x: _Flow, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, **_: object) -> _Flow:
        for tensor in (weight, bias, mean, var):
            self.note("makes", tensor, 0, x.ids)
        return x

    def same(self, x: _Flow, *_: object, **__: object) -> _Flow:
        """What works on each channel by itself and leaves zero as zero."""
        return x

    def padded(self, x: _Flow, pad: Sequence[int], mode: str, value: float | None) -> _Flow:
        if mode != "constant" or value or len(pad) != 6:
            raise SlimscopeError(f"channels can't be followed through padding {tuple(pad)} of mode {mode!r}")
        before, after = self.fresh(pad[4]), self.fresh(pad[5])
        self.pads[self.block] = (before, after)
        return _Flow(self, (*before, *x.ids, *after))

    @cached_property
    def groups(self) -> Mapping[str, Group]:
        """Channels with the same slices in the same tensors make up one group."""
        slices: dict[int, dict[_Where, int]] = {}
        for where, ids in self.notes:
            for place, channel in enumerate(ids):
                slices.setdefault(self.root(channel), {})[where] = place * where.block
        alike: dict[tuple[_Where, ...], list[int]] = {}
        for root, starts in slices.items():
            if root != FIXED:
                alike.setdefault(tuple(starts), []).append(root)
        made = [self._group(axes, roots, slices) for axes, roots in alike.items()]
        return {group.name: group for group in made}

    def _group(
        self, axes: Sequence[_Where], roots: Sequence[int], slices: Mapping[int, Mapping[_Where, int]]
    ) -> Group:
        parts: dict[str, list[Part]] = {"makes": [], "reads": []}
        for where in axes:
            at = tuple(slices[root][where] for root in roots)
            parts[where.role].append(Part(where.param, where.axis, where.block, at))
        normal = {p.param.rpartition(".")[0] for p in parts["makes"] if p.param.endswith(".running_mean")}
        layers = dict.fromkeys(p.param.rpartition(".")[0] for p in parts["makes"])
        labels = tuple(label for label in layers if label not in normal)
        number = {root: channel for channel, root in enumerate(roots)}

        def mine(ids: tuple[int, ...]) -> frozenset[int]:
            return frozenset(number[self.root(i)] for i in ids if self.root(i) in number)

        pads = [Pad(block, mine(before), mine(after)) for block, (before, after) in self.pads.items()]
        return Group(
            labels[0],
            len(roots),
            labels,
            tuple(parts["makes"]),
            tuple(parts["reads"]),
            tuple(pad for pad in pads if pad.before or pad.after),
            any(self.root(i) in number for i in self.summed),
        )


FOLLOWED: Mapping[Callable[..., Any], Callable[..., _Flow]] = {
    F.conv2d: _Trace.layer,
    F.linear: _Trace.layer,
    F.batch_norm: _Trace.normal,
    F.relu: _Trace.same,
    F.max_pool2d: _Trace.same,
    F.pad: _Trace.padded,
}


class _Flow:
    """What stands for a batch (n, channels, ...) in a trace: the numbers of its channels.

    Torch hands its functions over to `__torch_function__`, and only those that got this object:
    nets that run in other threads at the same time notice nothing, as they would of torch.fx.
    """

    def __init__(self, trace: _Trace, ids: tuple[int, ...], dims: int = 4) -> None:
        self.trace, self.ids, self.dims = trace, ids, dims

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> _Flow:
        if func not in FOLLOWED:
            raise SlimscopeError(f"channels can't be followed through {getattr(func, '__name__', func)}")
        return FOLLOWED[func](args[0].trace, *args, **(kwargs or {}))

    def dim(self) -> int:
        return self.dims

    def flatten(self, start: int) -> _Flow:
        return _Flow(self.trace, self.ids, 2)

    def mean(self, dims: tuple[int, ...]) -> _Flow:
        return _Flow(self.trace, self.ids, 2)

    def __getitem__(self, index: tuple[slice, ...]) -> _Flow:
        if any(cut != slice(None) for cut in index[:2]):
            raise SlimscopeError(f"channels can't be followed through the cut {index}")
        return self

    def __add__(self, other: _Flow) -> _Flow:
        for a, b in zip(self.ids, other.ids, strict=True):
            self.trace.join(a, b)
        self.trace.summed += self.ids
        return self


@remembered
def _traced(key: str) -> _Trace:
    arch = Arch.from_key(key)
    # Rounding what enters a layer moves no channel, and zero stays zero on every grid.
    edits = tuple(edit for edit in arch.edits if edit[0] != "quantize_input")
    plain = Arch(arch.name, edits, arch.config)
    net = zoo.skeleton(plain).eval()
    if arch.source == "user":
        with user.own_errors(f"the channels of {arch.title} can't be followed"):
            return _graph(net, arch)
    return _graph(net, arch)


def _graph(net: nn.Module, arch: Arch) -> _Trace:
    for name, module in net.named_modules():
        if isinstance(module, nn.RNNBase):
            raise SlimscopeError(
                f"layer {name!r} is recurrent: its units feed back into themselves and can't be removed"
            )
    for other, name in arch.ties.items():
        raise SlimscopeError(f"{other!r} and {name!r} are one tensor: its channels can't be removed")
    return _Trace(net, sources.inputs(arch).shape[1])
