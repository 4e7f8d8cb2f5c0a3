"""Techniques that remove weights, filters or channels."""
