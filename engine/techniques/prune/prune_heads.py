"""Prune heads: take whole heads out of attention, those first that the loss depends on least."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports
from engine.net import channels, heads
from engine.net.heads import Block
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import technique
from engine.types import Basis, Bundle, Figure, Report

REMOVED = settings.removed("heads", "The share of the heads that goes, the least important first.")
HEAD_COLUMNS = ("layer", "head", "importance", "rank", "kept")


@technique(
    family="prune",
    title="Prune heads",
    reference="Michel, Levy, Neubig 2019, Are Sixteen Heads Really Better than One?, arXiv 1905.10650",
    page="heads",
    stage=340,
    runs="seconds",
    locality="model",
    tables={"layers": channels.LAYER_COLUMNS, "heads": HEAD_COLUMNS},
    presets={
        "gentle": {"removed": 0.15},
        "balanced": {"removed": 0.3},
        "extreme": {"removed": 0.6},
    },
    needs_model=True,
    possible=heads.blocks,
    aha="Many heads say what others say as well: a good part of them can go after training, and the loss "
    "hardly notices. Which ones, their own gradient tells.",
    trap="Importance is told of one head at a time. Two heads that stand in for each other both look "
    "superfluous, until both are gone.",
)
def prune_heads(
    bundle: Bundle,
    data: Data,
    *,
    removed: Annotated[float, REMOVED] = 0.25,
    score: Annotated[
        str,
        Choice(
            label="Score",
            help="What makes a head important.",
            options={
                "loss": "how much the loss moves with the head's mask: the mean of |gradient| (Michel 2019)",
                "random": "chance: the control that every score must beat",
            },
        ),
    ] = "loss",
    allocation: Annotated[
        str,
        settings.allocation(
            "heads",
            "every layer loses the same share",
            "one ranking of scores over their layer's norm, as in the paper: uneven layers lose more",
        ),
    ] = "global",
    samples: Annotated[
        int,
        settings.samples("Samples that importance is told on.", when=(("score", ("loss",)),)),
    ] = 200,
    seed: Annotated[
        int, settings.seed("Fixes which samples importance is told on, and which heads chance picks.")
    ] = 0,
) -> tuple[Bundle, Report]:
    """Removes the heads of attention that the loss depends on least; nothing is trained.

    A head's importance is the mean over training samples of |d loss / d mask|, the mask being a number that
    multiplies what the head gives. With a head go its rows of queries, keys and values and the columns that
    read it: the model is smaller for good. In torch's own attention all heads have one width, so there the
    slices become exact zeros. At least one head of each attention stays. Raises SlimscopeError for models
    without attention.
    """
    known = heads.blocks(bundle)
    scores = _scores(bundle, data, known, score, samples, seed)
    ranked = {label: _over_norm(each) if allocation == "global" else each for label, each in scores.items()}
    gone = channels.smallest(ranked, removed, allocation, {})
    groups = {label: block.group for label, block in known.items()}
    kept = channels.kept_of(groups, {label: lost for label, lost in gone.items() if lost})
    after = heads.without(bundle, kept)
    rows = _rows(scores, gone, score == "loss")
    tables = {"layers": channels.layer_table(bundle, after), "heads": rows}
    return after, Report(_figures(bundle, after, rows), tables, _notes(bundle, after, known, gone))


def _scores(
    bundle: Bundle, data: Data, known: Mapping[str, Block], score: str, samples: int, seed: int
) -> dict[str, Tensor]:
    if score == "loss":
        return dict(heads.importance(bundle, data.train, samples, seed))
    rng = torch.Generator().manual_seed(seed)
    return {
        label: torch.rand(block.group.channels, generator=rng, dtype=torch.float64)
        for label, block in known.items()
    }


def _over_norm(scores: Tensor) -> Tensor:
    """Scores over their l2 norm, so that those of all layers compare (Michel 2019, section 4.1)."""
    norm = float(scores.norm())
    return scores / norm if norm > 0 else scores


# ---------------------------------------------------------------- what the report says


def _rows(scores: Mapping[str, Tensor], gone: Mapping[str, set[int]], is_known: bool) -> pd.DataFrame:
    """One row per head; importance in nat, rank 1 the least important of all over its layer's norm."""
    order = sorted(
        (float(value), label, head)
        for label, each in scores.items()
        for head, value in enumerate(_over_norm(each))
    )
    rank = {(label, head): place for place, (_, label, head) in enumerate(order, 1)}
    rows = [
        (label, head, value if is_known else float("nan"), rank[label, head], head not in gone[label])
        for label, each in scores.items()
        for head, value in enumerate(each.tolist())
    ]
    return pd.DataFrame(rows, columns=HEAD_COLUMNS)


def _figures(before: Bundle, after: Bundle, rows: pd.DataFrame) -> tuple[Figure, ...]:
    lost = int((~rows["kept"]).sum())
    how = f"of {len(rows)} heads in {rows['layer'].nunique()} layers of attention"
    return (Figure("heads removed", lost, "heads", Basis.COUNTED, how), *reports.costs(before, after))


def _notes(
    before: Bundle, after: Bundle, known: Mapping[str, Block], gone: Mapping[str, set[int]]
) -> tuple[str, ...]:
    zero = [label for label, lost in gone.items() if lost and not known[label].is_cut]
    single = [label for label, lost in gone.items() if lost and len(lost) == known[label].group.channels - 1]
    cut = ": the cut runs through weights that shared a scale or a code. Quantize after this step."
    return (
        *reports.named(
            "Torch's own attention has one width for all heads: zeros stand in their places in", zero
        ),
        *reports.named("Only one head is left in", single),
        *reports.floats_again(channels.turned_dense(before, after), cut),
    )
