"""Prune channels: keep the inputs from which a layer's outputs can best be made again."""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, cast

import pandas as pd
import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from engine.data import user
from engine.data.sets import Data, Samples
from engine.figures import count
from engine.memory import remembered
from engine.net import channels, kinds, zoo
from engine.net.channels import Group
from engine.net.surgery import get_layer
from engine.recipe import settings
from engine.recipe.knobs import Choice, PerLayer, SettingError, Slider, Toggle
from engine.recipe.technique import technique
from engine.tensor import lars
from engine.tensor.formats import Dense
from engine.types import Arch, Basis, Bundle, Figure, Param, Report, SlimscopeError, weight_layers

POINTS = 10  # places of an image at most that a convolution is fitted at (He 2017)
CHECKED = 4  # for so many images that layers are fitted on, one more tells the error
BUDGET = 2e10  # units of work (`kinds.work`) that running the images once may cost
BATCH = 125  # images at once
CURVE = 8  # counts of channels on the curve of a layer's error
MOST = 0.95  # of the channels that may go
REMOVED = Slider(
    low=0.0,
    high=MOST,
    step=0.01,
    unit="share of channels removed",
    percent=True,
    label="Channels removed",
    help="How many of the channels that each layer reads go: 0.5 takes every second one.",
)
ALONE = threading.Lock()
NO_OVERRIDE: Mapping[str, float] = MappingProxyType({})
LAYER_COLUMNS = (
    "layer",
    "channels",
    "kept",
    "removed",
    "points",
    "error_masked",
    "error_refit",
    "error_fitted",
    "macs_before",
    "macs_after",
)
PATH_COLUMNS = ("layer", "kept", "lambda", "error_masked", "error_refit")


@technique(
    family="prune",
    title="Prune channels",
    reference="He et al. 2017, Channel Pruning for Accelerating Very Deep Networks, arXiv 1707.06168",
    page="channels",
    stage=300,
    runs="seconds",
    locality="model",
    tables={
        "layers": LAYER_COLUMNS,
        "path": PATH_COLUMNS,
    },
    presets={
        "gentle": {"removed": 0.2},
        "balanced": {"removed": 0.5},
        "extreme": {"removed": 0.75},
    },
    needs_net=True,
)
def prune_channels(
    bundle: Bundle,
    data: Data,
    *,
    removed: Annotated[float, REMOVED] = 0.5,
    selection: Annotated[
        str,
        Choice(
            label="Selection",
            help="What decides which of the channels that a layer reads stay.",
            options={
                "lasso": "a LASSO on what each channel adds to the layer's outputs (He 2017)",
                "largest": "the sum of the sizes of the weights that read the channel",
                "random": "chance: the control that every choice must beat",
            },
        ),
    ] = "lasso",
    refit: Annotated[
        bool,
        Toggle(
            label="Refit weights",
            help="Fits the weights that read the kept channels to the layer's old outputs anew.",
        ),
    ] = True,
    samples: Annotated[
        int,
        Slider(
            low=500,
            high=4000,
            step=500,
            whole=True,
            unit="points",
            label="Points per layer",
            help="Places in training images at which a layer's outputs are matched: more fit less to chance.",
        ),
    ] = 2000,
    removed_per_layer: Annotated[
        Mapping[str, float],
        PerLayer(
            knob=REMOVED,
            unit="share of channels removed",
            label="Own share",
            help="Layers that lose a share of their own of what they read.",
        ),
    ] = NO_OVERRIDE,
    leave_out: Annotated[
        Sequence[str],
        settings.leave_out("Layers that go on reading all their channels."),
    ] = (),
    seed: Annotated[
        int,
        settings.seed("Fixes the places of the images, and which channels chance picks."),
    ] = 0,
) -> tuple[Bundle, Report]:
    """Keeps, layer by layer, the inputs that remake its outputs best, and fits its weights to them anew.

    What a layer gave before this step is the goal. Which channels stay is judged in the whole net, once; the
    weights are fitted to what the layer reads in the net as pruned so far.
    The filters that made the other channels go for good. A channel that shortcuts pass on stays, and so does
    every layer that keeps all it reads. At least one channel stays. Matched on training images, tested
    on others of them; labels are not looked at. Linear layers have one point an image; nets that take
    long to run are shown fewer images, and convolutions matched at up to ten points of each. Raises
    SlimscopeError for recurrent nets, and SettingError for an own share of a layer whose inputs cannot go.
    """
    readers = {reader.label: reader for reader in _readers(bundle)}
    _check_own(removed_per_layer, readers)
    with ALONE:  # torch.fx traces one net at a time; and who comes second finds what the first has made
        start = _begin(_Asked(bundle.fingerprint, selection, samples, seed, data.train, bundle))
    stays: dict[str, Sequence[int]] = {}
    for label, reader in readers.items():
        total = reader.group.channels
        left = total if label in leave_out else channels_left(total, removed_per_layer.get(label, removed))
        if left < total:
            stays[label] = start.ranks[label].supports[left]
    walk = _narrow_walk(bundle, start, readers, stays)
    made = {  # weight -> its rows that some layer still reads
        part.param: [part.at[channel] for channel in stay]
        for label, stay in stays.items()
        for part in readers[label].group.makes
    }
    found: list[_Found] = []
    for label, stay in stays.items():
        reader = readers[label]
        products = _products(walk, label, start.goals[label], start.fitted)
        found.append(_prune(reader, bundle.params[reader.weight].decode().flatten(1), products, stay))
        weight = found[-1].refitted if refit else found[-1].masked
        walk.set_weight(label, weight[made.get(reader.weight, slice(None))][:, reader.columns(stay)])
    after = _narrowed(bundle, found, refit)
    layers = _layers(bundle, after, found)
    curves = pd.DataFrame([row for rank in start.ranks.values() for row in rank.curve], columns=PATH_COLUMNS)
    figures = _figures(bundle, after, layers, found, refit, start.images)
    notes = _notes(bundle, after, layers, found, refit, leave_out)
    return after, Report(figures, {"layers": layers, "path": curves}, notes)


def channels_left(total: int, removed: float) -> int:
    """How many of a layer's channels stay where a share is removed: at least one.

    >>> channels_left(20, 0.5), channels_left(20, 0.99)
    (10, 1)
    """
    kept = round(1 - removed, 10)  # as people write it: 1 - 0.7 is 0.3
    return max(1, round(kept * total))


# ---------------------------------------------------------------- which layers read what


@dataclass(frozen=True)
class _Reader:
    """A layer, and the group of channels that it reads and nothing else does."""

    label: str
    group: Group
    width: int  # columns of its weight (outputs, inputs * kernel) that read one channel

    @property
    def weight(self) -> str:
        """The name of its weight."""
        return self.group.reads[0].param

    def columns(self, kept: Sequence[int]) -> Tensor:
        """Numbers of the columns that read these channels."""
        return (torch.tensor(kept)[:, None] * self.width + torch.arange(self.width)).flatten()


def prunable(bundle: Bundle) -> list[str]:
    """Layers whose inputs can go, in the order of the net. Raises SlimscopeError for recurrent nets."""
    return [reader.label for reader in _readers(bundle)]


def _readers(bundle: Bundle) -> list[_Reader]:
    """Layers whose inputs can go, in the order of the net; the streams of shortcuts have many readers."""
    found, known, nodes = [], channels.groups(bundle), _layers_passed(bundle.arch.key)
    for group in known.values():
        if group.stream or len(group.reads) != 1:
            continue
        part = group.reads[0]
        shape, label = bundle.params[part.param].shape, part.param.removesuffix(".weight")
        if label in nodes and part.at == tuple(range(0, shape[1], part.block)):
            found.append(_Reader(label, group, math.prod(shape[1:]) // group.channels))
    if known and not found:
        raise SlimscopeError(
            f"{bundle.arch.title} has no layer whose inputs can be chosen: shortcuts pass its channels on, "
            "or they are read inside of an attention block"
        )
    return found


@remembered
def _layers_passed(key: str) -> frozenset[str]:
    """The layers that can be fitted, and that the net passes once."""
    arch = Arch.from_key(key)
    net = zoo.skeleton(arch)
    with user.own_errors(f"{arch.title} can't be run layer by layer"), ALONE:
        passed = Counter(n.target for n in _Tracer().trace(net).nodes if n.op == "call_module")
    return frozenset(str(name) for name, count in passed.items() if count == 1 and _is_fitted(net, str(name)))


def _is_fitted(net: nn.Module, name: str) -> bool:
    layer = net.get_submodule(name)
    if isinstance(layer, nn.Conv1d | nn.Conv2d):
        return layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
    return isinstance(layer, nn.Linear)


def _check_own(per_layer: Mapping[str, float], known: Iterable[str]) -> None:
    """Raises SettingError for layers whose inputs stay."""
    for label in per_layer:
        if label not in known:
            raise SettingError(
                f"removed_per_layer names {label!r}, but what it reads cannot go: it enters the net, or "
                f"shortcuts pass it on; allowed are {', '.join(known) or 'no layers of this net'}"
            )


# ---------------------------------------------------------------- running the net from reader to reader


class _Tracer(fx.Tracer):
    """Lets nets of other threads run as ever: while one traces, every module's call passes through it."""

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not any(isinstance(value, fx.Proxy) for value in (*args, *kwargs.values())):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


class _Walk:
    """Batches of images on their way through a net; each has come as far as the layer asked for last.

    Only what is needed from there on is kept. A layer's weights may be changed while it is not passed.
    """

    def __init__(
        self, net: nn.Module, graph: fx.Graph, batches: Sequence[Mapping[fx.Node, Tensor]], at: int = 0
    ) -> None:
        self.net = net.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.steps = fx.Interpreter(self.net, graph=graph)
        self.nodes = list(graph.nodes)
        self.batches = [dict(batch) for batch in batches]
        self.at = at

    def layer(self, label: str) -> nn.Conv1d | nn.Conv2d | nn.Linear:
        """The layer itself."""
        return cast(nn.Conv1d | nn.Conv2d | nn.Linear, get_layer(self.net, label))

    @torch.no_grad()
    def inputs(self, label: str) -> Iterator[Tensor]:
        """What enters the layer, batch by batch."""
        node = self._node(label)
        place, rounds = self.nodes.index(node), getattr(self.layer(label), "input_quantizer", None)
        for values in self.batches:
            self.steps.env = values
            for passed in self.nodes[self.at : place]:
                values[passed] = self.steps.run_node(passed)
                for dead in self.steps.user_to_last_uses.get(passed, ()):
                    values.pop(dead, None)
            entering = values[node.all_input_nodes[0]]
            yield entering if rounds is None else rounds(entering)
        self.at = place

    def _node(self, label: str) -> fx.Node:
        return cast(fx.Node, next(n for n in self.nodes if n.op == "call_module" and n.target == label))

    def narrow(self, label: str, places: Tensor) -> None:
        """Leave only these places of what is about to enter the layer: numbers along the channels."""
        (entering,) = self._node(label).all_input_nodes
        for values in self.batches:
            values[entering] = values[entering].index_select(1, places)

    def set_weight(self, label: str, weight: Tensor) -> None:
        """Give a layer other weights: (outputs, inputs * kernel)."""
        with torch.no_grad():
            own = self.layer(label).weight
            own.copy_(weight.reshape(own.shape))


def _narrow_walk(
    bundle: Bundle, start: _Start, readers: Mapping[str, _Reader], stays: Mapping[str, Sequence[int]]
) -> _Walk:
    """A walk through the net without what will go: which channels stay is known ahead, weights are not."""
    narrow = channels.keep(bundle, {readers[label].group.name: stay for label, stay in stays.items()})
    walk = _Walk(zoo.fork(narrow), start.graph, start.batches, start.at)
    first = next(iter(readers), "")
    if first in stays:  # the batches were brought there with all channels
        part = readers[first].group.reads[0]
        walk.narrow(first, torch.tensor([i for channel in stays[first] for i in part.places(channel)]))
    return walk


def _rows(layer: nn.Module, inputs: Tensor, places: Tensor) -> Tensor:
    """The inputs of each output at the given places, row by row: (images * places, inputs * kernel).

    `places` (images, places) are numbers of positions in the layer's output; a linear layer has one.
    """
    image = torch.arange(len(inputs)).unsqueeze(1)
    if isinstance(layer, nn.Linear):
        return inputs.reshape(len(inputs), -1, inputs.shape[-1])[image, places].flatten(0, 1)
    if isinstance(layer, nn.Conv1d):  # an image of one row
        inputs = inputs.unsqueeze(2)
    (ph, pw), (kh, kw), (sh, sw), (dh, dw) = _by_rows_and_columns(layer)
    padded = F.pad(inputs, (pw, pw, ph, ph))
    windows = padded.unfold(2, (kh - 1) * dh + 1, sh).unfold(3, (kw - 1) * dw + 1, sw)[..., ::dh, ::dw]
    width = windows.shape[3]
    return windows[image, :, places // width, places % width].flatten(2).flatten(0, 1)


def _by_rows_and_columns(layer: nn.Module) -> tuple[tuple[int, int], ...]:
    """Padding, kernel, stride and dilation of a convolution; over one dimension it has one row."""
    own = cast(nn.Conv2d, layer)
    given = (cast(tuple[int, ...], own.padding), own.kernel_size, own.stride, own.dilation)
    pairs = zip((0, 1, 1, 1), given, strict=True)  # of one row: its padding, kernel, stride and dilation
    return tuple((one if len(each) == 1 else each[0], each[-1]) for one, each in pairs)


def _places(layer: nn.Module, inputs: Tensor, points: int, chance: torch.Generator) -> Tensor:
    """As many different positions of each image's output, by chance: (images, points or all)."""
    with torch.no_grad():
        shape = layer(inputs[:1]).shape
    positions = math.prod(shape[1:-1] if isinstance(layer, nn.Linear) else shape[2:])
    drawn = torch.rand(len(inputs), positions, generator=chance)
    return drawn.topk(min(points, positions)).indices


class _Goal(NamedTuple):
    """What a layer gave one batch at some places, without its bias: (images * places, outputs)."""

    places: Tensor
    outputs: Tensor


class _Products(NamedTuple):
    """What a layer reads and should give: means over the points it is fitted on, and rows to check."""

    gram: Tensor  # (columns, columns), float64
    cross: Tensor  # (columns, outputs)
    energy: float
    points: int
    inputs: Tensor  # (points of other images, columns), float32
    outputs: Tensor  # (points of other images, outputs)


@dataclass(frozen=True, eq=False)
class _Start:
    """What no choice of channels changes: batches as they reach the first reader, and all goals."""

    graph: fx.Graph
    at: int
    batches: list[dict[fx.Node, Tensor]]
    goals: Mapping[str, list[_Goal]]
    fitted: int  # batches to fit on; the others check
    images: int  # that are fitted on
    ranks: Mapping[str, _Rank]


@dataclass(frozen=True)
class _Asked:
    """What a start depends on. Bundles are told apart by their fingerprint."""

    fingerprint: str
    by: str
    samples: int
    seed: int
    train: Samples
    bundle: Bundle = field(compare=False)


@remembered  # the net under the slider, and one more: up to about 90 MB each
def _begin(asked: _Asked) -> _Start:
    """Run the net as it is, once: a slider that moves starts from here."""
    bundle, chance = asked.bundle, torch.Generator().manual_seed(asked.seed)
    readers = _readers(bundle)
    labels = [reader.label for reader in readers]
    affordable = max(int(BUDGET / kinds.work(bundle)), asked.samples // POINTS)
    images = min(affordable, asked.samples, len(asked.train) * CHECKED // (CHECKED + 1))
    chosen = asked.train.stratified(images + max(images // CHECKED, 1))
    points = math.ceil(asked.samples / images)
    starts = [*range(0, images, BATCH), *range(images, len(chosen), BATCH)]
    net = zoo.fork(bundle)
    graph = _Tracer().trace(net)
    goals: dict[str, list[_Goal]] = {label: [] for label in labels}
    batches, at = [], 0
    for begin, end in zip(starts, [*starts[1:], len(chosen)], strict=True):
        walk = _Walk(net, graph, [{next(iter(graph.nodes)): chosen.inputs(slice(begin, end))}], 1)
        for label in labels:
            layer, (inputs,) = walk.layer(label), walk.inputs(label)
            places = _places(layer, inputs, min(points, POINTS), chance)
            outputs = _rows(layer, inputs, places) @ layer.weight.detach().flatten(1).T
            goals[label].append(_Goal(places, outputs))
            if label == labels[0]:
                batches.append(dict(walk.batches[0]))
                at = walk.at
    fitted = math.ceil(images / BATCH)
    walk = _Walk(net, graph, batches, at)
    ranks = {}
    for reader in readers:
        products = _products(walk, reader.label, goals[reader.label], fitted)
        weight = bundle.params[reader.weight].decode().flatten(1)
        ranks[reader.label] = _rank(reader, weight, products, asked.by, chance)
    return _Start(graph, at, batches, goals, fitted, images, ranks)


def _products(walk: _Walk, label: str, goals: Sequence[_Goal], fitted: int) -> _Products:
    """Bring the batches to a layer, and sum up what enters it there, in float64."""
    layer = walk.layer(label)
    width = layer.weight[0].numel()
    gram, cross = (torch.zeros(width, n, dtype=torch.float64) for n in (width, goals[0].outputs.shape[1]))
    energy, points, checked = 0.0, 0, []
    for number, (inputs, goal) in enumerate(zip(walk.inputs(label), goals, strict=True)):
        rows = _rows(layer, inputs, goal.places)
        if number >= fitted:
            checked.append(rows)
            continue
        x, y = rows.double(), goal.outputs.double()
        gram.addmm_(x.T, x)
        cross.addmm_(x.T, y)
        energy, points = energy + float(y.square().sum()), points + len(x)
    outputs = torch.cat([goal.outputs for goal in goals[fitted:]])
    gram /= points
    cross /= points
    return _Products(gram, cross, energy / points, points, torch.cat(checked), outputs)


# ---------------------------------------------------------------- one layer


@dataclass(frozen=True, eq=False)
class _Rank:
    """For each number of channels which ones stay; errors at a few numbers, this layer pruned alone."""

    supports: Sequence[Sequence[int]]
    curve: tuple[tuple[str, int, float, float, float], ...]


@dataclass(frozen=True, eq=False)
class _Found:
    """One layer pruned: its weights (outputs, inputs * kernel) with zeros where channels go, and errors."""

    reader: _Reader
    kept: tuple[int, ...]
    masked: Tensor
    refitted: Tensor
    points: int
    checked: int
    error_masked: float
    error_refit: float
    error_fitted: float

    def error(self, refit: bool) -> float:
        """The error of the weights in use, on other images than those fitted on."""
        return self.error_refit if refit else self.error_masked

    @property
    def inputs_kept(self) -> int:
        """Columns of the weight that are fitted."""
        return self.reader.width * len(self.kept)


def _rank(reader: _Reader, weight: Tensor, products: _Products, by: str, chance: torch.Generator) -> _Rank:
    total = reader.group.channels
    supports, lambdas = _supports(weight, products, total, by, chance)
    rows = []
    sizes = {channels_left(total, MOST), *(math.ceil(total * i / CURVE) for i in range(1, CURVE + 1))}
    for size in sorted(sizes):
        masked = _spread(weight[:, reader.columns(supports[size])], reader, supports[size], weight)
        refitted = lars.refit(products.gram, products.cross, weight, supports[size], total)
        rows.append((reader.label, size, lambdas[size], _error(products, masked), _error(products, refitted)))
    return _Rank(supports, tuple(rows))


def _prune(reader: _Reader, weight: Tensor, products: _Products, stay: Sequence[int]) -> _Found:
    """`products` are those of the columns that stay."""
    own = weight[:, reader.columns(stay)]
    fitted = lars.refit(products.gram, products.cross, own, range(len(stay)), len(stay))
    return _Found(
        reader,
        tuple(stay),
        _spread(own, reader, stay, weight),
        _spread(fitted, reader, stay, weight),
        products.points,
        len(products.outputs),
        _error(products, own),
        _error(products, fitted),
        lars.relative_error(products.gram, products.cross, products.energy, fitted),
    )


def _spread(own: Tensor, reader: _Reader, stay: Sequence[int], like: Tensor) -> Tensor:
    """Weights of some channels in their places among zeros."""
    whole = torch.zeros(like.shape, dtype=own.dtype)
    whole[:, reader.columns(stay)] = own
    return whole


def _error(products: _Products, weight: Tensor) -> float:
    """How far the outputs are from the goal at points that were not fitted, over the goal's norm."""
    norm = float(products.outputs.norm())
    gap = products.outputs - products.inputs @ weight.float().T
    return float(gap.norm()) / norm if norm > 0 else 0.0


def _supports(
    weight: Tensor, products: _Products, total: int, by: str, chance: torch.Generator
) -> tuple[Sequence[Sequence[int]], Sequence[float]]:
    """For each number of channels which ones stay, and the lambda at which they do (NaN without LASSO)."""
    if by == "lasso":
        path = lars.path(*lars.of_channels(products.gram, products.cross, weight, total))
        return path.supports, path.first
    if by == "largest":
        sizes = weight.double().abs().view(len(weight), total, -1).sum((0, 2))
        order = torch.argsort(sizes, descending=True, stable=True).tolist()
    else:
        order = torch.randperm(total, generator=chance).tolist()
    return [tuple(sorted(order[:size])) for size in range(total + 1)], [math.nan] * (total + 1)


def _narrowed(bundle: Bundle, found: Sequence[_Found], refit: bool) -> Bundle:
    """The bundle with new weights in the layers that were refitted, and without what they do not read."""
    params: dict[str, Param] = dict(bundle.params)
    for one in found if refit else ():
        name = one.reader.weight
        params[name] = Dense(one.refitted.float().reshape(bundle.params[name].shape))
    return channels.keep(bundle.become(params), {one.reader.group.name: one.kept for one in found})


# ---------------------------------------------------------------- what the report says


def _layers(before: Bundle, after: Bundle, found: Sequence[_Found]) -> pd.DataFrame:
    """Every layer, so that columns add up to the net's; errors only of those that read less."""
    macs = [kinds.weight_table(bundle)["macs"].to_dict() for bundle in (before, after)]
    pruned = {one.reader.label: one for one in found}
    rows = []
    known = {reader.label: reader.group.channels for reader in _readers(before)}
    for label, name in weight_layers(before).items():
        one, reads = pruned.get(label), known.get(label, before.params[name].shape[1])
        numbers = (
            (reads, reads, 0, 0, *[math.nan] * 3)
            if one is None
            else (
                one.reader.group.channels,
                len(one.kept),
                one.reader.group.channels - len(one.kept),
                one.points,
                one.error_masked,
                one.error_refit,
                one.error_fitted,
            )
        )
        rows.append((label, *numbers, *(table.get(name, 0) for table in macs)))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _figures(
    before: Bundle,
    after: Bundle,
    layers: pd.DataFrame,
    found: Sequence[_Found],
    refit: bool,
    images: int,
) -> tuple[Figure, ...]:
    work = "weights x positions where they are used, batch 1"
    figures = [
        Figure(
            "channels removed",
            int(layers["removed"].sum()),
            "channels",
            Basis.COUNTED,
            "channels that layers read before minus after; as many filters went that made them",
        ),
        Figure(
            "multiply-adds before",
            int(layers["macs_before"].sum()),
            "MAC",
            Basis.COUNTED,
            f"{work}; as it came",
        ),
        Figure("multiply-adds after", int(layers["macs_after"].sum()), "MAC", Basis.COUNTED, work),
        replace(count.parameters(before), name="parameters before"),
        count.parameters(after),
    ]
    if found:
        worst = max(found, key=lambda one: one.error(refit))
        how = (
            f"norm of (outputs - what they were) / norm of what they were, of {worst.reader.label}, the "
            f"layer where it is largest: at {worst.checked:,} points of training images on which nothing was "
            f"fitted or chosen ({worst.points:,} points of {images:,} others were)"
        )
        figures.append(Figure("largest output error", worst.error(refit), "share", Basis.MEASURED, how))
    return tuple(figures)


def _notes(
    before: Bundle,
    after: Bundle,
    layers: pd.DataFrame,
    found: Sequence[_Found],
    refit: bool,
    leave_out: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if found:
        parameters = 1 - count.parameters(after).value / count.parameters(before).value
        macs = 1 - layers["macs_after"].sum() / layers["macs_before"].sum()
        notes.append(
            f"{parameters:.1%} of the parameters and {macs:.1%} of the multiply-adds went: a channel that no "
            "layer reads need not be made, so its filter, bias and batch-norm entries went, too."
        )
    if refit:
        notes += _refit_notes(before, found)
    elif found:
        notes.append(
            "The weights that are left are as they were: what the removed channels gave is missing. A refit "
            "lets the kept ones stand in for them, without training."
        )
    streams = [group for group in channels.groups(before).values() if group.stream]
    if streams:
        notes.append(
            "Channels that shortcuts pass on stay: only the layers inside of a block read fewer, and errors "
            "that add up along the shortcuts are not corrected."
        )
    single = [one.reader.label for one in found if len(one.kept) == 1]
    if single:
        notes.append(
            f"Only one channel is left for {', '.join(single)} to read: all that follows depends on it."
        )
    floats = channels.turned_dense(before, after)
    if floats:
        notes.append(
            f"{', '.join(floats)} are 32-bit floats again: their codes no longer fit. Quantize after "
            "this step."
        )
    if leave_out:
        notes.append(f"Left out: {', '.join(leave_out)}; the filters in them may have gone all the same.")
    return tuple(notes)


def _refit_notes(before: Bundle, found: Sequence[_Found]) -> list[str]:
    notes = []
    filled = [one.reader.label for one in found if bool(((one.masked == 0) & (one.refitted != 0)).any())]
    if filled:
        notes.append(
            f"The refit gave new values to weights of {', '.join(filled)} that were zero: prune single "
            "weights after this step, not before."
        )
    scarce = [one for one in found if one.points < one.inputs_kept]
    if scarce:
        said = ", ".join(f"{o.reader.label} ({o.points:,} for {o.inputs_kept:,} inputs)" for o in scarce)
        notes.append(
            f"Fewer points than inputs: {said}. The fit is exact there and learns chance by heart; compare "
            "the error where it was fitted with that on other images, and take more points."
        )
    return notes
