"""Data sets, how they are split, and how they are fetched."""
