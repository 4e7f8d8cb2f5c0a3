"""What nodes of an ONNX graph say of themselves, as torch's exporter writes them, and pooling by it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from onnx import helper
from torch import Tensor
from torch.nn import functional as F

from engine.figures.integer_only.values import refused
from engine.file.onnx_file.graph import Node

DEFAULTS: Mapping[str, Any] = {"group": 1, "axis": 1, "keepdims": 1, "ceil_mode": 0, "mode": None}


def said(node: Node, name: str) -> Any:
    """An attribute of a node as torch's exporter writes it, or what the standard says where there is none."""
    known = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    if name in known or name in DEFAULTS:
        return known.get(name, DEFAULTS.get(name))
    sides = len(known["kernel_shape"])
    return [0] * (2 * sides) if name == "pads" else [1] * sides


def padding(node: Node, title: str) -> list[int]:
    """Places added at either end of each axis. Raises SlimscopeError where the ends differ."""
    pads = said(node, "pads")
    half = len(pads) // 2
    if pads[:half] != pads[half:]:
        raise refused(title, "more padding on one side than on the other")
    return list(pads[:half])


def largest_of_windows(node: Node, values: Tensor, title: str) -> Tensor:
    """Integers (n, channels, ...), as a MaxPool takes them."""
    pool: Any = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[values.dim() - 3]
    over = (said(node, "strides"), padding(node, title), said(node, "dilations"))
    found: Tensor = pool(values.double(), said(node, "kernel_shape"), *over, bool(said(node, "ceil_mode")))
    return found.long()
