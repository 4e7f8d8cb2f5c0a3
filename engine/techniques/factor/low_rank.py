"""Low rank: replace a layer by thin ones whose product is the nearest of that rank."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from engine.data.sets import Data
from engine.figures import low_rank as told
from engine.figures import rank_sensitivity
from engine.net import low_rank as layers
from engine.net import ranks
from engine.recipe import settings
from engine.recipe.knobs import Choice, Slider
from engine.recipe.settings import of_ranks
from engine.recipe.technique import technique
from engine.tensor import factors
from engine.tensor.formats import Dense
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


RANK = of_ranks.rank(
    largest_rank,
    "singular values kept",
    "How many singular values each layer keeps: the width of the thin middle.",
)
OF_OUTPUTS = (("error", ("outputs",)),)
DEALT = ("budget", "sensitivity")  # ways of choosing that deal out one budget


@technique(
    family="low rank",
    title="Low rank",
    reference="Denton et al. 2014, arXiv 1404.0736; Jaderberg et al. 2014, arXiv 1405.3866; "
    "Zhang et al. 2015, arXiv 1505.06798 (outputs); Kim et al. 2016, arXiv 1511.06530 (Tucker)",
    page="low_rank",
    stage=200,
    runs="instant",
    locality="layer",
    whole=(("by", DEALT), *OF_OUTPUTS),
    tables={"layers": (*told.COLUMNS, "kl_alone"), "tried": rank_sensitivity.COLUMNS},
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
        of_ranks.by(
            "What decides how many singular values a layer keeps.",
            {
                "rank": "the same rank in every layer",
                "energy": "the smallest rank that keeps a share of the energy",
                "share": "the largest rank that fits in a share of the layer's weights",
                "budget": "what loses least energy in all layers together, in a share of all their weights",
                "sensitivity": "the same, by how the answers change with each layer alone at a few ranks",
            },
        ),
    ] = "energy",
    rank: Annotated[int, RANK] = DEFAULT_RANK,
    energy: Annotated[
        float,
        of_ranks.energy(
            "How much of the layer's sum of squares the factors hold: of its weights, or of its outputs "
            "where these count."
        ),
    ] = 0.9,
    share: Annotated[
        float,
        of_ranks.share(
            "How many weights the two factors may have, against those of the layer.",
            "share of the layer's weights",
        ),
    ] = 0.5,
    budget: Annotated[
        float,
        of_ranks.share(
            "How many weights all layers may have together, against those that they have now.",
            "share of all weights",
            label="Budget",
            by=DEALT,
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
    checked: Annotated[
        int,
        Slider(
            low=50,
            high=1000,
            step=50,
            whole=True,
            unit="samples",
            label="Measured on",
            help="On how many validation samples it is measured what a layer at a rank does to the answers.",
            when=(("by", ("sensitivity",)),),
            added=True,
        ),
    ] = 100,
) -> tuple[Bundle, Report]:
    """Split each layer by the decomposition that its ranks lose least of, so that it has fewer weights.

    Matrices are cut by the truncated singular value decomposition: of the weights, or, for the outputs'
    error, of the outputs that training samples give in the model as it is. Tucker's form takes the
    higher-order one and has two ranks: those of the fewest weights for an energy, those that keep most in a
    share. Convolutions in the spatial and in Tucker's form know the error of the weights alone. Under a
    budget the shares of energy that layers lose add up to the least, exactly; or, by sensitivity, the KL of
    the model's answers that was measured with each layer split alone, at the ranks of eleven shares of its
    weights.

    A layer that would not have fewer weights stays as it is, and so do recurrent matrices, grouped
    convolutions and layers whose input is quantized. The factors are plain 32-bit floats: codes and zeros of
    earlier steps do not survive a split. Raises SlimscopeError where the outputs' error or the sensitivity is
    asked for of a model that can't run.
    """
    how = layers.How(form, error, samples)
    found = layers.layers_of(bundle, data, how, leave_out)
    value = {"rank": rank, "energy": energy, "share": share}.get(by)
    chosen, whole, notes = ranks.alone(found, by, value, per_layer, input_ranks), list[str](), list[str]()
    own, tried = chosen, None
    if by == "sensitivity":
        tried = rank_sensitivity.tried(bundle, data, how, checked)
    if by in DEALT:
        losing = None if tried is None else rank_sensitivity.options(tried)
        chosen, whole, notes = ranks.dealt(found, own, budget, losing)
    after, table = layers.split(bundle, found, chosen), told.table(found, chosen, whole)
    figures, tables = told.figures(table), {"layers": table}
    if tried is not None:
        by_energy = layers.split(bundle, found, ranks.dealt(found, own, budget)[0])
        tables = {"layers": rank_sensitivity.with_losses(table, tried), "tried": tried}
        figures += rank_sensitivity.compared(bundle, data, checked, tables["layers"], after, by_energy)
    split = table["layer"][table["applied"]]
    decoded = [label for label in split if not isinstance(bundle.params[f"{label}.weight"], Dense)]
    notes += told.notes(table, decoded)
    if error == "outputs" and data is not None:
        notes += told.notes_of_outputs(found, min(samples, len(data.train)))
    return after, Report(figures, tables, tuple(notes))
