"""What a model's layers multiply: shapes and multiply-adds, worked out once for each architecture."""

from __future__ import annotations

import functools
import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torchinfo import summary

from engine.data import user
from engine.net import sources, zoo
from engine.types import Arch, Bundle


def layer_macs(bundle: Bundle) -> pd.DataFrame:
    """One row per layer that multiplies: layer, type, input, output, macs (batch 1).

    Shapes come from torchinfo, which sends one random input through the net, once for each architecture.
    """
    return _layer_macs(bundle.arch.key).copy()


@functools.lru_cache(maxsize=256)  # a slider comes back to its stops; a table takes about 10 KB
def _layer_macs(key: str) -> pd.DataFrame:
    arch = Arch.from_key(key)
    net, inputs = zoo.blank(arch), sources.inputs(arch)
    rows = [
        {
            "layer": name,
            "type": info.class_name,
            "input": _dims(info.input_size),
            "output": _dims(info.output_size),
            "macs": multiply_adds(info.module, info.input_size, info.output_size),
        }
        for name, info in _walk(net, inputs)
        # A layer with an input quantizer inside is listed twice, first without sizes.
        if isinstance(info.module, nn.Linear | nn.Conv2d | nn.LSTM) and info.output_size
    ]
    return pd.DataFrame(rows)


def macs_by_layer(bundle: Bundle) -> dict[str, int]:
    """Layer label -> multiply-adds at batch 1."""
    table = layer_macs(bundle)
    return dict(zip(table["layer"], table["macs"], strict=True))


VALUE = 100  # multiply-adds that take as long as writing and reading one number between two layers


def work(bundle: Bundle) -> float:
    """What one sample costs, in multiply-adds: those of the layers, and VALUE for each number they give.

    Counted of small convolutions alone, multiply-adds are off by ten times: lenet-5-small takes 18 us a
    sample for 0.1 million, lenet-300-100 takes 7 us for 0.3 million.
    """
    layers = layer_macs(bundle)
    values = [math.prod(map(int, shape.split(" x "))) for shape in layers["output"]]
    return float(layers["macs"].sum() + VALUE * sum(values))


def _walk(net: nn.Module, inputs: Tensor) -> list[tuple[str, Any]]:
    names = {id(module): name for name, module in net.named_modules()}
    with torch.random.fork_rng(devices=[]), user.own_errors("the shapes of the layers can't be found"):
        listed = summary(net, input_data=inputs, verbose=0, device="cpu", mode="eval").summary_list
    return [(names[id(info.module)], info) for info in listed]


def _dims(size: list[Any]) -> str:
    return " x ".join(str(n) for n in size[1:]) if size else ""


def multiply_adds(layer: nn.Module, inputs: list[int], outputs: list[int]) -> int:
    """MACs of one layer for shapes as torchinfo gives them (batch first).

    >>> multiply_adds(nn.Conv2d(3, 8, 3), [1, 3, 10, 10], [1, 8, 8, 8])
    13824
    """
    matrices = sum(p.numel() for n, p in layer.named_parameters() if p.dim() >= 2)
    match layer:
        case nn.Conv2d():
            positions = outputs[-1] * outputs[-2]
        case nn.LSTM():
            positions = inputs[1]  # time steps, batch first
        case _:
            positions = int(torch.Size(outputs[1:-1]).numel())
    return matrices * positions
