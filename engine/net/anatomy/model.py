"""The anatomy of a bundle: its graph, with what is counted of each layer."""

from __future__ import annotations

import math
from dataclasses import replace

from torch import nn

from engine.data import user_errors
from engine.memory import remembered
from engine.net import kinds, sources, zoo
from engine.net.anatomy.graph import LAYER, OUTPUT, Anatomy, Node, chain, with_counts
from engine.net.anatomy.trace import traced
from engine.types import Arch, Bundle, SlimscopeError, weight_layers

NO_ARCHITECTURE = "No known architecture fits these weights: layers are drawn in the order of the file."
NOT_FOLLOWED = (
    "How the layers are connected could not be followed ({}): they are drawn in the order of the model."
)
DIFFERS = "Which layers are used depends on what enters: the way of one input is drawn."


def of(bundle: Bundle) -> Anatomy:
    """Who feeds whom in a model, with the weights and multiply-adds of each layer.

    The model runs once for each architecture, a user's twice. Where it can't run, or its values can't be
    followed to the end, all layers stand in a row, and `note` says so.

    >>> [node.name for node in of(zoo.initial("lenet-300-100")).nodes]
    ['input', 'fc1', 'fc2', 'fc3', 'output']
    """
    weights = {label: math.prod(bundle.params[name].shape) for label, name in weight_layers(bundle).items()}
    found = _graph(bundle.arch.key) if bundle.arch.runs else Anatomy((), (), NO_ARCHITECTURE)
    if not found.nodes:
        return chain(
            (Node(label, LAYER, "weight", layer=label, weights=n) for label, n in weights.items()), found.note
        )
    return with_counts(found, weights, _macs(bundle))


@remembered
def _graph(key: str) -> Anatomy:
    """The graph of an architecture; without nodes where it can't be followed."""
    arch = Arch.from_key(key)
    try:
        found = _run(arch, zoo.blank(arch))
        other = _run(arch, kinds.random_model(arch, 0)) if arch.source == "user" else found
    except SlimscopeError as error:
        return Anatomy((), (), NOT_FOLLOWED.format(error))
    if not found.sources[OUTPUT] or not other.sources[OUTPUT]:
        return Anatomy((), (), NOT_FOLLOWED.format("its own code leaves torch's functions"))
    if found.edges == other.edges:
        return found
    most = max(found, other, key=lambda each: sum(node.used for node in each.nodes))
    return replace(most, note=DIFFERS)


def _run(arch: Arch, model: nn.Module) -> Anatomy:
    with user_errors.own_errors(f"{arch.title} failed"):
        return traced(model.eval(), (sources.inputs(arch),), arch.ties)


def _macs(bundle: Bundle) -> dict[tuple[str, str], int] | None:
    """Multiply-adds by (name of the node, label of its weight); None where they can't be counted."""
    try:
        uses = kinds.uses(bundle)
    except SlimscopeError:
        return None
    found: dict[tuple[str, str], int] = {}
    for use in uses:
        for weight, macs in use.macs.items():
            label = weight.removesuffix(".weight")
            inside = label == use.layer or label.startswith(f"{use.layer}.")
            name = label if inside else use.layer
            found[name, label] = found.get((name, label), 0) + macs
    return found
