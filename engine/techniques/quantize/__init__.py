"""Techniques that store weights in fewer bits."""
