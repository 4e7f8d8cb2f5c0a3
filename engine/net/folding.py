"""Batch-norm as a part of the layer before it, and channels brought to ranges of their own choice.

Both leave what the model answers: Nagel et al. 2019, Data-Free Quantization, arXiv 1906.04721, section 4.1;
folding: Jacob et al. 2018, arXiv 1712.05877, section 3.2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.net import zoo
from engine.net.channels import scaling
from engine.net.channels.parts import Group, Part
from engine.net.surgery import get_layer
from engine.tensor import equalize
from engine.tensor.formats import Dense
from engine.types import Bundle, Param

RESTS = 1e-4  # a round that scales no channel by more than this share has changed nothing


def folded(bundle: Bundle) -> tuple[Bundle, dict[str, str]]:
    """The bundle with every batch-norm folded that can be: and layer -> batch-norm of those.

    W' = W g and b' = (b - mean) g + shift, with g = scale / sqrt(variance + eps) of each output. Weights and
    biases of these layers are 32-bit floats then; exact zeros stay zeros.
    """
    known, net, arch = scaling.foldable(bundle.arch), zoo.skeleton(bundle.arch), bundle.arch
    params = dict(bundle.params)
    for layer, normal in known.items():
        weight, bias = _folded(bundle, layer, normal, float(_of(net, normal).eps))
        params[f"{layer}.weight"], params[f"{layer}.bias"] = Dense(weight), Dense(bias)
        arch = arch.edit("fold", layer=layer, normal=normal)
    gone = tuple(f"{normal}." for normal in known.values())
    names = [name for name in zoo.skeleton(arch).state_dict() if name in params and not name.startswith(gone)]
    return bundle.become({name: params[name] for name in names}, arch), known


def _of(net: torch.nn.Module, name: str) -> Any:
    return get_layer(net, name)


def _folded(bundle: Bundle, layer: str, normal: str, eps: float) -> tuple[Tensor, Tensor]:
    weight = bundle.params[f"{layer}.weight"].decode().double()

    def read(name: str, otherwise: float) -> Tensor:
        if name in bundle.params:
            return bundle.params[name].decode().double()
        return torch.full((len(weight),), otherwise, dtype=torch.float64)

    variance, mean = read(f"{normal}.running_var", 1.0), read(f"{normal}.running_mean", 0.0)
    factor = read(f"{normal}.weight", 1.0) / torch.sqrt(variance + eps)
    bias = (read(f"{layer}.bias", 0.0) - mean) * factor + read(f"{normal}.bias", 0.0)
    return equalize.scaled(weight, 0, factor).float(), bias.float()


@dataclass(frozen=True)
class Equalized:
    """Of one pair: what its channels were divided by, and their ranges before and after: (channels,) each."""

    pair: Group
    factor: Tensor
    before: tuple[Tensor, Tensor]  # in the layer that makes them, and in the one that reads them
    after: tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Rest:
    """How an equalization ended: after how many rounds, and whether nothing moved any more."""

    rounds: int
    reached: bool


def equalized(bundle: Bundle, rounds: int) -> tuple[Bundle, dict[str, Equalized], Rest]:
    """The bundle with equal ranges on both sides of each pair, what became of each, and how it ended.

    Pairs share layers, so all are gone through again until nothing moves, or `rounds` times. The layers of
    pairs are 32-bit floats then.
    """
    known = scaling.pairs(bundle.arch)
    names = {part.param for pair in known.values() for part in (*pair.makes, *pair.reads)}
    values = {name: bundle.params[name].decode().double() for name in names}
    first = {name: _ranges(pair, values) for name, pair in known.items()}
    factors = {name: torch.ones(pair.channels, dtype=torch.float64) for name, pair in known.items()}
    done, largest = 0, math.inf if known else 1.0
    while done < rounds and largest > 1 + RESTS:
        done, largest = done + 1, 1.0
        for name, pair in known.items():
            wanted = factors[name] * equalize.factors(*_ranges(pair, values))
            new = wanted.clamp(1 / equalize.MOST, equalize.MOST)
            step, factors[name] = new / factors[name], new
            for part in pair.makes:
                values[part.param] = _scaled(values[part.param], part, 1 / step)
            for part in pair.reads:
                values[part.param] = _scaled(values[part.param], part, step)
            largest = max(largest, float(step.max()), float(1 / step.min()))
    params: dict[str, Param] = dict(bundle.params)
    params |= {name: Dense(each.float()) for name, each in values.items()}
    said = {
        name: Equalized(pair, factors[name], first[name], _ranges(pair, values))
        for name, pair in known.items()
    }
    return bundle.become(params), said, Rest(done, largest <= 1 + RESTS)


def _ranges(pair: Group, values: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    made = next(part for part in pair.makes if part.param.endswith(".weight"))
    made_by, read_by = (equalize.ranges(values[p.param], p.axis, p.at, p.block) for p in (made, *pair.reads))
    return made_by, read_by


def _scaled(values: Tensor, part: Part, factors: Tensor) -> Tensor:
    places = equalize.along(part.at, part.block, factors, values.shape[part.axis])
    return equalize.scaled(values, part.axis, places)
