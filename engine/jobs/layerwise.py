"""A net too large to be compressed whole on every move of a slider, seen one layer at a time.

What is done to the layer is what would be done to it in the whole net: where the weights of all
layers compete, the threshold comes from an index of all of them. Of a layer with more than
SHOWN weights some whole rows stand for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from engine.figures import count
from engine.figures.measure import Z95
from engine.recipe import technique
from engine.recipe.knobs import Entries, Layers, PerLayer
from engine.tensor.formats import Dense
from engine.tensor.histogram import index_of
from engine.tensor.index import Index
from engine.tensor.ranking import Pool
from engine.types import Arch, Bundle, Report, SlimscopeError, Step, weight_layers

LARGE = 1 << 21  # weights; compressing more of them whole takes longer than an eye waits
SHOWN = 1 << 20  # weights of a layer that are looked at

ONLY_FIRST = (
    "all the layers of a model this large can only be ranked by the first step of a recipe: "
    "choose one threshold, or move the step to the front"
)


def is_large(bundle: Bundle) -> bool:
    """Whether the net has more weights than are compressed whole on every move."""
    return sum(weight.numel() for _, weight in count.weights(bundle)) > LARGE


def of_layer(bundle: Bundle, layer: str, most: int | None = SHOWN) -> Bundle:
    """One layer by itself with its bias; or, with `most`, at most about so many of its weights in whole rows.

    The rows are evenly spaced, and those with the largest and the smallest weight are among them.

    >>> weight = torch.arange(12.0).reshape(6, 2)
    >>> net = Bundle(Arch("bare"), {"a.weight": Dense(weight), "b.weight": Dense(weight)})
    >>> of_layer(net, "a", 6).params["a.weight"].decode()[:, 0].tolist()
    [0.0, 4.0, 8.0, 10.0]
    """
    name = weight_layers(bundle)[layer]
    weight = bundle.params[name].decode()
    if most is not None and weight.numel() > most:
        return Bundle(Arch("bare"), {name: Dense(weight[_rows(weight, most)])})
    return Bundle(Arch("bare"), {own: bundle.params[own] for own in tensors_of(bundle, layer)})


def tensors_of(bundle: Bundle, layer: str) -> list[str]:
    """The names of a layer's weight and of what goes with it (its bias), in the net's order."""
    weight = weight_layers(bundle)[layer]
    return [
        name
        for name, param in bundle.params.items()
        if name == weight or (name.startswith(f"{layer}.") and len(param.shape) < 2)
    ]


def _rows(weight: Tensor, most: int) -> Tensor:
    matrix = weight.flatten(1)
    step = -(-weight.numel() // most)
    ends = [int(end) // matrix.shape[1] for end in (matrix.argmax(), matrix.argmin())]
    return torch.tensor(sorted({*range(0, len(matrix), step), *ends}))


def margin(before: Tensor, after: Tensor, rows: int) -> float:
    """How far, in per cent, the squared error of all `rows` may be from what some of them tell (95 %).

    `before` and `after` hold those (n, ...) as they were and as they became. The sampling error of a mean of
    n out of `rows` values, with the normal distribution's 95 % point.

    >>> before, after = torch.zeros(4, 2), torch.tensor([[1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 0.0]])
    >>> round(margin(before, after, 8), 1), margin(before, after, 4)
    (26.7, 0.0)
    """
    lost = (after - before).flatten(1).double().square().sum(1)
    if len(lost) < 2 or not float(lost.mean()):
        return 0.0
    deviation = float(lost.std()) * math.sqrt((1 - len(lost) / rows) / len(lost))
    return 100 * Z95 * deviation / float(lost.mean())


def apply(bundle: Bundle, step: Step, labels: Sequence[str], pool: Pool) -> tuple[Bundle, Report]:
    """A step on layers by themselves, as it acts on them in their net, whose layers are `labels`.

    Raises SlimscopeError where the step must run the net, or `pool` has no index of all layers.
    """
    known = technique.get(step.technique)
    if known.needs_model or known.locality == "model":
        raise SlimscopeError(f"{known.title} must run the model: it needs a known architecture with data")
    mine, settings = list(weight_layers(bundle)), dict(known.check(step.settings))
    if known.sees_model(settings):
        now = [(name, settings[name], values) for name, values in known.whole]
        said = " and ".join(f"{name} = {value!r}" for name, value, values in now if value in values)
        raise SlimscopeError(f"{known.title} must see the whole model where {said}")
    if known.ranked is not None:
        settings = known.ranked.alone(settings, mine[0], labels, pool)
    for name, knob in known.knobs.items():
        if isinstance(knob, Layers):
            settings[name] = tuple(layer for layer in settings[name] if layer in mine)
        elif isinstance(knob, PerLayer | Entries):
            settings[name] = {layer: value for layer, value in settings[name].items() if layer in mine}
    after, report = known.function(bundle, None, **settings)
    return replace(after, lineage=bundle.lineage.then(step)), replace(report, step=step)


def alone(bundle: Bundle) -> Pool:
    """The index of the layer in hand, where it is not the net's first step: others are not at hand then."""

    def pool(layers: tuple[str, ...]) -> Index:
        if len(layers) > 1:
            raise SlimscopeError(ONLY_FIRST)
        return index_of([weight for _, weight in count.weights(bundle)])

    return pool
