"""What each layer loses alone at a few ranks, measured: the table that ranks may be dealt out by.

It is remembered under the model, so that a budget that moves only asks for another choice.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from engine.data.sets import Data
from engine.figures import loss_change
from engine.memory import remembered
from engine.net import incremental
from engine.net.low_rank import How, Layer, layers_of
from engine.tensor.formats import Dense
from engine.tensor.splits import Options, Ranks
from engine.types import Basis, Bundle, Figure, SlimscopeError, weight_layers

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)  # of a layer's weights
COLUMNS = ("layer", "rank", "input_rank", "weights", "share", "kl_alone")


def tried(bundle: Bundle, data: Data | None, how: How, count: int) -> pd.DataFrame:
    """One layer split at a time, at the largest ranks within each of SHARES of its weights: columns COLUMNS.

    `kl_alone` is the KL from the outputs before, in nat: a mean over `count` validation samples, whose labels
    are not asked. Raises SlimscopeError where nothing can be measured.
    """
    return _tried(bundle, _needed(bundle, data), how, count)


def _needed(bundle: Bundle, data: Data | None) -> Data:
    if data is None or not bundle.arch.runs:
        raise SlimscopeError(
            "sensitivity is measured: it needs a known architecture with data; choose by = 'budget'"
        )
    return data


@remembered
def _tried(bundle: Bundle, data: Data, how: How, count: int) -> pd.DataFrame:
    """Only what lies behind the layer that is split is worked out anew."""
    samples = data.validation.stratified(count)
    before, trace = incremental.logits(bundle, samples)
    rows, names = [], weight_layers(bundle)
    for layer in layers_of(bundle, data, how):
        for ranks in _ranks_of(layer):
            assert layer.split is not None
            near = {names[layer.label]: Dense(layer.split.product(ranks))}
            after = incremental.logits(bundle.become({**bundle.params, **near}), samples, trace, keep=False)[
                0
            ]
            lost = float(loss_change.kl(before, after).mean())
            both = (ranks[0], ranks[1] if len(ranks) > 1 else None)
            weights = layer.split.weights(ranks)
            rows.append((layer.label, *both, weights, weights / layer.weights, lost))
    return pd.DataFrame(rows, columns=COLUMNS)


def _ranks_of(layer: Layer) -> list[Ranks]:
    """The ranks that are tried, each once; only those that save weights."""
    split = layer.split
    known = [] if split is None else dict.fromkeys(map(split.for_share, SHARES))
    return [ranks for ranks in known if layer.saves({layer.label: ranks})]


def options(told: pd.DataFrame) -> dict[str, Options]:
    """Layer -> the ranks that it may be given, with what it loses by them."""
    return {
        str(layer): Options(
            rows["weights"].to_numpy(np.int64),
            rows["kl_alone"].to_numpy(np.float64),
            [_ranks(*pair) for pair in zip(rows["rank"], rows["input_rank"], strict=True)],
        )
        for layer, rows in told.groupby("layer", sort=False)
    }


def _ranks(rank: float, input_rank: float) -> Ranks:
    return (int(rank),) if pd.isna(input_rank) else (int(rank), int(input_rank))


def with_losses(table: pd.DataFrame, told: pd.DataFrame) -> pd.DataFrame:
    """A table of layers with what each loses alone at its ranks; unknown where these were not tried."""
    rows = told[["layer", "rank", "input_rank", "kl_alone"]].itertuples(index=False, name=None)
    known = {(layer, _ranks(*ranks)): lost for layer, *ranks, lost in rows}
    second = table["input_rank"] if "input_rank" in table else [None] * len(table)
    now = zip(table["layer"], table["applied"], table["rank"], second, strict=True)
    losses = [known.get((layer, _ranks(*ranks))) if applied else 0.0 for layer, applied, *ranks in now]
    return table.assign(kl_alone=pd.Series(losses, table.index, float))


def compared(
    bundle: Bundle, data: Data | None, count: int, table: pd.DataFrame, after: Bundle, by_energy: Bundle
) -> tuple[Figure, ...]:
    """The KL that was expected of all layers, that of `after`, and that of the ranks that energy deals out.

    `table` is that of `with_losses`; without the first where it does not know all.
    """
    samples = _needed(bundle, data).validation.stratified(count)
    answers = [incremental.logits(each, samples, keep=False)[0] for each in (bundle, after, by_energy)]
    how = f"from the outputs before, mean of {len(samples):,} validation samples; normal 95 % interval"
    names = ("KL of the outputs", "KL of the outputs at the ranks by energy")
    found = [
        loss_change.mean(name, loss_change.kl(answers[0], own), "nat", how)
        for name, own in zip(names, answers[1:], strict=True)
    ]
    summed = "sum over layers of what each loses alone"
    predicted = Figure(f"predicted {names[0]}", float(table["kl_alone"].sum()), "nat", Basis.MODELLED, summed)
    return (*([] if table["kl_alone"].isna().any() else [predicted]), *found)
