"""Figures about a model, one module for each basis: counted, modelled, measured."""
