"""Trained ternary: each weight is -n, 0 or p, and training finds n, p, and which weight is which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pandas as pd

from engine.data.sets import Data
from engine.figures import few_bits
from engine.figures.few_bits import CURVE, STEP_COLUMNS, Start
from engine.net.train import Plan
from engine.recipe import settings
from engine.recipe.knobs import Slider, Toggle
from engine.recipe.technique import Cost, technique
from engine.tensor.formats import Dense
from engine.tensor.ternary import ThreeValues, scaled, three_values
from engine.types import Basis, Bundle, Figure, Progress, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = (
    *("layer", "weights", "bits_per_weight", "zeros"),
    *("first_negative", "negative", "first_positive", "positive"),
)
NEGATIVE, POSITIVE = "negative weights", "positive weights"


@technique(
    family="quantize",
    title="Trained ternary",
    reference="Zhu et al. 2017, Trained Ternary Quantization, arXiv 1612.01064",
    stage=722,
    runs="trains",
    cost=lambda chosen: Cost(2 * chosen["epochs"]),  # rounding takes about as long as all else
    locality="model",
    tables={"curve": CURVE, "steps": STEP_COLUMNS, "layers": LAYER_COLUMNS},
    aha="Three values are enough when the model trains with them: two scales a layer, one for each sign, "
    "follow the loss, and weights cross the threshold to where they are needed.",
    trap="The threshold hangs on the largest weight: one outlier more, and many weights become zero. And "
    "three symbols take 1.58 bits each unless most of them are zero.",
    presets={"gentle": {"threshold": 0.05}, "balanced": {}, "extreme": {"threshold": 0.2}},
)
def ternarize_trained(
    bundle: Bundle,
    data: Data,
    *,
    threshold: Annotated[
        float,
        Slider(
            low=0.01,
            high=0.5,
            step=0.01,
            unit="share of the largest weight",
            percent=True,
            label="Threshold",
            help="Weights up to this share of their layer's largest magnitude are zero; the paper has 5 %.",
        ),
    ] = 0.1,
    keep_ends: Annotated[
        bool,
        Toggle(
            label="Ends stay floats",
            help="Whether the first and the last layer of the list stay 32-bit floats, as in the paper.",
        ),
    ] = False,
    epochs: Annotated[int, settings.epochs("How often the model sees all training samples.")] = 5,
    learning_rate: Annotated[
        float,
        settings.learning_rate(
            "How far a step moves weights, which lie within -1 and 1, and scales at the start; it falls to "
            "zero along a cosine."
        ),
    ] = 0.003,
    keep_zeros: settings.KeepZeros = True,
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Train weights that are -n, 0 or p in each layer; table and codes are stored as they were trained.

    The floats behind them are divided by their largest magnitude first. Forward, those above the threshold
    are p, those below its negative -n; backward, p and n get the sums of their weights' gradients, and the
    floats those gradients times p, 1 or n. p and n begin at the mean magnitudes of their weights. Biases and
    normalisation train along as 32-bit floats. Adam, batch 128, no weight decay, a cosine schedule; images
    are moved by a few pixels, and photos mirrored. Inputs that are rounded already stay so, and static step
    sizes of theirs train along. Weights that were rounded before start from those values.
    Raises SlimscopeError where no layer is left to train in three values, and Cancelled through `progress`.
    """
    names = _chosen(bundle, keep_ends)
    start = _begin(bundle, names, threshold, keep_zeros)
    plan = Plan(epochs, learning_rate, "adam", schedule="cosine", weight_decay=0.0, seed=seed)
    after, rows = few_bits.train(
        start,
        data,
        plan,
        progress,
        "net",
        learned=True,
        way=lambda book: ThreeValues(book, threshold),
        beside=lambda now: few_bits.times_first(_scales(names, start.rounded), _scales(names, now)),
    )
    layers = _layers(names, start, after)
    told = few_bits.report(bundle, start, after, data, plan, rows, layers)
    return after, Report((*told.figures, _zeros(layers)), told.tables, told.notes)


def _chosen(bundle: Bundle, keep_ends: bool) -> dict[str, str]:
    """The layers that are to have three values, and their weights."""
    names = list(weight_layers(bundle).items())
    chosen = dict(names[1:-1] if keep_ends else names)
    if not chosen:
        raise SlimscopeError(
            f"keep_ends is on, and the model has {len(names)} layers of weights: none lies between its first "
            "and its last; switch it off"
        )
    return chosen


def _begin(bundle: Bundle, names: Mapping[str, str], threshold: float, keep_zeros: bool) -> Start:
    """The floats over their largest magnitude, and the three values of least error on either side."""
    values = {name: bundle.params[name].decode() for name in names.values()}
    books = {name: three_values(weight, threshold) for name, weight in values.items()}
    floats = {name: Dense(scaled(weight)) for name, weight in values.items()}
    return Start(bundle.become({**bundle.params, **floats}), books, None if keep_zeros else {})


def _scales(names: Mapping[str, str], bundle: Bundle) -> Mapping[str, float]:
    """`negative weights of LAYER`, `positive weights of LAYER` -> the magnitude that they have."""
    tables = {label: bundle.params[name].tensors()["table"] for label, name in names.items()}
    return {
        f"{of} of {label}": abs(float(table[at]))
        for at, of in ((0, NEGATIVE), (2, POSITIVE))
        for label, table in tables.items()
    }


def _layers(names: Mapping[str, str], start: Start, after: Bundle) -> pd.DataFrame:
    first, now = _scales(names, start.rounded), _scales(names, after)
    rows = []
    for label, name in names.items():
        codes = after.params[name].tensors()["codes"]
        row = {
            "layer": label,
            "weights": codes.numel(),
            "bits_per_weight": after.params[name].fixed_bits() / codes.numel(),
            "zeros": int((codes == 1).sum()),
            "first_negative": first[f"{NEGATIVE} of {label}"],
            "negative": now[f"{NEGATIVE} of {label}"],
            "first_positive": first[f"{POSITIVE} of {label}"],
            "positive": now[f"{POSITIVE} of {label}"],
        }
        rows.append(row)
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _zeros(layers: pd.DataFrame) -> Figure:
    share = int(layers["zeros"].sum()) / max(int(layers["weights"].sum()), 1)
    return Figure("zeros", share, "share", Basis.COUNTED, "codes of zero / weights of this step's layers")
