"""Which operators of an ONNX graph work on floats, beside the layers that multiply integers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

import onnx
from onnx import TensorProto

from engine.file.onnx_file.integers import CODES, DECODED
from engine.file.onnx_file.running import BETWEEN, INTEGER


def layers_on_integers(optimized: onnx.ModelProto, weights: Collection[str]) -> set[str]:
    """Those of these weights that an operator of the optimized graph multiplies as codes."""
    read = [name for node in optimized.graph.node if node.op_type in INTEGER for name in node.input]
    return {weight for weight in weights if any(name.startswith(weight + CODES) for name in read)}


def float_operators(model: onnx.ModelProto, weights: Collection[str]) -> Counter[str]:
    """Operators that give floats, by kind: not those on constants, nor what reads these weights as codes."""
    typed = onnx.shape_inference.infer_shapes(model)
    known = {each.name: each.type.tensor_type.elem_type for each in typed.graph.value_info}
    known |= {each.name: each.type.tensor_type.elem_type for each in typed.graph.output}
    fixed = {each.name for each in model.graph.initializer}
    found = Counter[str]()
    for node in model.graph.node:
        if fixed.issuperset(name for name in node.input if name):
            fixed.update(node.output)
        elif node.op_type not in BETWEEN and not any(n.partition(DECODED)[0] in weights for n in node.input):
            is_float = known.get(node.output[0]) == TensorProto.FLOAT
            found.update([node.op_type] if is_float else [])
    return found
