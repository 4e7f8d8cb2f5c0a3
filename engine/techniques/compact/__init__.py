"""Compact designs in the place of a model's convolutions."""
