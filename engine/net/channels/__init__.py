"""Channels: what goes together (`groups`), how it is taken out (`cut`), and what that changes (`tables`)."""

from engine.net.channels.cut import keep, kept_of, masked, smallest, turned_dense
from engine.net.channels.groups import groups
from engine.net.channels.parts import Group, Pad, Part
from engine.net.channels.tables import LAYER_COLUMNS, STATISTICS, goes_with, layer_table, parts_of

__all__ = [
    "LAYER_COLUMNS",
    "STATISTICS",
    "Group",
    "Pad",
    "Part",
    "goes_with",
    "groups",
    "keep",
    "kept_of",
    "layer_table",
    "masked",
    "parts_of",
    "smallest",
    "turned_dense",
]
