"""How far each layer's weights are from those of the original: counted, layer by layer."""

from __future__ import annotations

from engine.figures import count
from engine.types import Bundle


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
