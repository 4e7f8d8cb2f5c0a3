"""Counted figures: exact, read off the tensors. Nothing is estimated or timed here.

A MAC is one multiply-add at batch 1 (fvcore's convention); biases, batch-norm and
activations are not counted, and zeros count as weights: a zero is multiplied like any other.
"""

from __future__ import annotations

import torch
from torch import Tensor

from engine.net import kinds
from engine.net.input_quantizer import is_of_quantizer
from engine.types import Basis, Bundle, Figure, weight_layers


def parameters(bundle: Bundle) -> Figure:
    """Trainable parameters: weights, biases and batch-norm's scale and shift.

    Batch-norm's statistics and the vectors of spectral norm are not trained.
    """
    total = sum(_elements(bundle, n) for n in bundle.params if not _is_statistic(n))
    return Figure("parameters", total, "parameters", Basis.COUNTED, "elements of all trained tensors")


def _elements(bundle: Bundle, name: str) -> int:
    return int(torch.Size(bundle.params[name].shape).numel())


def _is_statistic(name: str) -> bool:
    return name.endswith(("running_mean", "running_var", "._u", "._v")) or is_of_quantizer(name)


def nonzeros(bundle: Bundle) -> Figure:
    """Weights that are not exactly zero, over all prunable weights (matrices and kernels)."""
    kept = sum(int(tensor.count_nonzero()) for _, tensor in weights(bundle))
    return Figure("non-zero weights", kept, "weights", Basis.COUNTED, "elements != 0 of all weight matrices")


def sparsity(bundle: Bundle) -> Figure:
    """Zeros over prunable weights, 0..1."""
    total = sum(_elements(bundle, name) for name in weight_layers(bundle).values())
    zeros = total - int(nonzeros(bundle).value)
    return Figure(
        "sparsity", zeros / max(total, 1), "share", Basis.COUNTED, "zeros / weights; biases left out"
    )


def weights(bundle: Bundle) -> list[tuple[str, Tensor]]:
    """(layer label, decoded weight) of every prunable layer, in the order of the net."""
    return [(label, bundle.params[name].decode()) for label, name in weight_layers(bundle).items()]


def macs(bundle: Bundle) -> Figure:
    """Multiply-adds for one input. Raises SlimscopeError where the architecture is unknown."""
    total = int(kinds.layer_macs(bundle)["macs"].sum())
    return Figure(
        "multiply-adds", total, "MAC", Basis.COUNTED, "weights x positions where they are used, batch 1"
    )
