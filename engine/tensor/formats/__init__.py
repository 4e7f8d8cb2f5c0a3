"""How a parameter is stored: one file for each format, which knows all of itself (two share tiled.py).

To add a format, write its file and name its class here. Its `kind` is its id in packed files, for good.
"""

from __future__ import annotations

from engine.tensor.formats.affine import AffineGrid
from engine.tensor.formats.codebook import Centroids, Codebook
from engine.tensor.formats.dense import Dense
from engine.tensor.formats.levels import Levels
from engine.tensor.formats.product import Product
from engine.tensor.formats.rows import Rows
from engine.tensor.formats.scaled import Scaled
from engine.tensor.formats.shared_vectors import SharedVectors
from engine.tensor.formats.shifted import Shifted
from engine.types import FormatError, Param

__all__ = [
    "FORMATS",
    "AffineGrid",
    "Centroids",
    "Codebook",
    "Dense",
    "Levels",
    "Product",
    "Rows",
    "Scaled",
    "SharedVectors",
    "Shifted",
    "of_kind",
]

ALL: tuple[type[Param], ...] = (Dense, AffineGrid, Codebook, Levels, Rows, Product, Scaled, Shifted)
FORMATS = {format.kind: format for format in ALL}


def of_kind(kind: object) -> type[Param]:
    """The format with this id. Raises FormatError for an unknown one.

    >>> of_kind("dense").__name__
    'Dense'
    """
    if not isinstance(kind, str) or kind not in FORMATS:
        known = ", ".join(FORMATS)
        raise FormatError(f"format {ascii(kind)[:40]} is not known to this version; it knows {known}")
    return FORMATS[kind]
