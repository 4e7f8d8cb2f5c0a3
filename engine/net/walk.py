"""Batches on their way through a net: what each layer reads, and what it gives at some places of an image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from engine.data.pieces import PAD
from engine.net.surgery import get_layer


class Tracer(fx.Tracer):
    """Lets nets of other threads run as ever: while one traces, every module's call passes through it."""

    def call_module(self, m: nn.Module, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not any(isinstance(value, fx.Proxy) for value in (*args, *kwargs.values())):
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)


class Walk:
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
        axis = -1 if isinstance(self.layer(label), nn.Linear) else 1  # of a text, the last of three
        for values in self.batches:
            values[entering] = values[entering].index_select(axis, places)

    def set_weight(self, label: str, weight: Tensor) -> None:
        """Give a layer other weights: (outputs, inputs * kernel)."""
        with torch.no_grad():
            own = self.layer(label).weight
            own.copy_(weight.reshape(own.shape))


def rows_at(layer: nn.Module, inputs: Tensor, places: Tensor) -> Tensor:
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


def drawn_places(
    layer: nn.Module, inputs: Tensor, points: int, rng: torch.Generator, words: Tensor | None = None
) -> Tensor:
    """As many different positions of each image's output, by rng: (images, points or all).

    Of a text only the places of `words` (texts, places) are drawn, over and over where they are fewer.
    """
    with torch.no_grad():
        shape = layer(inputs[:1]).shape
    positions = math.prod(shape[1:-1] if isinstance(layer, nn.Linear) else shape[2:])
    drawn = torch.rand(len(inputs), positions, generator=rng)
    if words is None or words.shape != drawn.shape:
        return drawn.topk(min(points, positions)).indices
    first = torch.where(words, drawn, -1.0).argsort(1, descending=True)
    again = torch.arange(min(points, positions)) % words.sum(1, keepdim=True)
    return first.gather(1, again)


def words_of(inputs: Tensor) -> Tensor | None:
    """Which places of texts (n, places) hold a word, and not what fills them up; None for other inputs.

    All places of a text without any word.

    >>> words_of(torch.tensor([[5, 7, 0], [0, 0, 0]])).tolist()
    [[True, True, False], [True, True, True]]
    """
    if inputs.dim() != 2 or inputs.is_floating_point():
        return None
    words = inputs != PAD
    return words | ~words.any(1, keepdim=True)


class Goal(NamedTuple):
    """What a layer gave one batch at some places, without its bias: (images * places, outputs)."""

    places: Tensor
    outputs: Tensor


class Products(NamedTuple):
    """What a layer reads and should give: means over the points it is fitted on, and rows to check."""

    gram: Tensor  # (columns, columns), float64
    cross: Tensor  # (columns, outputs)
    energy: float
    points: int
    inputs: Tensor  # (points of other images, columns), float32
    outputs: Tensor  # (points of other images, outputs)

    def error(self, weight: Tensor) -> float:
        """How far the outputs are from the goal at points that were not fitted, over the goal's norm."""
        norm = float(self.outputs.norm())
        gap = self.outputs - self.inputs @ weight.float().T
        return float(gap.norm()) / norm if norm > 0 else 0.0


def gathered(walk: Walk, label: str, goals: Sequence[Goal], fitted: int) -> Products:
    """Bring the batches to a layer, and sum up what enters it there, in float64."""
    layer = walk.layer(label)
    width = layer.weight[0].numel()
    gram, cross = (torch.zeros(width, n, dtype=torch.float64) for n in (width, goals[0].outputs.shape[1]))
    energy, points, checked = 0.0, 0, []
    for number, (inputs, goal) in enumerate(zip(walk.inputs(label), goals, strict=True)):
        rows = rows_at(layer, inputs, goal.places)
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
    return Products(gram, cross, energy / points, points, torch.cat(checked), outputs)
