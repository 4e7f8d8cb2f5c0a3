"""Low rank of an LSTM: recurrent matrices and those behind them become thin by one shared projection."""

from __future__ import annotations

from typing import Annotated

from engine.data.sets import Data
from engine.figures import low_rank as told
from engine.figures import reports, shared_projection
from engine.net import projecting
from engine.net.projecting import Recurrent
from engine.recipe.knobs import Choice
from engine.recipe.settings import of_ranks
from engine.recipe.technique import technique
from engine.tensor import projection
from engine.tensor.formats import Dense
from engine.types import Bundle, Report, SlimscopeError

DEFAULT_RANK = 16


def largest_rank(bundle: Bundle) -> int:
    """One less than the states of the widest LSTM: at the full rank there is no projection."""
    try:
        layers, _ = projecting.found(bundle, False)
    except SlimscopeError:
        return DEFAULT_RANK
    return max(DEFAULT_RANK, *(joint.states - 1 for layer in layers for joint in layer.joints))


@technique(
    family="low rank",
    title="Low rank of an LSTM",
    reference="Prabhavalkar et al. 2016, arXiv 1603.08042; Shi et al. 2018, arXiv 1905.00855",
    stage=205,
    runs="instant",
    locality="model",
    tables={"layers": shared_projection.COLUMNS},
    presets={
        "gentle": {"by": "share", "share": 0.7},
        "balanced": {"by": "share", "share": 0.5},
        "extreme": {"by": "share", "share": 0.25},
    },
    known_by="share",
    possible=lambda bundle: projecting.found(bundle, False),
    aha="All that an LSTM passes on are its states, and all who read them can share one summary: r numbers "
    "in place of h, worked out once, make the recurrent matrix thin and the next layer's as well.",
    trap="The summary is made for the recurrent matrix. What the next layer needs and the recurrence does "
    "not is lost, however important it is: look at both errors, or cut the projection from both matrices.",
)
def low_rank_rnn(
    bundle: Bundle,
    data: Data | None,
    *,
    by: Annotated[
        str,
        of_ranks.by(
            "What decides in how many numbers states are summed up, as many in all layers of an LSTM.",
            {
                "rank": "this rank, in every LSTM",
                "energy": "the smallest rank at which every layer keeps a share of the energy",
                "share": "the largest rank that fits in a share of the weights of the matrices that change",
            },
        ),
    ] = "share",
    rank: Annotated[
        int,
        of_ranks.rank(
            largest_rank,
            "numbers that sum up the states",
            "How many numbers pass from step to step and on to the next layer.",
        ),
    ] = DEFAULT_RANK,
    energy: Annotated[
        float,
        of_ranks.energy("How much of its sum of squares the matrix keeps that the projection is cut from."),
    ] = 0.9,
    share: Annotated[
        float,
        of_ranks.share(
            "How many weights the thin matrices and the projection may have, against the matrices before.",
            "share of the weights of the matrices that change",
        ),
    ] = 0.5,
    cut_from: Annotated[
        str,
        Choice(
            label="Projection",
            help="Which matrix's strongest directions the projection keeps.",
            options={
                "recurrent": "for the recurrent matrix, as in the paper: the next one takes what it gets",
                "both": "for both, stacked: the least error of all matrices together",
            },
            redraws=True,
        ),
    ] = "recurrent",
) -> tuple[Bundle, Report]:
    """Sum up the states of an LSTM in fewer numbers, which its recurrence and the next layer read instead.

    P (r x h) are the first right singular vectors of the recurrent matrix. W_h becomes Z_h P, and the next
    layer's matrix Z_x P, both by least squares: Z = W P^T (P P^T)^-1. This is exactly an nn.LSTM with
    `proj_size` = r, followed by layers that read r inputs. All layers of one nn.LSTM have the same rank.

    An LSTM that would not have fewer weights stays as it is; its matrices for what enters it do so, too, and
    zeros and codes of earlier steps do not survive. Nothing is trained: put `finetune` behind it, then
    `quantize`. Raises SlimscopeError for models without an LSTM, and where no LSTM can have a projection: it
    reads both ways, is called several times, or its states go on to something else than linear layers and
    LSTMs, as they are.
    """
    layers, unfit = projecting.found(bundle, cut_from == "both")
    value = {"rank": rank, "energy": energy, "share": share}[by]
    ranks = {layer.label: _rank(layer, by, value) for layer in layers}
    used = [(layer, ranks[layer.label]) for layer in layers if layer.saves(ranks[layer.label])]
    params, arch = projecting.projected(bundle, used)
    table = shared_projection.table(bundle, layers, ranks, unfit)
    changed = [name for layer, _ in used for level in layer.levels for name in level.names]
    decoded = [name for name in changed if not isinstance(bundle.params[name], Dense)]
    after = bundle.become(params, arch)
    return after, Report(
        (*told.figures(table), *reports.costs(bundle, after)),
        {"layers": table},
        (
            *reports.reasons("Stay as they are:", shared_projection.reasons(layers, ranks, unfit)),
            *reports.named("The factors of", decoded, " are 32-bit floats again: quantize after this step."),
        ),
    )


def _rank(layer: Recurrent, by: str, value: float) -> int:
    """What a setting means for an LSTM; no projection has as many numbers as there are states."""
    match by:
        case "energy":
            return projection.rank_for_energy(layer.joints, value)
        case "share":
            return projection.rank_for_share(layer.joints, value)
    return min(int(value), layer.joints[0].states - 1)
