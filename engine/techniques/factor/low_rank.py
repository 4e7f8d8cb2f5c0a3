"""Low rank: replace a layer by thin ones whose product is the nearest of that rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from engine.data.sets import Data
from engine.figures import low_rank as told
from engine.net import low_rank as layers
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import technique
from engine.tensor import factors, splits
from engine.tensor.formats import Dense
from engine.tensor.splits import Ranks
from engine.types import Bundle, Report, weight_layers

DEFAULT_RANK = 16


def largest_rank(bundle: Bundle) -> int:
    """The largest full rank over all layers and forms; a smaller layer takes at most its own."""
    ranks = [DEFAULT_RANK]
    for shape in (bundle.params[name].shape for name in weight_layers(bundle).values()):
        forms = {2: ("linear",), 4: ("channel", "spatial")}.get(len(shape), ())
        ranks += [min(factors.matrix_shape(shape, form)) for form in forms]
        ranks += [min(shape[1], shape[0] * math.prod(shape[2:]))] * (len(shape) == 4)  # Tucker's inputs
    return max(ranks)


RANK = Slider(
    low=1,
    high=largest_rank,
    whole=True,
    unit="singular values kept",
    label="Rank",
    help="How many singular values each layer keeps: the width of the thin middle.",
    when=(("by", ("rank",)),),
)
OF_OUTPUTS = (("error", ("outputs",)),)


@technique(
    family="low rank",
    title="Low rank",
    reference="Denton et al. 2014, arXiv 1404.0736; Jaderberg et al. 2014, arXiv 1405.3866; "
    "Zhang et al. 2015, arXiv 1505.06798 (outputs); Kim et al. 2016, arXiv 1511.06530 (Tucker)",
    page="low_rank",
    stage=200,
    runs="instant",
    locality="layer",
    whole=(("by", ("budget",)), *OF_OUTPUTS),
    tables={"layers": told.COLUMNS},
    presets={
        "gentle": {"by": "energy", "energy": 0.95},
        "balanced": {"by": "energy", "energy": 0.85},
        "extreme": {"by": "share", "share": 0.1},
    },
)
def low_rank(
    bundle: Bundle,
    data: Data | None,
    *,
    by: Annotated[
        str,
        Choice(
            label="Choose the rank by",
            help="What decides how many singular values a layer keeps.",
            options={
                "rank": "the same rank in every layer",
                "energy": "the smallest rank that keeps a share of the energy",
                "share": "the largest rank that fits in a share of the layer's weights",
                "budget": "what loses least in all layers together, in a share of all their weights",
            },
        ),
    ] = "energy",
    rank: Annotated[int, RANK] = DEFAULT_RANK,
    energy: Annotated[
        float,
        settings.energy(
            "How much of the layer's sum of squares the factors hold: of its weights, or of its outputs "
            "where these count.",
            when=(("by", ("energy",)),),
        ),
    ] = 0.9,
    share: Annotated[
        float,
        settings.share_kept(
            "How many weights the two factors may have, against those of the layer.",
            "share of the layer's weights",
            when=(("by", ("share",)),),
        ),
    ] = 0.5,
    budget: Annotated[
        float,
        settings.share_kept(
            "How many weights all layers may have together, against those that they have now.",
            "share of all weights",
            when=(("by", ("budget",)),),
            label="Budget",
            added=True,
        ),
    ] = 0.5,
    form: Annotated[
        str,
        Choice(
            label="Convolutions",
            help="How a convolution is cut; fully connected layers know only one way.",
            options={
                "channel": "the full kernel into a few channels, then a 1x1 convolution",
                "spatial": "a column kernel, then a row kernel",
                "tucker": "a 1x1 convolution to fewer channels, a small kernel on these, a 1x1 convolution",
            },
        ),
    ] = "channel",
    error: Annotated[str, settings.error_of("the factors", added=True)] = "weights",
    samples: Annotated[
        int,
        replace(
            settings.samples("Samples that the layers' outputs are taken from.", OF_OUTPUTS),
            added=True,
            redraws=True,
        ),
    ] = 500,
    per_layer: Annotated[
        Mapping[str, int],
        settings.per_layer(
            RANK, "Own rank", "Layers with a rank of their own, however the others choose theirs."
        ),
    ] = settings.NONE,
    input_ranks: Annotated[
        Mapping[str, int],
        settings.per_layer(
            RANK,
            "Own rank of the inputs",
            "Layers whose two ranks differ; without, both are the layer's own rank.",
            when=(("form", ("tucker",)),),
            added=True,
        ),
    ] = settings.NONE,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Split each layer by the decomposition that its ranks lose least of, so that it has fewer weights.

    Matrices are cut by the truncated singular value decomposition: of the weights, or, for the outputs'
    error, of the outputs that training samples give in the model as it is. Tucker's form takes the
    higher-order one and has two ranks: those of the fewest weights for an energy, those that keep most in a
    share. Convolutions in the spatial and in Tucker's form know the error of the weights alone. Under a
    budget the shares of energy that layers lose add up to the least, exactly.

    A layer that would not have fewer weights stays as it is, and so do recurrent matrices, grouped
    convolutions and layers whose input is quantized. The factors are plain 32-bit floats: codes and zeros of
    earlier steps do not survive a split. Raises SlimscopeError where the outputs' error is asked for of a
    model that can't run.
    """
    found = layers.layers_of(bundle, data, layers.How(form, error, samples), leave_out)
    able = [(layer.label, layer.split) for layer in found if layer.split is not None]
    value = {"rank": rank, "energy": energy, "share": share}.get(by)
    ranks: dict[str, Ranks] = {}
    for label, split in able:
        own = splits.own(split, per_layer.get(label), input_ranks.get(label))
        if own is None and value is not None:
            own = splits.chosen(split, by, value)
        if own is not None:
            ranks[label] = own
    whole, notes = list[str](), list[str]()
    if by == "budget":
        ranks, whole, notes = layers.dealt(found, ranks, budget)
    table = told.table(found, ranks, whole)
    applied = set(table["layer"][table["applied"]])
    used = {label: (split, ranks[label]) for label, split in able if label in applied}
    params, arch = layers.split(bundle, used)
    decoded = [label for label in used if not isinstance(bundle.params[f"{label}.weight"], Dense)]
    notes += told.notes(table, decoded)
    if error == "outputs" and data is not None:
        notes += told.notes_of_outputs(found, min(samples, len(data.train)))
    return bundle.become(params, arch), Report(told.figures(table), {"layers": table}, tuple(notes))
