"""How far a model is from what it was: its weights, counted layer by layer, and its answers, measured."""

from __future__ import annotations

from engine.data.sets import Samples
from engine.figures import count, measure
from engine.net import zoo
from engine.types import Basis, Bundle, Figure


def relative_errors(bundle: Bundle) -> dict[str, float]:
    """Layer -> |w - w'| / |w| of its weights against the original's, as Frobenius norms: 0 is unchanged.

    Layers that were replaced, made narrower, or hold nothing but zeros at first are left out.

    >>> from engine.net import zoo
    >>> relative_errors(zoo.initial("mlp-32"))
    {'fc1': 0.0, 'fc2': 0.0}
    """
    before = dict(count.weights(bundle.origin))
    found = {}
    for layer, weight in count.weights(bundle):
        first = before.get(layer)
        if first is not None and first.shape == weight.shape and (norm := float(first.norm())):
            found[layer] = float((weight - first).norm()) / norm
    return found


def answers_differ(before: Bundle, after: Bundle, samples: Samples) -> Figure:
    """How far answers are from what they were, over the largest of them."""
    old, new = (measure.logits(zoo.build(each), samples) for each in (before, after))
    largest = float(old.abs().max())
    value = float((new - old).abs().max()) / largest if largest > 0 else 0.0
    how = f"largest difference of an output over the largest output, on {len(samples)} validation samples"
    return Figure("answers differ by", value, "1", Basis.MEASURED, how)
