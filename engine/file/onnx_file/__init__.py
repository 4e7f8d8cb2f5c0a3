"""A bundle as an ONNX file: floats, or the 8-bit codes of its own grids between quantize and dequantize."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from engine.file.onnx_file.alone import Alone, layers_alone
from engine.file.onnx_file.earlier import round_earlier
from engine.file.onnx_file.graph import Graph
from engine.file.onnx_file.integers import store_codes
from engine.file.onnx_file.traced import traced
from engine.net.taps import module_of
from engine.tensor.formats import AffineGrid
from engine.types import Bundle, SlimscopeError

LARGEST_FILE = 2**31 - 1  # bytes of a protocol buffer


@dataclass(frozen=True)
class OnnxFile:
    """The bytes of a file; weights whose layers are to multiply integers, and why others don't.

    Keys are names of weights; there are none where nothing in the bundle is rounded.
    """

    data: bytes = field(repr=False)
    integers: tuple[str, ...] = ()
    floats: Mapping[str, str] = field(default_factory=dict)


def write(bundle: Bundle, inputs: Tensor, *, unsigned: bool = False, about: str = "") -> OnnxFile:
    """A bundle as a file for batches of any length; `inputs` (n, ...) are an example.

    What the file says `about` itself is for people who read it elsewhere.

    Scales and zero points are the bundle's own; nothing is calibrated. With `unsigned`, weights are
    unsigned codes as well, which no processor adds up wrongly. Raises SlimscopeError for a bundle that
    does not run, or that torch's exporter does not know how to write.
    """
    graph = _graph(bundle, inputs, coded=True)
    round_earlier(graph)
    integers, floats = store_codes(graph, bundle.params, unsigned)
    rounds = any(verb == "quantize_input" for verb, _ in bundle.arch.edits)
    told = {
        name: why for name, why in floats.items() if rounds or isinstance(bundle.params[name], AffineGrid)
    }
    return OnnxFile(_bytes(graph, about), tuple(integers), told)


def codes_only(bundle: Bundle, inputs: Tensor) -> tuple[Graph, dict[str, str]]:
    """The graph of `write` before it is a file, in codes also where ONNX Runtime has no kernel for them.

    With it, weights whose layers can't multiply integers at all, and why.
    """
    graph = _graph(bundle, inputs, coded=True)
    round_earlier(graph)
    return graph, store_codes(graph, bundle.params, False, with_kernels=False)[1]


def write_floats(bundle: Bundle, inputs: Tensor) -> bytes:
    """As `write`, with every number decoded to a 32-bit float, and all arithmetic on floats."""
    return _bytes(_graph(bundle, inputs, coded=False))


def alone(
    bundle: Bundle, inputs: Tensor, weights: Sequence[str], *, coded: bool, unsigned: bool = False
) -> dict[str, Alone]:
    """Weight -> its layer alone, from the graph of `write` where it is `coded`, else of `write_floats`.

    Left out are weights that are read in another way than once, by a convolution or a product of matrices.
    """
    graph = _graph(bundle, inputs, coded)
    if coded:
        round_earlier(graph)
        store_codes(graph, bundle.params, unsigned)
    return layers_alone(graph, weights, inputs)


def _graph(bundle: Bundle, inputs: Tensor, coded: bool) -> Graph:
    if sum(4 * math.prod(param.shape) for param in bundle.params.values()) > LARGEST_FILE:
        raise SlimscopeError(f"{bundle.arch.title} has more numbers than an ONNX file of 2 GiB holds")
    graph = Graph(traced(bundle, inputs, coded))
    graph.fold(bundle.params)
    return graph


def _bytes(graph: Graph, about: str = "") -> bytes:
    model = graph.finish()
    model.producer_name, model.doc_string = "slimscope", about
    data: bytes = model.SerializeToString()
    return data


def layer_of(weight: str) -> str:
    """The layer that a weight belongs to, as people read it.

    >>> layer_of("fc1.weight")
    'fc1'
    """
    return module_of(weight) or weight
