"""Uniform grids: rounding weights to `scale * (code - zero)`, and what that costs.

Tensors in, tensors out. A weight that is exactly zero decodes to exactly zero in every scheme, so
that masks survive. Rounding is half to even, as in torch and IEEE 754. Which layers of which net
are rounded is not known here.
"""

from engine.tensor.grids.errors import (
    Error,
    decibels,
    error,
    error_curve,
    errors_in_steps,
    sum_of_squares,
)
from engine.tensor.grids.learned import first_step, learned, middle
from engine.tensor.grids.rounding import on_range, quantize
from engine.tensor.grids.views import (
    AffineExample,
    affine_example,
    busiest,
    corner,
    levels,
    staircase,
)

__all__ = [
    "AffineExample",
    "Error",
    "affine_example",
    "busiest",
    "corner",
    "decibels",
    "error",
    "error_curve",
    "errors_in_steps",
    "first_step",
    "learned",
    "levels",
    "middle",
    "on_range",
    "quantize",
    "staircase",
    "sum_of_squares",
]
