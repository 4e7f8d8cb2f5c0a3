"""Counted figures: exact, read off the tensors. Nothing is estimated or timed here.

A MAC is one multiply-add at batch 1 (fvcore's convention); biases, batch-norm and
activations are not counted, and zeros count as weights: a zero is multiplied like any other.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torchinfo import summary

from engine import zoo
from engine.surgery import weight_layers
from engine.types import Arch, Basis, Bundle, Figure

INPUT_SHAPES = {"mnist": (1, 1, 28, 28), "cifar10": (1, 3, 32, 32)}


def parameters(bundle: Bundle) -> Figure:
    """Trainable parameters: weights, biases and batch-norm's scale and shift (not its statistics)."""
    total = sum(_elements(bundle, n) for n in bundle.params if not _is_statistic(n))
    return Figure("parameters", total, "parameters", Basis.COUNTED, "elements of all trained tensors")


def _elements(bundle: Bundle, name: str) -> int:
    return int(torch.Size(bundle.params[name].shape).numel())


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var")) or ".input_quantizer." in name


def nonzeros(bundle: Bundle) -> Figure:
    """Weights that are not exactly zero, over all prunable weights (matrices and kernels)."""
    kept = sum(int(tensor.count_nonzero()) for _, tensor in weights(bundle))
    return Figure("non-zero weights", kept, "weights", Basis.COUNTED, "elements != 0 of all weight matrices")


def sparsity(bundle: Bundle) -> Figure:
    """Zeros over prunable weights, 0..1."""
    total = sum(_elements(bundle, name) for name in weight_layers(bundle).values())
    zeros = total - int(nonzeros(bundle).value)
    return Figure(
        "sparsity", zeros / max(total, 1), "share", Basis.COUNTED, "zeros / weights; biases left out"
    )


def weights(bundle: Bundle) -> list[tuple[str, Tensor]]:
    """(layer label, decoded weight) of every prunable layer, in the order of the net."""
    return [(label, bundle.params[name].decode()) for label, name in weight_layers(bundle).items()]


def macs(bundle: Bundle) -> Figure:
    """Multiply-adds for one input. Raises SlimscopeError where the architecture is unknown."""
    total = int(layer_macs(bundle)["macs"].sum())
    return Figure(
        "multiply-adds", total, "MAC", Basis.COUNTED, "weights x positions where they are used, batch 1"
    )


def layer_macs(bundle: Bundle) -> pd.DataFrame:
    """One row per layer that multiplies: layer, type, input, output, macs (batch 1).

    Shapes come from torchinfo, which sends one random input through the net, once for each architecture.
    """
    return _layer_macs(bundle.arch.key).copy()


@functools.lru_cache(maxsize=256)  # a slider comes back to its stops; a table takes about 10 KB
def _layer_macs(key: str) -> pd.DataFrame:
    arch = Arch.from_key(key)
    net = zoo.skeleton(arch).to_empty(device="cpu").eval()
    shape = INPUT_SHAPES[zoo.entry(arch.name).data]
    rows = [
        {
            "layer": name,
            "type": info.class_name,
            "input": _dims(info.input_size),
            "output": _dims(info.output_size),
            "macs": multiply_adds(info.module, info.input_size, info.output_size),
        }
        for name, info in _walk(net, shape)
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


def _walk(net: nn.Module, shape: tuple[int, ...]) -> list[tuple[str, Any]]:
    names = {id(module): name for name, module in net.named_modules()}
    with torch.random.fork_rng(devices=[]):
        listed = summary(net, input_size=shape, verbose=0, device="cpu", mode="eval").summary_list
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
