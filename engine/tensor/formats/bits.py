"""Bits that a tensor's numbers take under simple codings; what several formats count alike."""

from __future__ import annotations

from torch import Tensor

from engine.tensor import codes

FLOAT = 32  # bits of a stored real number


def whole_bytes(bits: int) -> int:
    """The bits of as many whole bytes as are needed."""
    return -(-bits // 8) * 8


def bitmask_bits(weight: Tensor) -> int:
    """One bit a weight, up to whole bytes, and 32 a non-zero one.

    >>> import torch
    >>> bitmask_bits(torch.tensor([[0.0, 1.0, 0.0]]))
    40
    """
    return whole_bytes(weight.numel()) + FLOAT * int((weight != 0).sum())


def huffman_stream_bits(symbols: Tensor, width: int) -> int:
    """A stream of codes under Huffman, and width + 8 bits of table for each symbol that occurs."""
    counts = codes.counted(symbols.reshape(-1).numpy()).counts
    body = int((counts * codes.huffman_lengths(counts)).sum())
    return whole_bytes(body) + whole_bytes(len(counts) * (width + 8))
