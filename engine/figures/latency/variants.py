"""The variants of a model that can be run: what each answers, and its size.

A variant is the same model as a processor meets it: as it is, its linear layers in a sparse format, or
through another runtime.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from engine.figures import count, theory
from engine.figures.latency.sparse import SparseLinear
from engine.file import onnx_file
from engine.file.onnx_file import running
from engine.net import zoo
from engine.net.surgery import replace_layer
from engine.types import Basis, Bundle, Figure

TORCH, ONNX = "PyTorch", "ONNX Runtime"
CSR = "Linear layers in CSR"


@dataclass(frozen=True)
class Variant:
    """What can be run: `answer` gives the outputs (n, classes) to the batch that is timed."""

    name: str
    runtime: str
    answer: Callable[[], Tensor]
    size: Figure


def through_torch(name: str, bundle: Bundle, inputs: Tensor) -> Variant:
    return Variant(name, TORCH, partial(_net(bundle), inputs), theory.dense_file(bundle))


def _net(bundle: Bundle) -> nn.Module:
    """A copy of the net: weights that were read from a file may lie where kernels are slower to load them."""
    return zoo.fork(bundle).eval().requires_grad_(False)


def through_onnx(name: str, bundle: Bundle, inputs: Tensor) -> Variant:
    """All its numbers decoded to 32-bit floats; `engine.figures.onnx_run` times codes."""
    model = onnx_file.write_floats(bundle, inputs)
    size = Figure(
        "ONNX file", len(model), "bytes", Basis.MEASURED, "length of the file that the runtime reads"
    )
    return Variant(name, ONNX, partial(running.answer, running.session(model), inputs), size)


def in_csr(bundle: Bundle, inputs: Tensor) -> Variant:
    net, stored = _net(bundle), sum(4 * math.prod(param.shape) for param in bundle.params.values())
    for name, layer in _linear(net).items():
        stored += theory.csr_bits(layer.weight) // 8 - 4 * layer.weight.numel()
        replace_layer(net, name, SparseLinear(layer))
    how = "linear layers: 8 B a non-zero weight and 4 B a row and one more; all else 4 B a number"
    size = Figure("bytes in memory", stored, "bytes", Basis.COUNTED, how)
    return Variant(CSR, TORCH, partial(net, inputs), size)


def _linear(net: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}


def linear_share(bundle: Bundle) -> float:
    """Share of all weights that lie in linear layers, for which PyTorch has a sparse kernel."""
    total = sum(weight.numel() for _, weight in count.weights(bundle))
    return sum(layer.weight.numel() for layer in _linear(zoo.skeleton(bundle.arch)).values()) / total


def largest_linear(bundle: Bundle) -> tuple[str, Tensor]:
    """(name, weight) of the linear layer with the most weights."""
    layers = _linear(zoo.build(bundle))
    name = max(layers, key=lambda name: layers[name].weight.numel())
    return name, layers[name].weight
