"""Calibration: which values a grid should span, for weights and for activations alike.

Rows of values in, the ends of a range for each row out. What is rounded, and how, is not known here.
"""

from engine.tensor.calibrate.average import moving_average
from engine.tensor.calibrate.entropy import divergences, entropy_clip
from engine.tensor.calibrate.least_error import FRACTIONS
from engine.tensor.calibrate.ranges import BY_BITS, METHODS, span

__all__ = [
    "BY_BITS",
    "FRACTIONS",
    "METHODS",
    "divergences",
    "entropy_clip",
    "moving_average",
    "span",
]
