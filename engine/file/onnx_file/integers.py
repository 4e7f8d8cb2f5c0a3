"""Weights on affine grids in an ONNX graph: the 8-bit codes that they are, multiplied as such where possible.

A layer multiplies integers in ONNX Runtime where its input, its weights and, of a convolution, its output are
codes. Everywhere else codes are turned into floats once, when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import TensorProto, helper

from engine.file.onnx_file.graph import Graph, Node
from engine.file.onnx_file.weights import Floats, Integers, Weight, over, weight_of
from engine.types import Param

CODES, DECODED = " codes", " decoded"  # behind a weight's name
LARGEST = 2**31 - 1
NO_CODES = "its weights are not codes of at most 8 bits with one scale, or one for each output"
FLOAT_INPUT = "nothing rounds what enters it to a fixed grid of at most 8 bits"
FLOAT_OUTPUT = (
    "its output is not rounded next (it goes into a sum or an average, say), and ONNX Runtime's convolution "
    "of codes gives codes"
)
FAR_ZEROS = "zero points of its channels lie too far apart for one that all share"
LARGE_BIAS = "its bias does not fit 32 bits on the grid of its products"


def store_codes(
    graph: Graph, params: Mapping[str, Param], unsigned: bool, with_kernels: bool = True
) -> tuple[list[str], dict[str, str]]:
    """Put weights as codes; (names of those that are multiplied as integers, why others are not).

    Without `with_kernels`, also where ONNX Runtime has no kernel for it.
    """
    integers, floats = dict[str, None](), dict[str, str]()
    for node in [node for node in graph.nodes if node.op_type in ("Conv", "Gemm", "MatMul")]:
        name = name_of_weight(graph, node)
        if name not in params:
            continue
        weight = weight_of(name, params[name])
        why = NO_CODES if weight is None else _as_integers(graph, node, weight, unsigned, with_kernels)
        if why:
            floats[name] = why
            _plain_input(graph, node)
        else:
            integers[name] = None
    for name in list(graph.constants):
        # A weight that several layers share may be both.
        weight = weight_of(name, params.get(name))
        if weight is not None and graph.readers(name):
            _decoded_at_load(graph, weight)
    return list(integers), {name: why for name, why in floats.items() if name not in integers}


def name_of_weight(graph: Graph, node: Node) -> str:
    """The constant that a layer multiplies with; a product of matrices reads it transposed."""
    turned = graph.producer(node.input[1])
    if node.op_type == "MatMul" and turned is not None and turned.op_type == "Transpose":
        return str(turned.input[0])
    return str(node.input[1])


def _as_integers(graph: Graph, node: Node, weight: Weight, unsigned: bool, with_kernels: bool) -> str:
    """Let a layer read its weights and bias as codes; why not, where it can't."""
    inputs = graph.producer(node.input[0])
    if inputs is None or inputs.op_type != "DequantizeLinear":
        return FLOAT_INPUT
    normal = graph.only_reader(node.output[0])
    if normal is not None and normal.op_type != "BatchNormalization":
        normal = None
    behind = graph.only_reader((normal or node).output[0])
    is_conv = node.op_type == "Conv" and with_kernels
    if is_conv and (behind is None or behind.op_type != "QuantizeLinear"):
        return FLOAT_OUTPUT
    has_bias = len(node.input) > 2
    bias: Floats = np.zeros(len(weight.steps))
    if has_bias:
        bias = graph.constants[node.input[2]].astype(np.float64)
    if normal is not None and node.op_type != "MatMul":
        weight, bias = _folded(graph, normal, weight, bias)
    else:
        normal = None
    weight = weight.spread()
    coded = weight.coded(unsigned, per_output=not is_conv)
    if coded is None:
        return FAR_ZEROS
    step = (graph.constants[inputs.input[1]] * weight.scale).astype(np.float32)
    whole = np.rint(bias / step.astype(np.float64))
    if np.abs(whole).max(initial=0) > LARGEST:
        return LARGE_BIAS
    if normal is not None:
        graph.remove(normal)
    codes, zero = coded
    axis = 0
    if node.op_type == "MatMul":
        codes, axis = codes.T, 1
    else:
        node.input[2:] = [_pair(graph, f"{weight.name} bias", whole.astype(np.int32), step, None, 0)]
    node.input[1] = _pair(graph, weight.name, codes, weight.scale, zero, axis)
    return ""


def _plain_input(graph: Graph, node: Node) -> None:
    """Turn the codes that a layer on floats reads into floats by plain arithmetic.

    Behind a DequantizeLinear, ONNX Runtime would round the layer's weights on a grid of its own choice.
    """
    pair = graph.producer(node.input[0])
    if pair is None or pair.op_type != "DequantizeLinear":
        return
    codes, scale, zero = pair.input
    name = f"{node.output[0]} input"
    graph.add("Cast", [codes], f"{name} cast", to=TensorProto.FLOAT)
    point = graph.constant(f"{name} point", graph.constants[zero].astype(np.float32))
    graph.add("Sub", [f"{name} cast", point], f"{name} steps")
    graph.add("Mul", [f"{name} steps", scale], name)
    node.input[0] = name


def _folded(graph: Graph, normal: Node, weight: Weight, bias: Floats) -> tuple[Weight, Floats]:
    """Batch-norm in the scales and the bias of the layer before it: codes change at most their sign."""
    gain, shift, mean, variance = (graph.constants[name].astype(np.float64) for name in normal.input[1:5])
    epsilon = next((helper.get_attribute_value(a) for a in normal.attribute if a.name == "epsilon"), 1e-5)
    factor = gain / np.sqrt(variance + epsilon)
    steps = weight.steps * over(np.sign(factor).astype(weight.steps.dtype), weight.steps.ndim)
    scale = np.where(factor == 0, 1.0, weight.scale * np.abs(factor)).astype(np.float32)
    return Weight(weight.name, steps, scale), shift + (bias - mean) * factor


def _pair(graph: Graph, name: str, codes: Integers, scale: Floats, zero: Integers | None, axis: int) -> str:
    """A constant behind a DequantizeLinear; the name of what comes out."""
    uses = sum(each.startswith(name + CODES) for each in graph.constants)  # several layers may share it
    own = f" {uses}" if uses else ""
    inputs = [graph.constant(name + CODES + own, codes), graph.constant(f"{name} scale{own}", scale)]
    if zero is not None:
        whole = np.broadcast_to(zero, scale.shape)
        inputs.append(graph.constant(f"{name} zero{own}", np.array(whole)))
    along = {"axis": axis} if scale.ndim else {}
    graph.add("DequantizeLinear", inputs, name + DECODED + own, **along)
    return name + DECODED + own


def _decoded_at_load(graph: Graph, weight: Weight) -> None:
    """A weight as codes and what turns them into floats: plain arithmetic, which a runtime does once."""
    coded = weight.coded(False, per_output=True)
    if coded is None:
        return
    codes, zero = coded
    name, dims = weight.name, weight.steps.ndim
    value, out = graph.constant(f"{name}{CODES} at rest", codes), f"{name} value"
    graph.rename(name, out)
    graph.add("Cast", [value], f"{name} cast", to=TensorProto.FLOAT)
    value = f"{name} cast"
    if zero.any():
        point = graph.constant(f"{name} point", over(zero.astype(np.float32), dims))
        graph.add("Sub", [value, point], f"{name} steps")
        value = f"{name} steps"
    graph.add("Mul", [value, graph.constant(f"{name} each", over(weight.scale, dims))], out)
