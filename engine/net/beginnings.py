"""Where a training begins: the weights that a net had at first, or new random ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from engine.net import zoo
from engine.net.input_quantizer import is_of_quantizer
from engine.types import Bundle, SlimscopeError

State = dict[str, Tensor]


def first_weights(bundle: Bundle, start: str, seed: int) -> State:
    """Those of the zoo's net before its training (`zoo`), or drawn ones (`seed`). Raises SlimscopeError."""
    if start == "seed":
        return glorot(bundle, seed)
    if bundle.arch.source != "zoo":
        raise SlimscopeError(
            "start is 'zoo': the first weights of this model are not known; allowed is 'seed'"
        )
    if bundle.arch.edits:
        raise SlimscopeError(
            f"start is 'zoo': this model has layers that {bundle.arch.title} had not in its first weights; "
            "allowed is 'seed'"
        )
    return zoo.initial(bundle.arch.name).state()


def other_weights(bundle: Bundle, start: str, seed: int) -> State:
    """Other first weights of the same distribution."""
    if start == "seed":
        return glorot(bundle, seed)
    net = zoo.seeded(bundle.arch.name, seed)
    return {name: tensor.detach() for name, tensor in net.state_dict().items() if name in bundle.params}


def glorot(bundle: Bundle, seed: int) -> State:
    """New first values for every parameter: weights N(0, 2 / (fan in + fan out)), biases zero.

    A kernel's fans count its area. Normalisation starts at mean 0 and variance 1; quantizers of
    inputs stay. (Glorot, Bengio 2010, Understanding the difficulty of training deep networks)
    """
    generator = torch.Generator().manual_seed(seed)
    return {name: _new_value(name, tensor, generator) for name, tensor in bundle.decoded().items()}


def _new_value(name: str, old: Tensor, generator: torch.Generator) -> Tensor:
    if old.dim() >= 2:
        area = math.prod(old.shape[2:])
        deviation = math.sqrt(2 / (area * (old.shape[0] + old.shape[1])))
        return torch.randn(old.shape, generator=generator) * deviation
    if is_of_quantizer(name):
        return old
    zero = "bias" in name or name.endswith("running_mean")
    return torch.zeros_like(old) if zero else torch.ones_like(old)
