"""Modelled figures: what formulas say about size and speed under stated assumptions.

The ledger sets them beside the files that were really written (`engine.file.packfile`). Nothing here
runs a net or times anything. Bytes are bytes; KB = 1000 B.
"""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Mapping

import torch
from safetensors.torch import save
from torch import Tensor

from engine.file import packfile
from engine.tensor import codes
from engine.tensor.formats.bits import FLOAT, bitmask_bits, whole_bytes
from engine.types import Basis, Bundle, Figure

REST = "biases, batch-norm and all else with 4 B a number; no header"


def ledger(bundle: Bundle) -> list[Figure]:
    """The size of a net in every currency, in reading order: from the original's file to its own.

    All in bytes. Measured rows are lengths of files that were made; modelled rows are
    formulas over the same tensors, each with biases and batch-norm in it.
    """
    state, params = bundle.decoded(), bundle.params.values()
    dense, origin = _dense(state), _dense(bundle.origin.decoded())
    return [
        _measured("dense file of the original", len(origin), "safetensors, 4 B a number"),
        _measured("dense file", len(dense), "this model, decoded, as safetensors: 4 B a number, zeros too"),
        _measured("gzip of the dense file", len(gzip.compress(dense, 6, mtime=0)), "gzip level 6"),
        _decoded("bitmask + values", state, bitmask_bits, "1 bit a weight + 4 B a non-zero weight"),
        _decoded(
            "CSR",
            state,
            csr_bits,
            "(4 B value + 4 B int32 column) a non-zero weight + 4 B int32 pointer a row and one more",
        ),
        _decoded(
            "zero rows and columns cut out",
            state,
            cut_bits,
            "4 B x kept rows x kept columns, each layer by itself: outputs and inputs whose weights are all "
            "zero go, zeros elsewhere stay; whether the neighbouring layers allow it is not checked",
        ),
        _stored(
            "packed bits + scales",
            sum(param.fixed_bits() for param in params),
            "bits of the grid x weights, up to whole bytes for each tensor, + 4 B a scale + the bits of the "
            "grid a zero point where any is not 0; a shared-value tensor: ceil(log2 k) bits an index + 4 B a "
            "value; a product codebook: ceil(log2 k) bits a sub-vector + 4 B a number of its table + 1 bit a "
            "weight where any is zero; other tensors 4 B a number",
        ),
        _decoded(
            "codebook + indices",
            state,
            codebook_bits,
            "4 B for each of the k different values of a tensor + ceil(log2 k) bits a weight, up to whole "
            "bytes; 4 B a weight where that is less",
        ),
        _stored(
            "Huffman",
            sum(param.huffman_bits() for param in params),
            "each code at the length of its Huffman code + for each used symbol its fixed-width name and "
            "1 B of length, + scales, zero points and values as in packed bits; a tensor of floats as the "
            "smaller of 4 B a number and bitmask + values",
        ),
        entropy_bound(bundle),
        packfile.size(bundle),
    ]


def entropy_bound(bundle: Bundle) -> Figure:
    """What the best order-0 coder of the .slim file's symbol streams takes at least (Shannon 1948).

    For each tensor the stream with the smallest entropy among those that the file may hold;
    floats are taken as 32 bits. The file itself may be smaller: its context coder also learns from a
    weight's row, column and neighbours, and signs, exponents and first bits of floats are coded too.
    """
    how = (
        "sum of -log2 of each symbol's own frequency in its stream (codes, zero points, positions or gaps) "
        "+ 32 bits a scale, table value and float; left out: names, shapes, frequency tables; the file may "
        "take less, as its coders also look at rows, columns and neighbours and shorten floats"
    )
    bits = sum(param.entropy_bits() for param in bundle.params.values())
    return Figure("order-0 entropy", bits / 8, "B", Basis.MODELLED, f"{how}; {REST}")


# ---------------------------------------------------------------- figures


def _measured(name: str, length: int, how: str) -> Figure:
    return Figure(name, length, "B", Basis.MEASURED, f"length of the serialised file: {how}")


def dense_file(bundle: Bundle) -> Figure:
    """Bytes of the net as a dense 32-bit safetensors file, without making it.

    >>> from engine.tensor.formats import Dense
    >>> from engine.types import Arch
    >>> dense_file(Bundle(Arch("bare"), {"w": Dense(torch.zeros(2, 3))})).value
    96
    """
    header, end = {}, 0
    for name, param in sorted(bundle.params.items()):
        start, end = end, end + 4 * math.prod(param.shape)
        header[name] = {"dtype": "F32", "shape": param.shape, "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    how = "4 B a number and the header that safetensors writes"
    return Figure("dense file", 8 + -(-len(text) // 8) * 8 + end, "B", Basis.COUNTED, how)


def _dense(state: Mapping[str, Tensor]) -> bytes:
    return save({name: tensor.contiguous() for name, tensor in state.items()})


def _decoded(name: str, state: dict[str, Tensor], bits: Callable[[Tensor], int], how: str) -> Figure:
    """A formula over the decoded matrices; all else is 32 bits a number."""
    total = sum(bits(tensor) if tensor.dim() >= 2 else FLOAT * tensor.numel() for tensor in state.values())
    return Figure(name, total // 8, "B", Basis.MODELLED, f"{how}; {REST}")


def _stored(name: str, bits: int, how: str) -> Figure:
    """A formula over the parameters as they are stored."""
    return Figure(name, bits // 8, "B", Basis.MODELLED, f"{how}; {REST}")


# ---------------------------------------------------------------- bits of one tensor, decoded


def csr_bits(weight: Tensor) -> int:
    """Compressed sparse rows of (rows, everything else): values, int32 columns, int32 row pointers."""
    return 2 * FLOAT * int((weight != 0).sum()) + FLOAT * (weight.shape[0] + 1)


def cut_bits(weight: Tensor) -> int:
    """What is left of (outputs, inputs, kernel...) without outputs and inputs that are zero throughout."""
    used = (weight != 0).unsqueeze(-1).flatten(2).any(2)  # (outputs, inputs)
    kernel = math.prod(weight.shape[2:])
    return FLOAT * int(used.any(1).sum()) * int(used.any(0).sum()) * kernel


def codebook_bits(weight: Tensor) -> int:
    """A table of the different values and an index for each weight, or the weights if that is less."""
    k = len(torch.unique(weight))
    return min(FLOAT * k + whole_bytes(weight.numel() * codes.width(k)), FLOAT * weight.numel())
