"""Pictures of weights: matrices as they are, kernels as tiles, each number a colour of a palette."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Rgb = NDArray[np.uint8]


MOST_PIXELS = 600  # of a side of a picture


def as_picture(weight: Tensor, most: int = MOST_PIXELS) -> NDArray[np.float32]:
    """A weight as a 2-D array: matrices as they are, kernels as tiles (outputs down, inputs across).

    Where a side would pass `most` pixels, every k-th row, column or kernel is in it; a kernel is never cut,
    not even one that is larger by itself.
    """
    values = _in_rows(weight)
    down, across = _strides(values, most)
    values = values[::down, ::across]
    if values.ndim == 2:
        return values
    outputs, inputs, height, width = values.shape
    tiles = np.full((outputs, height + 1, inputs, width + 1), np.nan, np.float32)
    tiles[:, :height, :, :width] = values.transpose(0, 2, 1, 3)
    return tiles.reshape(outputs * (height + 1), inputs * (width + 1))[:-1, :-1]


def strides(weight: Tensor, most: int = MOST_PIXELS) -> tuple[int, int]:
    """Every how many-th row and column (of a matrix, or of kernels) is in its picture."""
    return _strides(_in_rows(weight), most)


def _strides(values: NDArray[np.float32], most: int) -> tuple[int, int]:
    tile = [side + 1 for side in values.shape[2:]] or [1, 1]
    down, across = (
        -(-count // max(1, most // side)) for count, side in zip(values.shape[:2], tile, strict=True)
    )
    return down, across


def _in_rows(weight: Tensor) -> NDArray[np.float32]:
    """A matrix, or kernels (down, across, height, width): where inputs are few they run on as text does."""
    values: NDArray[np.float32] = weight.detach().float().numpy()
    if values.ndim <= 2:
        return np.atleast_2d(values)
    if values.ndim != 4:  # kernels along a line, or in space: each as one row
        values = values.reshape(*values.shape[:2], 1, -1)
    outputs, inputs, height, width = values.shape
    if outputs * height > 3 * inputs * width:  # few inputs: the kernels in rows, as text runs
        across = min(outputs * inputs, max(1, round((outputs * inputs * height / width / 3) ** 0.5)) * 3)
        spare = -(outputs * inputs) % across
        flat = np.concatenate(
            [values.reshape(-1, 1, height, width), np.full((spare, 1, height, width), np.nan)]
        )
        values = flat.reshape(-1, across, height, width)
    return values


def _ramp(low: str, high: str, steps: int) -> Rgb:
    """`steps` colours from low to high, ends included: (steps, 3)."""
    ends = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in (low, high)], np.float32)
    return (ends[0] + np.linspace(0, 1, steps)[:, None] * (ends[1] - ends[0])).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """Colour numbers (h, w) uint8 and what they mean (n, 3): a fraction of the bytes of full colour."""

    numbers: NDArray[np.uint8]
    palette: Rgb


GAP = (128, 128, 128)
KEPT_COLOURS = np.concatenate([[(250, 214, 184), GAP], _ramp("#a8d4f0", "#08457a", 14)]).astype(np.uint8)
SIGNED_COLOURS = np.concatenate(
    [_ramp("#b35806", "#ffffff", 32)[:-1], _ramp("#ffffff", "#08519c", 32), [GAP]]
).astype(np.uint8)


def kept_map(weight: Tensor, most: int = MOST_PIXELS) -> Picture:
    """Kept weights in blue, the stronger the darker; removed ones in pale orange; gaps in grey."""
    picture = as_picture(weight, most)
    strength = np.abs(picture)
    top = float(np.nanmax(strength)) or 1.0
    with np.errstate(invalid="ignore"):
        numbers = np.where(picture == 0, 0, 2 + np.nan_to_num(np.sqrt(strength / top)) * 13)
    numbers[np.isnan(picture)] = 1
    return Picture(numbers.astype(np.uint8), KEPT_COLOURS)


def signed_map(weight: Tensor, reach: float, most: int = MOST_PIXELS) -> Picture:
    """Values from -reach to reach: orange below zero, white at zero, blue above; gaps in grey."""
    picture = as_picture(weight, most)
    numbers = np.rint(31 + 31 * np.clip(np.nan_to_num(picture) / (reach or 1), -1, 1))
    numbers[np.isnan(picture)] = len(SIGNED_COLOURS) - 1
    return Picture(numbers.astype(np.uint8), SIGNED_COLOURS)


CLUSTERS = 253  # colours; tables with more entries share some
CLUSTER_COLOURS = np.concatenate(
    [
        [GAP, (255, 255, 255)],
        *(
            _ramp(low, high, 64)
            for low, high in (
                ("#2b0a5e", "#0a6aa8"),
                ("#0a6aa8", "#12a594"),
                ("#12a594", "#f0c52a"),
                ("#f0c52a", "#b3261e"),
            )
        ),
    ]
)[: CLUSTERS + 2].astype(np.uint8)


def cluster_colour(entry: int, entries: int) -> int:
    """The colour number of an entry, evenly from the first colour to the last."""
    return 2 + round(entry * (CLUSTERS - 1) / max(entries - 1, 1))


def cluster_map(numbers: Tensor, entries: int, most: int = MOST_PIXELS) -> Picture:
    """A colour for each entry (numbers 0..entries - 1); white where the number is -1; gaps in grey."""
    picture = as_picture(numbers, most)
    filled = np.nan_to_num(picture)
    colours = np.where(filled < 0, 1, 2 + np.rint(filled * (CLUSTERS - 1) / max(entries - 1, 1)))
    return Picture(np.where(np.isnan(picture), 0, colours).astype(np.uint8), CLUSTER_COLOURS)
