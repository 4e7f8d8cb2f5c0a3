"""Rounding moved towards the layer that made the numbers, so that what lies between works on codes.

Rounding keeps the order of numbers. So the largest of a window, another shape, and a bound (ReLU) may come
after it as well as before: the codes are the same, and a convolution is followed by its rounding, as
runtimes want it that multiply integers.
"""

from __future__ import annotations

import numpy as np

from engine.file.onnx_file.graph import Graph, Node

MOVES = ("MaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze")
LOWEST, HIGHEST = 0, 255


def round_earlier(graph: Graph) -> None:
    """Move each QuantizeLinear, with the Clip of its codes, up as far as the codes stay the same."""
    for quantizer in [node for node in graph.nodes if node.op_type == "QuantizeLinear"]:
        while maker := _movable(graph, quantizer):
            if maker.op_type in MOVES:
                _swap(graph, maker, quantizer)
            else:
                _bound(graph, quantizer, _bounds(graph, maker))
                graph.nodes.remove(maker)
                quantizer.input[0] = maker.input[0]
        clip = graph.only_reader(quantizer.output[0])
        if clip is not None and clip.op_type == "Clip" and _ends(graph, clip) == [LOWEST, HIGHEST]:
            graph.remove(clip)


def _movable(graph: Graph, quantizer: Node) -> Node | None:
    """The node before a quantizer, where the two may change places."""
    maker = graph.producer(quantizer.input[0])
    if maker is None or graph.only_reader(quantizer.input[0]) is not quantizer or len(maker.output) != 1:
        return None
    is_bound = maker.op_type == "Relu" or (
        maker.op_type == "Clip" and all(name in graph.constants for name in maker.input[1:] if name)
    )
    return maker if is_bound or maker.op_type in MOVES else None


def _swap(graph: Graph, maker: Node, quantizer: Node) -> None:
    last = _clip(graph, quantizer).output[0]
    codes = f"{maker.output[0]} codes"
    graph.rename(last, codes)
    quantizer.input[0], maker.input[0], maker.output[0] = maker.input[0], last, codes


def _clip(graph: Graph, quantizer: Node) -> Node:
    """The bound of its codes behind a quantizer."""
    clip = graph.only_reader(quantizer.output[0])
    assert clip is not None
    return clip


def _ends(graph: Graph, clip: Node) -> list[int]:
    return [int(graph.constants[name]) for name in clip.input[1:3]]


def _bounds(graph: Graph, maker: Node) -> list[float]:
    """The lowest and the highest number that a ReLU or a Clip lets through."""
    if maker.op_type == "Relu":
        return [0.0, np.inf]
    names = [*maker.input[1:], "", ""][:2]
    return [
        float(graph.constants[name]) if name else end
        for name, end in zip(names, (-np.inf, np.inf), strict=True)
    ]


def _bound(graph: Graph, quantizer: Node, bounds: list[float]) -> None:
    """Keep codes between those of two numbers."""
    scale, zero = (graph.constants[name] for name in quantizer.input[1:3])
    clip = _clip(graph, quantizer)
    low, high = (
        int(np.clip(np.rint(np.float32(end) / scale) + int(zero), LOWEST, HIGHEST)) for end in bounds
    )
    before = _ends(graph, clip)
    ends = max(low, before[0]), min(high, before[1])
    for place, (side, end) in enumerate(zip(("low", "high"), ends, strict=True), 1):
        clip.input[place] = graph.constant(f"{clip.output[0]} {side}", np.array(end, np.uint8))
