"""Techniques as declared functions, their settings, and recipes of them."""
