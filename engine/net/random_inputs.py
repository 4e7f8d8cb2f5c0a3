"""Inputs drawn at random, for steps that do without data: word pieces for a model of texts, else noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from engine.data.pieces import UNKNOWN
from engine.data.sets import Samples
from engine.net import sources, zoo
from engine.net.distilled import Pixels, noise
from engine.types import Bundle, SlimscopeError


def random_inputs(bundle: Bundle, like: Samples, count: int, seed: int) -> Tensor:
    """(count, ...) inputs of the model's shape, the same for the same seed.

    Numbers of word pieces are drawn evenly from those behind the unknown one, for every place: no text ends.
    Of `like` nothing is read but how pixels are scaled. Raises SlimscopeError for a model that reads whole
    numbers by something else than a table.
    """
    example = sources.inputs(bundle.arch)
    if example.is_floating_point():
        return noise(bundle, count, seed, Pixels(like.mean, like.std) if like.mean else None)
    drawn = torch.rand(count, *example.shape[1:], generator=torch.Generator().manual_seed(seed))
    first, rows = UNKNOWN + 1, _rows(bundle, example)
    return (first + (drawn * (rows - first)).long()).clamp(max=rows - 1)


def _rows(bundle: Bundle, example: Tensor) -> int:
    """Rows of the smallest table that the inputs enter."""
    net, found = zoo.fork(bundle).eval(), list[int]()

    def meet(module: nn.Embedding, args: tuple[Any, ...]) -> None:
        if args[0].shape == example.shape and torch.equal(args[0], example):
            found.append(module.num_embeddings)

    for module in net.modules():
        if isinstance(module, nn.Embedding):
            module.register_forward_pre_hook(meet)
    with torch.no_grad():
        net(example)
    if not found:
        raise SlimscopeError(
            f"{bundle.arch.title} reads whole numbers by no table, so none can be drawn: learn from "
            "training samples"
        )
    return min(found)
