"""A model of 8-bit weights and inputs, run on integers alone: the nodes of its graph, one by one.

What a layer multiplies are codes; what it gives are 32-bit sums. These become codes of the next layer by
one fixed-point multiplication for each output. Bounds and the largest of a window work on codes, averages
on sums. Only the last sums become floats, as the model's answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from engine.figures.integer_only.nodes import largest_of_windows, padding, said
from engine.figures.integer_only.values import TOP, Codes, Sums, added, averaged, on_one_scale, refused
from engine.file import onnx_file
from engine.file.onnx_file.graph import Graph, Node
from engine.file.onnx_file.integers import DECODED
from engine.file.onnx_file.traced import INPUT
from engine.tensor import fixed_point
from engine.types import Bundle, SlimscopeError

ON_SUMS = ("Relu", "Add", "Slice", "Pad", "GlobalAveragePool", "ReduceMean")  # codes are sums, too
# Kinds that are refused before anything is run, by the operator that they have.
REFUSED = {
    **{name: f"a recurrent layer ({name})" for name in ("LSTM", "GRU", "RNN")},
    "Softmax": "a softmax, as attention has",
}


@dataclass(eq=False)
class Program:
    """A model as nodes to be run. After a run, `largest` is how far from zero the sums of a layer may lie."""

    title: str
    graph: Graph
    nodes: list[Node]
    largest: dict[str, int] = field(default_factory=dict)

    def run(
        self, inputs: Tensor, given: Mapping[str, Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Outputs (n, ...) as floats, and the codes that enter each layer.

        `given` codes enter their layers in place of those that were made for them. Raises SlimscopeError
        for what is not done on integers here.
        """
        values: dict[str, Any] = {INPUT: inputs}
        seen: dict[str, Tensor] = {}
        for node in self.nodes:
            x = values.get(node.input[0])
            if node.op_type in ("Conv", "Gemm") and isinstance(x, Codes):
                layer = _layer_of(node)
                if layer in seen:
                    raise SlimscopeError(f"layer {layer!r} is called twice: that is not run on integers here")
                seen[layer] = x.values
                values[node.output[0]] = self._multiplied(node, x if given is None else x.over(given[layer]))
            else:
                values[node.output[0]] = self._passed(node, x, [values.get(name) for name in node.input[1:]])
        (name,) = self.graph.outputs
        if not isinstance(last := values[name], Sums):
            raise SlimscopeError(
                f"{self.title} ends in no layer with weights: it is not run on integers here"
            )
        return (last.values * last.each()).float(), seen

    def _multiplied(self, node: Node, x: Codes) -> Sums:
        weight, scale = self._constant(node.input[1])
        bias, _ = self._constant(node.input[2])
        layer, centred = _layer_of(node), x.values - x.zero
        reach = fixed_point.largest_sum(weight, bias, max(x.zero, TOP - x.zero))
        self.largest[layer] = reach
        if node.op_type == "Gemm":
            sums = fixed_point.linear_sums(centred, weight, bias)
        else:
            over = (said(node, "strides"), padding(node, self.title), said(node, "dilations"))
            sums = fixed_point.convolution_sums(centred, weight, bias, *over, said(node, "group"))
        return Sums(sums, x.scale * scale, layer, reach)

    def _constant(self, name: str) -> tuple[Tensor, Tensor]:
        """(codes - zero points, scales) of weights or biases."""
        pair = self.graph.producer(name)
        assert pair is not None
        codes, scale, *zero = (torch.tensor(self.graph.constants[each]) for each in pair.input)
        steps = codes.long()
        if zero:
            steps = steps - zero[0].long().view(-1, *[1] * (codes.dim() - 1))
        return steps, scale.double()

    def _grid(self, node: Node) -> tuple[Tensor, int]:
        scale, zero = (self.graph.constants[name] for name in node.input[1:3])
        return torch.tensor(float(scale), dtype=torch.float64), int(zero)

    def _passed(self, node: Node, x: Any, others: Sequence[Any]) -> Codes | Sums:
        """What any other node gives for codes, for sums, or for the model's inputs."""
        if node.op_type in ON_SUMS:
            x, *others = (each.sums() if isinstance(each, Codes) else each for each in (x, *others))
        match x, node.op_type:
            case Tensor(), "QuantizeLinear":
                scale, zero = self._grid(node)
                codes = torch.round(x / scale.float()).long() + zero
                return Codes(codes.clamp(0, TOP), scale, zero)
            case Sums(), "QuantizeLinear":
                scale, zero = self._grid(node)
                multiplier = fixed_point.fixed_multiplier(x.each() / scale)
                codes = fixed_point.rescaled(x.values, *multiplier) + zero
                return Codes(codes.clamp(0, TOP), scale, zero)
            case Codes(), "DequantizeLinear":
                return x
            case Codes(), "Clip":
                return x.over(x.values.clamp(*(int(self.graph.constants[name]) for name in node.input[1:3])))
            case Codes(), "Flatten":
                return x.over(x.values.flatten(said(node, "axis")))
            case Codes(), "MaxPool":
                return x.over(largest_of_windows(node, x.values, self.title))
            case Sums(), "Relu":
                return replace(x, values=x.values.clamp(min=0))
            case Sums(), "Add" if isinstance(others[0], Sums):
                return added(x, others[0])
            case Sums(), "Slice":
                return replace(x, values=x.values[self._part(node, x.values.dim())])
            case Sums(), "Pad":
                return self._padded(node, on_one_scale(x))
            case Sums(), "GlobalAveragePool":
                return averaged(x, range(2, x.values.dim()), keep=True)
            case Sums(), "ReduceMean":
                return averaged(x, said(node, "axes"), keep=bool(said(node, "keepdims")))
        raise refused(self.title, node.op_type, x.layer if isinstance(x, Sums) else "")

    def _part(self, node: Node, dims: int) -> tuple[slice, ...]:
        starts, ends, axes, *steps = (self.graph.constants[name].tolist() for name in node.input[1:])
        part = [slice(None)] * dims
        for axis, start, end, step in zip(axes, starts, ends, *(steps or [[1] * len(axes)]), strict=True):
            if axis % dims < 2 or step < 1:
                raise refused(self.title, "Slice")
            part[axis] = slice(start, end, step)
        return tuple(part)

    def _padded(self, node: Node, x: Sums) -> Sums:
        """Zeros beside the sums."""
        fill = [self.graph.constants[name] for name in node.input[2:3] if name]
        before, after = self.graph.constants[node.input[1]].reshape(2, -1).tolist()
        if any(float(value) for value in fill) or said(node, "mode") not in (b"constant", None):
            raise refused(self.title, "Pad")
        sides = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
        return replace(x, values=F.pad(x.values, sides))


def compiled(bundle: Bundle, inputs: Tensor) -> Program:
    """The program of a bundle; `inputs` (n, ...) are an example.

    Raises SlimscopeError where the weights or the inputs of a layer are no codes of at most 8 bits.
    """
    graph, floats = onnx_file.codes_only(bundle, inputs)
    for kind in (node.op_type for node in graph.nodes if node.op_type in REFUSED):
        raise refused(bundle.arch.title, REFUSED[kind])
    for name, why in floats.items():
        raise SlimscopeError(
            f"layer {onnx_file.layer_of(name)!r} is not run on integers: {why}. Weights must be in 8 bits or "
            "fewer, and activations, too, with fixed (static) ranges"
        )
    # What reads constants alone is weights, which layers look up.
    nodes = [
        node for node in graph.ordered() if any(name not in graph.constants for name in node.input if name)
    ]
    return Program(bundle.arch.title, graph, nodes)


def _layer_of(node: Node) -> str:
    return onnx_file.layer_of(node.input[1].partition(DECODED)[0])
