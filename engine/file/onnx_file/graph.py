"""An ONNX graph that can be edited: who makes a value, who reads it, and which values are constant."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

Node = onnx.NodeProto
SMALL = 64  # numbers of a constant that is worked out beforehand


class Graph:
    """The graph of a model, edited in place; nodes are put in order again by `finish`.

    >>> node = helper.make_node("Relu", ["x"], ["y"])
    >>> ends = [helper.make_tensor_value_info(name, 1, [2]) for name in "xy"]
    >>> graph = Graph(helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:])))
    >>> graph.producer("y").op_type, graph.only_reader("y")
    ('Relu', None)
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[Node] = list(model.graph.node)
        self.constants = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        for node in [node for node in self.nodes if node.op_type == "Constant"]:
            value = {each.name: each for each in node.attribute}.get("value")
            if value is not None:  # not a list or a text
                self.constants[node.output[0]] = numpy_helper.to_array(value.t)
                self.nodes.remove(node)
        for node in [node for node in self.nodes if node.op_type == "Identity"]:
            if node.output[0] not in self.outputs and node.input[0] in self.constants:
                self.remove(node)

    @property
    def outputs(self) -> set[str]:
        return {each.name for each in self.model.graph.output}

    def producer(self, value: str) -> Node | None:
        """The node that makes a value; None for inputs and constants."""
        return next((node for node in self.nodes if value in node.output), None)

    def readers(self, value: str) -> list[Node]:
        return [node for node in self.nodes if value in _reads(node)]

    def only_reader(self, value: str) -> Node | None:
        """The node that alone reads a value; None where there are several, or it is an output."""
        found = self.readers(value)
        return found[0] if len(found) == 1 and value not in self.outputs else None

    def _is_read(self, value: str) -> bool:
        return value in self.outputs or bool(self.readers(value))

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> Node:
        node = helper.make_node(op, inputs, [output], name=f"{op} {output}", **attributes)
        self.nodes.append(node)
        return node

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = np.ascontiguousarray(value) if value.ndim else value
        return name

    def remove(self, node: Node) -> None:
        """Take out a node that passes on its first input."""
        self.nodes.remove(node)
        maker = self.producer(node.input[0])
        if node.output[0] in self.outputs and maker is not None:  # the name of an output stays
            self.rename(node.input[0], node.output[0])
            maker.output[0] = node.output[0]
        else:
            self.rename(node.output[0], node.input[0])

    def rename(self, old: str, new: str) -> None:
        """Let all that read `old` read `new`."""
        for node in self.readers(old):
            _rename(node, old, new)

    def fold(self, weights: Collection[str]) -> None:
        """Work out what depends on small constants alone, such as shapes; weights stay under their names."""
        small = {
            name for name, value in self.constants.items() if value.size <= SMALL and name not in weights
        }
        for node in self.ordered():
            if node.input and small.issuperset(_reads(node)) and node.output[0] not in self.outputs:
                run = ReferenceEvaluator(node, opsets={"": self.model.opset_import[0].version})
                given = {name: self.constants[name] for name in node.input}
                for name, value in zip(node.output, run.run(None, given), strict=True):
                    small.add(self.constant(name, np.asarray(value)))
                self.nodes.remove(node)

    def ordered(self) -> list[Node]:
        """The nodes, each behind those that it reads."""
        ready = {each.name for each in self.model.graph.input} | set(self.constants) | {""}
        waiting, ordered = list(self.nodes), list[Node]()
        while waiting:
            later = list[Node]()
            for node in waiting:
                if ready.issuperset(_reads(node) - _made_inside(node)):
                    ordered.append(node)
                    ready.update(node.output)
                else:
                    later.append(node)
            assert len(later) < len(waiting), "the graph has a circle"
            waiting = later
        return ordered

    def finish(self) -> onnx.ModelProto:
        """The model with its nodes in order, and nothing that nobody reads."""
        while unread := [node for node in self.nodes if not any(map(self._is_read, node.output))]:
            for node in unread:
                self.nodes.remove(node)
        ordered = self.ordered()
        del self.model.graph.node[:], self.model.graph.initializer[:], self.model.graph.value_info[:]
        self.model.graph.node.extend(ordered)
        for node in self.model.graph.node:
            node.ClearField("doc_string")  # where in torch's code it came from
        read = {name for node in ordered for name in _reads(node)}
        kept = [
            numpy_helper.from_array(value, name) for name, value in self.constants.items() if name in read
        ]
        self.model.graph.initializer.extend(kept)
        return self.model


def _inside(node: Node) -> list[onnx.GraphProto]:
    """The graphs that a node runs, as If and Loop do."""
    return [each.g for each in node.attribute if each.type == onnx.AttributeProto.GRAPH]


def _reads(node: Node) -> set[str]:
    """What a node reads, its inner graphs included."""
    found = set(node.input)
    for graph in _inside(node):
        found |= {name for inner in graph.node for name in _reads(inner)}
        found |= {each.name for each in graph.output}  # it may pass on what is outside
    return found


def _made_inside(node: Node) -> set[str]:
    found = set[str]()
    for graph in _inside(node):
        found |= {each.name for each in (*graph.input, *graph.initializer)}
        for inner in graph.node:
            found |= {*inner.output} | _made_inside(inner)
    return found


def _rename(node: Node, old: str, new: str) -> None:
    node.input[:] = [new if each == old else each for each in node.input]
    for graph in _inside(node):
        for inner in graph.node:
            _rename(inner, old, new)
        for each in graph.output:
            each.name = new if each.name == old else each.name
