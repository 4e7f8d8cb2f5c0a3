"""Which layers of a bundle can be split, by what decomposition, and the bundle after it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor, nn

from engine.data.sets import Data, Samples
from engine.memory import remembered
from engine.net import matching, zoo
from engine.net.surgery import get_layer, is_read_past
from engine.tensor import splits, whitened
from engine.tensor.factors import Decomposition
from engine.tensor.formats import Dense
from engine.tensor.splits import Pair, Ranks, Split
from engine.types import Bundle, Param, SlimscopeError, weight_layers

CHECKED = 5  # one image of so many is not looked at, and errors are measured on it
PLACES = 10  # of an image at most that a convolution is looked at


@dataclass(frozen=True)
class How:
    """The form of convolutions, whose `error` is kept small, and how many images outputs are taken from."""

    form: str
    error: str
    samples: int


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer with its shape, and how it can be split; or why it stays as it is.

    Where `outputs` are known (of images that were not looked at), the split is by the outputs' error, and
    `plain` is the one by the weights' error.
    """

    label: str
    shape: tuple[int, ...]
    form: str
    why: str = ""
    split: Split | None = None
    plain: Split | None = None
    outputs: Tensor | None = None

    @property
    def weights(self) -> int:
        return math.prod(self.shape)

    def saves(self, ranks: Mapping[str, Ranks]) -> bool:
        """Whether it has fewer weights at its ranks."""
        return self.split is not None and self.split.weights(ranks[self.label]) < self.weights

    def output_errors(self, ranks: Ranks) -> dict[str, float]:
        """What the layer's outputs are off by, over their norm, on images that nothing was read from."""
        both = {"output_error_plain": self.plain, "output_error": self.split}
        return {
            name: whitened.output_error(each.parts, ranks[0], self.outputs)
            for name, each in both.items()
            if isinstance(each, Pair) and self.outputs is not None
        }


def layers_of(bundle: Bundle, data: Data | None, how: How, leave_out: Collection[str] = ()) -> list[Layer]:
    """Every layer of the bundle, with its decomposition.

    Raises SlimscopeError where the outputs' error counts and there are no images, or no model that runs.
    """
    if how.error == "outputs" and (data is None or not bundle.arch.runs):
        raise SlimscopeError(
            "outputs are known only where a model runs: it needs a known architecture with data; choose "
            "error = 'weights'"
        )
    net = zoo.skeleton(bundle.arch) if bundle.arch.runs else None
    found = []
    for label, name in weight_layers(bundle).items():
        shape = bundle.params[name].shape
        form = form_of(shape, how.form) if label != name else ""
        why = "left out" if label in leave_out else _why_not(bundle, net, label, name, form)
        found.append(Layer(label, shape, form, why) if why else layer_of(bundle, data, label, how))
    return found


def layer_of(bundle: Bundle, data: Data | None, label: str, how: How) -> Layer:
    """A layer with its decomposition, by the outputs' error where that counts and is known."""
    weight = bundle.params[weight_layers(bundle)[label]].decode()
    shape, form = tuple(weight.shape), form_of(tuple(weight.shape), how.form)
    plain = splits.of(weight, form)
    if how.error != "outputs" or data is None or form not in whitened.FORMS:
        return Layer(label, shape, form, split=plain)
    if label not in (seen := outputs_of(bundle, data.train, how.samples)):
        return Layer(label, shape, form, split=plain)
    parts = _for_outputs(bundle, data.train, how.samples, label, form)
    return Layer(label, shape, form, "", Pair(parts), plain, seen[label][1])


@remembered
def _for_outputs(bundle: Bundle, samples: Samples, count: int, label: str, form: str) -> Decomposition:
    weight = bundle.params[weight_layers(bundle)[label]].decode()
    return whitened.decompose(weight, form, outputs_of(bundle, samples, count)[label][0])


def form_of(shape: tuple[int, ...], form: str) -> str:
    """The form in which a weight is split where convolutions have this one; nothing where it has none.

    >>> form_of((8, 4), "tucker"), form_of((8, 4, 3, 3), "tucker"), form_of((8, 4, 1, 1), "tucker")
    ('linear', 'tucker', 'channel')
    """
    match shape:
        case _, _:
            return "linear"
        case _, _, 1, 1 if form == "tucker":
            return "channel"  # a matrix: a core between two others would be two matrices in a row
        case _, _, _, _:
            return form
    return ""


def _why_not(bundle: Bundle, net: nn.Module | None, label: str, name: str, form: str) -> str:
    """Why a layer can't be split, or nothing."""
    if label == name:
        return "it shares its layer with other matrices, as in LSTM and GRU, so it cannot be cut in two"
    layer = get_layer(net, label) if net is not None else None
    if not form:
        return f"a weight of {len(bundle.params[name].shape)} dimensions has no split"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return "a grouped convolution is thin already"
    if layer is not None and not isinstance(layer, nn.Linear | nn.Conv2d):
        return f"a layer of type {type(layer).__name__} has no split"
    if name in bundle.arch.ties.values():
        return "another layer shares its numbers, so it cannot be cut in two"
    if net is not None and is_read_past(net, label):
        return "the module around it reads its numbers itself, so it cannot be cut in two"
    if hasattr(layer, "input_quantizer"):
        return "its input is quantized: split first and quantize after"
    return ""


@remembered  # a slider moves many times over the same net
def outputs_of(bundle: Bundle, samples: Samples, count: int) -> Mapping[str, tuple[Tensor, Tensor]]:
    """Label -> what a layer gives at some places of `count` images, without its bias.

    Twice (points, outputs): of the images that are looked at, and of every `CHECKED`th, by which errors are
    measured. Left out are layers whose outputs are no matrix times their inputs, and those that are called
    twice or never.
    """
    images = samples.stratified(count).inputs()
    goals = matching.goals_of(zoo.fork(bundle).eval(), weight_layers(bundle), images, PLACES, 0)
    held = torch.arange(len(images)) % CHECKED == CHECKED - 1
    found = {}
    for label, goal in goals.items():
        by_image = goal.outputs.reshape(*goal.places.shape, -1)
        found[label] = (by_image[~held].flatten(0, 1), by_image[held].flatten(0, 1))
    return MappingProxyType(found)


def split(bundle: Bundle, layers: Sequence[Layer], ranks: Mapping[str, Ranks]) -> Bundle:
    """The bundle with those layers split that have fewer weights at their ranks; all else keeps its place."""
    able = {layer.label: layer.split for layer in layers if layer.split is not None and layer.saves(ranks)}
    params: dict[str, Param] = {}
    for name, param in bundle.params.items():
        label, _, leaf = name.rpartition(".")
        if label not in able or leaf not in ("weight", "bias"):
            params[name] = param
        elif leaf == "weight":
            thin = able[label].layers(ranks[label])
            params |= {f"{label}.{i}.weight": Dense(each) for i, each in enumerate(thin)}
        else:
            params[f"{label}.{len(ranks[label])}.bias"] = param
    arch = bundle.arch
    for label, own in able.items():
        if len(at := ranks[label]) == 2:
            arch = arch.edit("tucker", layer=label, outputs=at[0], inputs=at[1])
        else:
            arch = arch.edit("split", layer=label, rank=at[0], form=own.form)
    return bundle.become(params, arch)
