"""Prune channels: keep the inputs from which a layer's outputs can best be made again."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import count, reports
from engine.net import channels, kinds
from engine.net.readers import MOST, Reader, channels_left, narrow_walk, readers_of, spread, start_of
from engine.net.walk import Products, gathered
from engine.recipe import settings
from engine.recipe.knobs import Choice, SettingError, Slider, Toggle
from engine.recipe.technique import technique
from engine.tensor import lars
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, Param, Report, weight_layers

REMOVED = settings.removed("channels", "The share of the channels that each layer reads which goes.", MOST)
LAYER_COLUMNS = (
    "layer",
    "channels",
    "kept",
    "removed",
    "points",
    "error_masked",
    "error_refit",
    "error_fitted",
    "macs_before",
    "macs_after",
)
PATH_COLUMNS = ("layer", "kept", "lambda", "error_masked", "error_refit")


@technique(
    family="prune",
    title="Prune channels",
    reference="He et al. 2017, Channel Pruning for Accelerating Very Deep Networks, arXiv 1707.06168",
    page="channels",
    stage=300,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS, "path": PATH_COLUMNS},
    presets={"gentle": {"removed": 0.2}, "balanced": {"removed": 0.5}, "extreme": {"removed": 0.75}},
    needs_model=True,
)
def prune_channels(
    bundle: Bundle,
    data: Data,
    *,
    removed: Annotated[float, REMOVED] = 0.5,
    selection: Annotated[
        str,
        Choice(
            label="Selection",
            help="What decides which of the channels that a layer reads stay.",
            options={
                "lasso": "a LASSO on what each channel adds to the layer's outputs (He 2017)",
                "largest": "the sum of the sizes of the weights that read the channel",
                "random": "chance: the control that every choice must beat",
            },
        ),
    ] = "lasso",
    refit: Annotated[
        bool,
        Toggle(
            label="Refit weights",
            help="Fits the weights that read the kept channels to the layer's old outputs anew.",
        ),
    ] = True,
    samples: Annotated[
        int,
        Slider(
            low=500,
            high=4000,
            step=500,
            whole=True,
            unit="points",
            label="Points per layer",
            help="Places in training samples where a layer's outputs are matched: more fit less to chance.",
        ),
    ] = 2000,
    removed_per_layer: Annotated[
        Mapping[str, float],
        settings.per_layer(REMOVED, "Own share", "Layers that lose a share of their own of what they read."),
    ] = settings.NONE,
    leave_out: Annotated[
        Sequence[str], settings.leave_out("Layers that go on reading all their channels.")
    ] = (),
    seed: Annotated[
        int, settings.seed("Fixes the places of the samples, and which channels chance picks.")
    ] = 0,
) -> tuple[Bundle, Report]:
    """Keeps, layer by layer, the inputs that remake its outputs best, and fits its weights to them anew.

    What a layer gave before this step is the goal. Which channels stay is judged in the whole model, once;
    the weights are fitted to what the layer reads in the model as pruned so far.
    The filters that made the other channels go for good. A channel that shortcuts pass on stays, and so does
    every layer that keeps all it reads. At least one channel stays. Matched on training samples, tested
    on others of them; labels are not looked at. Linear layers have one point an image; models that take
    long to run are shown fewer samples, and convolutions, or layers that read a text, matched at up to ten
    points of each. Raises
    SlimscopeError for recurrent models, and SettingError for an own share of a layer whose inputs cannot go.
    """
    readers = {reader.label: reader for reader in readers_of(bundle)}
    _check_own(removed_per_layer, readers)
    start = start_of(bundle, selection, samples, seed, data.train)
    stays: dict[str, Sequence[int]] = {}
    for label, reader in readers.items():
        total = reader.group.channels
        left = total if label in leave_out else channels_left(total, removed_per_layer.get(label, removed))
        if left < total:
            stays[label] = start.ranks[label].supports[left]
    walk = narrow_walk(bundle, start, readers, stays)
    made = {  # weight -> its rows that some layer still reads
        part.param: [part.at[channel] for channel in stay]
        for label, stay in stays.items()
        for part in readers[label].group.makes
    }
    found: list[_Found] = []
    for label, stay in stays.items():
        reader = readers[label]
        products = gathered(walk, label, start.goals[label], start.fitted)
        found.append(_prune(reader, bundle.params[reader.weight].decode().flatten(1), products, stay))
        weight = found[-1].refitted if refit else found[-1].masked
        walk.set_weight(label, weight[made.get(reader.weight, slice(None))][:, reader.columns(stay)])
    after = _narrowed(bundle, found, refit)
    layers = _layers(bundle, after, found)
    curves = pd.DataFrame([row for rank in start.ranks.values() for row in rank.curve], columns=PATH_COLUMNS)
    figures = _figures(bundle, after, layers, found, refit, start.images)
    notes = _notes(bundle, after, layers, found, refit, leave_out)
    return after, Report(figures, {"layers": layers, "path": curves}, notes)


# ---------------------------------------------------------------- which layers read what


def prunable(bundle: Bundle) -> list[str]:
    """Layers whose inputs can go, in the order of the net. Raises SlimscopeError for recurrent nets."""
    return [reader.label for reader in readers_of(bundle)]


def _check_own(per_layer: Mapping[str, float], known: Iterable[str]) -> None:
    """Raises SettingError for layers whose inputs stay."""
    for label in per_layer:
        if label not in known:
            raise SettingError(
                f"removed_per_layer names {label!r}, but what it reads cannot go: it enters the model, or "
                f"shortcuts pass it on; allowed are {', '.join(known) or 'no layers of this model'}"
            )


# ---------------------------------------------------------------- one layer


@dataclass(frozen=True, eq=False)
class _Found:
    """One layer pruned: its weights (outputs, inputs * kernel) with zeros where channels go, and errors."""

    reader: Reader
    kept: tuple[int, ...]
    masked: Tensor
    refitted: Tensor
    points: int
    checked: int
    error_masked: float
    error_refit: float
    error_fitted: float

    def error(self, refit: bool) -> float:
        """The error of the weights in use, on other samples than those fitted on."""
        return self.error_refit if refit else self.error_masked

    @property
    def inputs_kept(self) -> int:
        """Columns of the weight that are fitted."""
        return self.reader.width * len(self.kept)


def _prune(reader: Reader, weight: Tensor, products: Products, stay: Sequence[int]) -> _Found:
    """`products` are those of the columns that stay."""
    own = weight[:, reader.columns(stay)]
    fitted = lars.refit(products.gram, products.cross, own, range(len(stay)), len(stay))
    return _Found(
        reader,
        tuple(stay),
        spread(own, reader, stay, weight),
        spread(fitted, reader, stay, weight),
        products.points,
        len(products.outputs),
        products.error(own),
        products.error(fitted),
        lars.relative_error(products.gram, products.cross, products.energy, fitted),
    )


def _narrowed(bundle: Bundle, found: Sequence[_Found], refit: bool) -> Bundle:
    """The bundle with new weights in the layers that were refitted, and without what they do not read."""
    params: dict[str, Param] = dict(bundle.params)
    for one in found if refit else ():
        name = one.reader.weight
        params[name] = Dense(one.refitted.float().reshape(bundle.params[name].shape))
    return channels.keep(bundle.become(params), {one.reader.group.name: one.kept for one in found})


# ---------------------------------------------------------------- what the report says


def _layers(before: Bundle, after: Bundle, found: Sequence[_Found]) -> pd.DataFrame:
    """Every layer, so that columns add up to the net's; errors only of those that read less."""
    macs = [kinds.weight_table(bundle)["macs"].to_dict() for bundle in (before, after)]
    pruned = {one.reader.label: one for one in found}
    rows = []
    known = {reader.label: reader.group.channels for reader in readers_of(before)}
    for label, name in weight_layers(before).items():
        one, reads = pruned.get(label), known.get(label, before.params[name].shape[1])
        numbers = (
            (reads, reads, 0, 0, *[math.nan] * 3)
            if one is None
            else (
                one.reader.group.channels,
                len(one.kept),
                one.reader.group.channels - len(one.kept),
                one.points,
                one.error_masked,
                one.error_refit,
                one.error_fitted,
            )
        )
        rows.append((label, *numbers, *(table.get(name, 0) for table in macs)))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _figures(
    before: Bundle, after: Bundle, layers: pd.DataFrame, found: Sequence[_Found], refit: bool, images: int
) -> tuple[Figure, ...]:
    figures = [
        Figure(
            "channels removed",
            int(layers["removed"].sum()),
            "channels",
            Basis.COUNTED,
            "channels that layers read before minus after; as many filters went that made them",
        ),
        *reports.costs(before, after),
    ]
    if found:
        worst = max(found, key=lambda one: one.error(refit))
        how = (
            f"norm of (outputs - what they were) / norm of what they were, of {worst.reader.label}, the "
            f"layer where it is largest: at {worst.checked:,} points of training samples on which nothing "
            f"was fitted or chosen ({worst.points:,} points of {images:,} others were)"
        )
        figures.append(Figure("largest output error", worst.error(refit), "share", Basis.MEASURED, how))
    return tuple(figures)


def _notes(
    before: Bundle,
    after: Bundle,
    layers: pd.DataFrame,
    found: Sequence[_Found],
    refit: bool,
    leave_out: Sequence[str],
) -> tuple[str, ...]:
    notes = []
    if found:
        parameters = 1 - count.parameters(after).value / count.parameters(before).value
        macs = 1 - count.macs(after).value / count.macs(before).value
        notes.append(
            f"{parameters:.1%} of the parameters and {macs:.1%} of the multiply-adds went: a channel that no "
            "layer reads need not be made, so its filter, bias and batch-norm entries went, too."
        )
    if refit:
        notes += _refit_notes(found)
    elif found:
        notes.append(
            "The weights that are left are as they were: what the removed channels gave is missing. A refit "
            "lets the kept ones stand in for them, without training."
        )
    streams = [group for group in channels.groups(before).values() if group.stream]
    if streams:
        notes.append(
            "Channels that shortcuts pass on stay: only the layers inside of a block read fewer, and errors "
            "that add up along the shortcuts are not corrected."
        )
    single = [one.reader.label for one in found if len(one.kept) == 1]
    codes = ": their codes no longer fit. Quantize after this step."
    return (
        *notes,
        *reports.named("Only one channel is left for", single, " to read: all that follows depends on it."),
        *reports.floats_again(channels.turned_dense(before, after), codes),
        *reports.named("Left out:", leave_out, "; the filters in them may have gone all the same."),
    )


def _refit_notes(found: Sequence[_Found]) -> list[str]:
    filled = [one.reader.label for one in found if bool(((one.masked == 0) & (one.refitted != 0)).any())]
    after = " that were zero: prune single weights after this step, not before."
    notes = reports.named("The refit gave new values to weights of", filled, after)
    scarce = [one for one in found if one.points < one.inputs_kept]
    if scarce:
        said = ", ".join(f"{o.reader.label} ({o.points:,} for {o.inputs_kept:,} inputs)" for o in scarce)
        notes.append(
            f"Fewer points than inputs: {said}. The fit is exact there and learns chance by heart; compare "
            "the error where it was fitted with that on other samples, and take more points."
        )
    return notes
