"""Compact designs of a convolution: which channels they connect, what they cost, and how they are fitted."""

from engine.tensor.compact.fitting import Factors, Moments, error, refitted, start
from engine.tensor.compact.wiring import (
    NAMES,
    Design,
    channel_order,
    macs,
    reached,
    shuffled,
    stages,
    weights,
    why_not,
)

__all__ = [
    "NAMES",
    "Design",
    "Factors",
    "Moments",
    "channel_order",
    "error",
    "macs",
    "reached",
    "refitted",
    "shuffled",
    "stages",
    "start",
    "weights",
    "why_not",
]
