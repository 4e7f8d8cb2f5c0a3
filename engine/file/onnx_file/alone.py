"""Layers of a model alone, each as an ONNX file of its own: on floats, and on 8-bit codes from end to end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from engine.file.onnx_file import running
from engine.file.onnx_file.graph import Graph, Node
from engine.file.onnx_file.integers import DECODED, name_of_weight
from engine.file.onnx_file.traced import INPUT

READ, GIVEN = "what enters", "what leaves"


@dataclass(frozen=True)
class Alone:
    """A file of one layer, and what enters that layer in its model."""

    data: bytes = field(repr=False)
    inputs: NDArray[Any] = field(repr=False)


def layers_alone(graph: Graph, weights: Sequence[str], inputs: Tensor) -> dict[str, Alone]:
    """Weight -> the layer that multiplies with it, for those of `weights` that one node multiplies once.

    What rounds codes before and behind a layer belongs to it, as a batch-norm behind it does: each file takes
    floats and gives floats. `graph` is one of `onnx_file`, and is not usable afterwards.
    """
    nodes = [node for node in graph.nodes if node.op_type in ("Conv", "Gemm", "MatMul")]
    names = [name_of_weight(graph, node).partition(DECODED)[0] for node in nodes]
    found = {
        name: _chain(graph, node)
        for name, node in zip(names, nodes, strict=True)
        if name in weights and names.count(name) == 1
    }
    opset, version = graph.model.opset_import[0].version, graph.model.ir_version
    constants = dict(graph.constants)
    entering = _values(graph.finish(), [chain.enters for chain in found.values()], inputs)
    return {
        name: Alone(chain.file(constants, opset, version), entering[chain.enters])
        for name, chain in found.items()
    }


@dataclass(frozen=True)
class _Chain:
    """Nodes from a float that enters to a float that leaves."""

    enters: str
    nodes: Sequence[Node]
    leaves: str

    def file(self, constants: Mapping[str, NDArray[Any]], opset: int, version: int) -> bytes:
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in (READ, GIVEN)]
        read = {name for node in self.nodes for name in node.input if name in constants}
        fixed = [numpy_helper.from_array(constants[name], name) for name in sorted(read)]
        model = helper.make_model(
            helper.make_graph(self.nodes, "layer", ends[:1], ends[1:], fixed),
            opset_imports=[helper.make_opsetid("", opset)],
            ir_version=version,
        )
        data: bytes = model.SerializeToString()
        return data


def _chain(graph: Graph, layer: Node) -> _Chain:
    """The layer with what makes its constants, what rounds before and behind it, and its batch-norm."""
    nodes = [node for name in layer.input[1:] for node in _of_constants(graph, name)] + [layer]
    enters, first = layer.input[0], graph.producer(layer.input[0])
    last = layer.output[0]
    behind = graph.only_reader(last)
    if behind is not None and behind.op_type == "BatchNormalization":
        nodes.append(behind)
        last = behind.output[0]
    nodes = [_copied(node, {enters: READ} if not _rounds(first) else {}) for node in nodes]
    if first is not None and _rounds(first):
        scale, zero = first.input[1:]
        nodes = [
            helper.make_node("QuantizeLinear", [READ, scale, zero], [f"{READ} codes"]),
            helper.make_node("DequantizeLinear", [f"{READ} codes", scale, zero], [enters]),
            *nodes,
        ]
    behind = graph.only_reader(last)
    if behind is not None and behind.op_type == "QuantizeLinear":
        scale, zero = behind.input[1:]
        nodes += [
            helper.make_node("QuantizeLinear", [last, scale, zero], [f"{GIVEN} codes"]),
            helper.make_node("DequantizeLinear", [f"{GIVEN} codes", scale, zero], [GIVEN]),
        ]
    else:
        nodes[-1].output[0] = GIVEN
    return _Chain(enters, nodes, GIVEN)


def _rounds(node: Node | None) -> bool:
    return node is not None and node.op_type == "DequantizeLinear"


def _of_constants(graph: Graph, name: str) -> list[Node]:
    """The nodes that make a value of constants, in order."""
    maker = graph.producer(name)
    if maker is None:
        return []
    return [*(node for each in maker.input for node in _of_constants(graph, each)), maker]


def _copied(node: Node, renamed: Mapping[str, str]) -> Node:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [renamed.get(name, name) for name in copy.input]
    return copy


def _values(model: onnx.ModelProto, names: Sequence[str], inputs: Tensor) -> dict[str, NDArray[Any]]:
    """What these values inside of a model are for inputs (n, ...)."""
    wanted = [name for name in dict.fromkeys(names) if name != INPUT]
    given = {INPUT: np.ascontiguousarray(inputs.numpy())}
    if not wanted:
        return given
    del model.graph.output[:]
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in wanted)
    found = running.session(model.SerializeToString()).run(wanted, given)
    return {**given, **dict(zip(wanted, found, strict=True))}
