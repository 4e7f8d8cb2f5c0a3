"""Tensors as the bytes of a file and back: little-endian, flat, checked."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.tensor import codes
from engine.tensor.codes import floats as float_coder
from engine.types import FormatError, Section

RAW = "raw"  # floats of 4 bytes each, little-endian
FLOATS = (RAW, float_coder.NAME)  # the coders of floats


def numbers(tensor: Tensor) -> NDArray[Any]:
    """A tensor's numbers, flat, in the file's byte order (little-endian)."""
    flat = tensor.detach().contiguous().numpy().reshape(-1)
    return np.ascontiguousarray(flat, flat.dtype.newbyteorder("<"))


def raw(values: NDArray[Any]) -> memoryview:
    """The bytes of an array, not copied."""
    return values.view(np.uint8).data


def write_floats(part: str, values: NDArray[Any]) -> Section:
    """The section of 32-bit floats (n,): coded where that is shorter than 4 bytes each."""
    coded = float_coder.encode(values)
    return (part, float_coder.NAME, coded) if len(coded) < values.nbytes else (part, RAW, raw(values))


def least_of_floats(values: NDArray[Any]) -> int:
    """Bytes of `write_floats` at least."""
    return min(float_coder.least(values), values.nbytes)


def read_floats(coding: str, data: bytes, count: int) -> Tensor:
    """`count` 32-bit floats. Raises FormatError where the bytes are not as many, CodeError where damaged."""
    if coding == float_coder.NAME:
        return torch.from_numpy(float_coder.decode(data, count))
    if len(data) != 4 * count:
        raise FormatError(f"{count} 32-bit numbers take {4 * count} bytes, not {len(data)}")
    return torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))


def check_scales(name: str, scale: Tensor) -> None:
    """Raises FormatError where a scale of the parameter `name` is not above 0."""
    if bool((scale <= 0).any()):
        raise FormatError(f"a scale of {name!r} is {float(scale.min()):g}: allowed are numbers above 0")


def integers(values: codes.Ints) -> Tensor:
    """Whole numbers as int32. Raises FormatError for one that does not fit."""
    if len(values) and not -(1 << 31) <= int(values.min()) <= int(values.max()) < 1 << 31:
        raise FormatError("a code in this .slim file does not fit into 32 bits")
    return torch.from_numpy(values.astype(np.int32))


def row_length(shape: tuple[int, ...]) -> int:
    """Numbers in a row of a weight (outputs, everything else).

    >>> row_length((6, 3, 5, 5)), row_length((4,))
    (75, 4)
    """
    return math.prod(shape[1:] or shape)
