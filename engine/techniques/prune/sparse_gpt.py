"""SparseGPT: remove weights column by column, and let those behind make up for each that goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import pandas as pd
import torch
from torch import Tensor

from engine.data.sets import Data
from engine.figures import reports
from engine.net import matching, worth, zoo
from engine.recipe import settings
from engine.recipe.knobs import Choice, Toggle
from engine.recipe.technique import technique
from engine.tensor import gptq, masks
from engine.tensor import sparse_gpt as columns
from engine.tensor.formats import Dense
from engine.types import Bundle, Param, Report, SlimscopeError, weight_layers

LAYER_COLUMNS = (*reports.LAYER_COLUMNS, "points", "error_magnitude", "error_sparse_gpt")
ERRORS = {"error_magnitude": "output error, by size", "error_sparse_gpt": "output error"}
BY_SHARE = (("granularity", ("element",)),)
IN_ROWS = (("granularity", ("n:m",)),)


@technique(
    family="prune",
    title="SparseGPT",
    reference="Frantar & Alistarh 2023, SparseGPT: Massive Language Models Can Be Accurately Pruned in "
    "One-Shot, arXiv 2301.00774",
    stage=505,
    runs="seconds",
    locality="model",
    tables={"layers": LAYER_COLUMNS},
    aha="What a weight did can be done by others: each one that goes moves those that read inputs like its "
    "own, so that the layer's outputs stay. Half of the weights go, and nothing is trained.",
    trap="Zeros save bytes only where the file or the kernel uses them: with codes of few bits, to say where "
    "zeros are takes up to a bit for each weight. And the others are moved for these samples alone.",
    presets={
        "gentle": {"sparsity": 0.3},
        "balanced": {},
        "extreme": {"sparsity": 0.75},
    },
    needs_model=True,
)
def sparse_gpt(
    bundle: Bundle,
    data: Data,
    *,
    sparsity: Annotated[
        float, settings.sparsity("How many of each layer's weights become zero.", when=BY_SHARE)
    ] = 0.5,
    granularity: Annotated[
        str,
        Choice(
            label="Granularity",
            help="In which pattern weights go.",
            options={
                "element": "single weights, the same share of each 128 columns",
                "n:m": "all but N of each M weights in a row of inputs, as sparse tensor cores want them",
            },
        ),
    ] = "element",
    n: Annotated[
        int,
        settings.kept_in_row(IN_ROWS),
    ] = 2,
    m: Annotated[
        int,
        settings.row(IN_ROWS),
    ] = 4,
    update: Annotated[
        bool,
        Toggle(
            label="Make up",
            help="The weights that stay take up what those that go did. Off, they stay as they are.",
        ),
    ] = True,
    damping: Annotated[
        float,
        settings.damping("the less the weights that stay are moved"),
    ] = 0.01,
    samples: Annotated[int, settings.samples("Samples that the layers' inputs are taken from.")] = 500,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
    seed: Annotated[
        int, settings.seed("Fixes the places of the samples, and which samples errors are measured on.")
    ] = 0,
) -> tuple[Bundle, Report]:
    """Remove the weights that the others can best make up for, by the inverse Hessian of each layer's inputs.

    Layers go in the order of the model: each is fitted on what the pruned ones before it give. Labels are
    not looked at, and nothing is trained. What is pruned becomes 32-bit floats. Weights that are zero already
    count as removed and stay zero. Layers whose outputs are no matrix times their inputs (recurrent,
    attention, embedding, grouped, called twice), or that read more than 8,192 numbers, are left as they are,
    and so are those whose inputs are no multiple of M. Raises SlimscopeError where what enters a layer is
    not finite, or where no layer fits.
    """
    pattern = (n, m) if granularity == "n:m" else None
    names = {label: name for label, name in weight_layers(bundle).items() if label not in leave_out}
    values = {label: bundle.params[name].decode() for label, name in names.items()}
    unfit = worth.unfit(bundle, values, "magnitude", granularity, m)
    unfit |= {
        x: f"it reads {w[0].numel():,} numbers" for x, w in values.items() if w[0].numel() > matching.WIDEST
    }
    images = matching.drawn(data.train, samples, seed)
    open_to = {label: name for label, name in names.items() if label not in unfit}
    goals = matching.goals_of(zoo.fork(bundle).eval(), open_to, images, matching.PLACES, seed)
    unfit |= {label: worth.UNMATCHED for label in open_to if label not in goals}
    if not goals:
        raise SlimscopeError(f"{bundle.arch.title} has no layer that SparseGPT can prune: {_told(unfit)}")
    params: dict[str, Param] = dict(bundle.params)
    said = dict[str, dict[str, Any]]()

    def new(label: str, rows: Tensor, _: Tensor) -> Tensor:
        weight, fitted = values[label], len(rows) - len(rows) // matching.CHECKED
        if not bool(rows.isfinite().all()):
            raise SlimscopeError(f"layer {label!r} can't be fitted: what enters it is not finite")
        order = _inputs_last(weight)  # neighbours in a row are neighbouring inputs
        flat, ordered = weight.flatten(1), rows[:, order]
        curved = gptq.hessian(ordered[:fitted], damping)
        found = columns.pruned(flat[:, order], curved, sparsity, pattern, update)[:, order.argsort()]
        params[names[label]] = Dense(found.reshape(weight.shape))
        kept = masks.by_pattern(weight, None, n, m) if pattern else masks.by_score(weight, None, sparsity)
        goal = rows[fitted:] @ flat.T
        said[label] = {
            "points": fitted,
            "error_magnitude": matching.output_error(rows[fitted:], goal, (weight * kept).flatten(1)),
            "error_sparse_gpt": matching.output_error(rows[fitted:], goal, found),
        }
        return found

    matching.change(zoo.fork(bundle).eval(), open_to, images, goals, new)
    after = bundle.become(params)
    table = reports.layer_table(values, {x: after.params[names[x]].decode() != 0 for x in said})
    layers = table.join(pd.DataFrame.from_dict(said, orient="index"), on="layer")[list(LAYER_COLUMNS)]
    checked = len(images) // matching.CHECKED
    notes = (
        f"Fitted on {len(images) - checked:,} training samples, errors measured on {checked:,} others.",
        *reports.floats_again(
            [x for x in said if not isinstance(bundle.params[names[x]], Dense)],
            ": put quantize after this step to have codes again",
        ),
        *reports.named("Left out:", leave_out),
        *reports.reasons("Left as they are:", unfit),
    )
    figures = (*reports.output_errors(layers, ERRORS, _how), *reports.removed(table))
    return after, Report(figures, {"layers": layers}, notes)


def _inputs_last(weight: Tensor) -> Tensor:
    """The flat columns of a weight in an order in which inputs run fastest, as N:M wants them.

    >>> _inputs_last(torch.zeros(1, 2, 3)).tolist()
    [0, 3, 1, 4, 2, 5]
    """
    numbers = torch.arange(weight[0].numel()).reshape(weight.shape[1], -1)
    return numbers.T.flatten()


def _told(unfit: dict[str, str]) -> str:
    return "; ".join(f"{label}, {why}" for label, why in unfit.items()) or "all are left out"


def _how(worst: pd.Series) -> str:
    return (
        f"norm of (outputs - those of the same inputs before pruning) / norm of these, of {worst['layer']}, "
        "where removing as many by size is worst: on training samples that were not fitted"
    )
