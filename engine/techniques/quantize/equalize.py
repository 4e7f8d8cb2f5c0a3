"""Equalize: fold batch-norm into the layers before it, and give joined layers channels of equal ranges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import pandas as pd

from engine.data.sets import Data
from engine.figures import closeness, reports
from engine.net import folding, rounded_inputs
from engine.net.channels import scaling
from engine.net.folding import Equalized, Rest
from engine.recipe.knobs import Choice, Slider
from engine.recipe.technique import technique
from engine.tensor.equalize import MOST, joint_precision, precision, ranges
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, Report, SlimscopeError, weight_layers

CHECKED = 100  # validation images on which answers are compared
LAYER_COLUMNS = (
    *("layer", "outputs", "batch_norm", "read_by"),
    *("range_before", "range_after", "precision_before", "precision_after"),
)
CHANNEL_COLUMNS = (
    *("layer", "read_by", "channel", "divided_by"),
    *("range_before", "range_after", "reader_before", "reader_after"),
)


def possible(bundle: Bundle) -> None:
    """Raises SlimscopeError for a model without batch-norm to fold and without two layers to equalize."""
    if bundle.arch.runs and not scaling.foldable(bundle.arch) and not scaling.pairs(bundle.arch):
        raise SlimscopeError(
            f"{bundle.arch.title} has no batch-norm behind a layer of its own, and no two layers with "
            "nothing but ReLU, pooling or the like between them: there is nothing to equalize"
        )


@technique(
    family="quantize",
    title="Equalize",
    reference="Nagel et al. 2019, Data-Free Quantization Through Weight Equalization and Bias Correction, "
    "arXiv 1906.04721, section 4.1",
    stage=690,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS, "channels": CHANNEL_COLUMNS},
    possible=possible,
    aha="ReLU lets a factor pass: divide a channel by s here, multiply by s there, and no answer changes. "
    "So small channels can be made as large as large ones before they have to share a scale.",
    trap="By itself it makes nothing smaller: quantize after it and compare. Folding makes ranges uneven, so "
    "with one scale per layer a folded model can lose more than one with batch-norm apart.",
    presets={"gentle": {"what": "fold"}, "balanced": {}, "extreme": {"rounds": 200}},
    needs_model=True,
)
def equalize(
    bundle: Bundle,
    data: Data,
    *,
    what: Annotated[
        str,
        Choice(
            label="What",
            help="Which of the two is done; a pair with batch-norm between its layers needs both.",
            options={
                "both": "first batch-norm becomes a part of its layer, then ranges become equal",
                "fold": "batch-norm becomes a part of its layer: scale into weights, shift into the bias",
                "equalize": "ranges of channels between two layers become equal; batch-norm stays",
            },
        ),
    ] = "both",
    rounds: Annotated[
        int,
        Slider(
            low=1,
            high=200,
            whole=True,
            unit="rounds",
            label="Rounds",
            help="How often all pairs are gone through at most; it ends when nothing moves any more.",
            when=(("what", ("both", "equalize")),),
        ),
    ] = 50,
) -> tuple[Bundle, Report]:
    """Makes the channels between two layers equally large in both, so that one scale fits all of them.

    The model answers as before. A pair is two layers joined by ReLU, pooling or nothing, where no other layer
    reads what the first one gives; batch-norm between them is folded first. What is no pair stays and is
    named. Exact zeros stay exact zeros. Put it before quantize: it raises SlimscopeError where what enters
    layers is rounded already, and for recurrent models.
    """
    rounded_inputs.refuse(bundle.arch, "equalize")
    possible(bundle)
    after, normals = folding.folded(bundle) if what != "equalize" else (bundle, {})
    found: dict[str, Equalized] = {}
    rest = Rest(0, True)
    if what != "fold":
        after, found, rest = folding.equalized(after, rounds)
    layers = _layers(bundle, after, normals, found)
    change = closeness.answers_differ(bundle, after, data.validation.stratified(CHECKED))
    tables = {"layers": layers, "channels": _channels(found)}
    return after, Report((*_figures(layers, found), change), tables, _notes(bundle, after, what, found, rest))


def _layers(
    before: Bundle, after: Bundle, normals: Mapping[str, str], found: Mapping[str, Equalized]
) -> pd.DataFrame:
    """A row for each layer; ranges and precision are those of its outputs."""
    rows = []
    for layer, name in weight_layers(before).items():
        old, new = (each.params[name].decode() for each in (before, after))
        channels = [ranges(values, 0, range(len(values))) for values in (old, new)]
        rows.append(
            {
                "layer": layer,
                "outputs": len(old),
                "batch_norm": normals.get(layer, ""),
                "read_by": _reader(found[layer]) if layer in found else "",
                "range_before": float(channels[0].max()),
                "range_after": float(channels[1].max()),
                "precision_before": precision(channels[0]),
                "precision_after": precision(channels[1]),
            }
        )
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _reader(one: Equalized) -> str:
    return one.pair.reads[0].param.removesuffix(".weight")


def _channels(found: Mapping[str, Equalized]) -> pd.DataFrame:
    """Each channel of each pair; before is after folding."""
    rows: list[tuple[Any, ...]] = []
    for layer, one in found.items():
        columns = (one.factor, one.before[0], one.after[0], one.before[1], one.after[1])
        numbers = zip(*(column.tolist() for column in columns), strict=True)
        rows += [(layer, _reader(one), channel, *row) for channel, row in enumerate(numbers)]
    return pd.DataFrame(rows, columns=CHANNEL_COLUMNS)


def _figures(layers: pd.DataFrame, found: Mapping[str, Equalized]) -> tuple[Figure, ...]:
    folded, pairs = (int((layers[column] != "").sum()) for column in ("batch_norm", "read_by"))
    how = (
        "range of a channel over the widest one's, in the layer that makes it times in its reader; "
        "mean over channels of all pairs, after folding: 1 where all channels are as wide"
    )
    each = list(found.values())
    told = (("before", [one.before for one in each]), ("after", [one.after for one in each]))
    return (
        Figure(
            "folded batch-norms",
            folded,
            "layers",
            Basis.COUNTED,
            "batch-norms that are a part of a layer now",
        ),
        Figure("equalized pairs", pairs, "pairs", Basis.COUNTED, "pairs of layers with scaled channels"),
        *(
            Figure(f"precision {when} equalizing", joint_precision(both), "share", Basis.COUNTED, how)
            for when, both in told
            if both
        ),
    )


def _notes(
    before: Bundle, after: Bundle, what: str, found: Mapping[str, Equalized], rest: Rest
) -> tuple[str, ...]:
    kept = [name.removesuffix(".running_mean") for name in after.params if name.endswith(".running_mean")]
    far = [x for x, one in found.items() if bool(((one.factor >= MOST) | (one.factor <= 1 / MOST)).any())]
    coded = [
        name
        for name, param in before.params.items()
        if not isinstance(param, Dense) and after.params[name] is not param
    ]
    said = reports.named("These batch-norms stay:", kept)
    if what != "fold":
        ended = "nothing moved any more" if rest.reached else "channels still moved: more rounds would go on"
        said += [f"After {rest.rounds} rounds {ended}." if found else "No two layers are a pair."]
        alone = [layer for layer in weight_layers(after) if layer not in found]
        said += reports.named("What these layers give is in no pair and stays:", alone)
        bound = f" would need a factor beyond {MOST:,.0f}, which is the most that one gets."
        said += reports.named("Some channels of", far, bound)
    return (*said, *reports.floats_again(coded, ": put quantize after this step to have codes again"))
