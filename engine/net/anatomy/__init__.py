"""Anatomy: which layer feeds which. `of` gives a model as a graph without any drawing."""

from engine.net.anatomy.graph import CONCATENATION, INPUT, OUTPUT, PRODUCT, SUM, Anatomy, Edge, Node
from engine.net.anatomy.model import of

__all__ = ["CONCATENATION", "INPUT", "OUTPUT", "PRODUCT", "SUM", "Anatomy", "Edge", "Node", "of"]
