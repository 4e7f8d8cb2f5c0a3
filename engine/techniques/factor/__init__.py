"""Techniques that write a matrix as a product of thinner ones."""
