"""Tables of word vectors: which layers of a model are looked up by number."""

from __future__ import annotations

from torch import nn

from engine.net import zoo
from engine.types import Bundle, weight_layers


def of(bundle: Bundle) -> dict[str, str]:
    """Layer label -> name of its weight, of all that are looked up, whatever else a tied one does.

    Nothing for weights without a known architecture.

    >>> list(of(zoo.initial("transformer-topics")))
    ['tokens', 'places']
    """
    if not bundle.arch.runs:
        return {}
    modules = zoo.skeleton(bundle.arch).named_modules()
    looked_up = {
        f"{name}.weight" for name, each in modules if isinstance(each, nn.Embedding | nn.EmbeddingBag)
    }
    stored = {bundle.arch.ties.get(name, name) for name in looked_up}
    return {label: name for label, name in weight_layers(bundle).items() if name in stored}
