"""Bits dealt out to layers under a budget of bytes or of time, and the tables that say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from engine.figures import reports
from engine.figures.widths import AS_IT_IS, LISTED
from engine.tensor import bit_budget
from engine.types import Basis, Figure, SlimscopeError

BYTES, TIME = "bytes", "nanoseconds"  # what a budget is of: columns of `told`
INTEGER = 8  # bits that a processor multiplies where a layer has at most as many
FASTEST = (INTEGER, AS_IT_IS)  # the widths that differ in time
LAYER_COLUMNS = ("layer", "weights", "bits", "bytes", "sensitivity", "squared_error", TIME, "uniform_bits")
TRIED = ("predicted", "measured", "accuracy", "low", "high", "change", "change_low", "change_high")
TABLES = {
    "layers": LAYER_COLUMNS,
    "models": ("model", "bits_per_weight", "bytes", *TRIED),
    "widths": (*LISTED, "sensitivity", TIME),
}
ROUNDED = 1e-9  # of a budget: settings are written with ten digits
NO_TIMES = (
    "No times of layers are known yet, so all of them stay as they are: measure them on this machine, on the "
    "page of Mixed precision or by `slimscope latency MODEL --layers`."
)
NOT_FASTER = (
    "Below 8 bits nothing is faster here: convolutions and linear layers of the ONNX file multiply 8-bit "
    "codes, and narrower ones run as these. So a layer has 8 bits, or stays as it is."
)


@dataclass(frozen=True)
class Deal:
    """Layer -> its bits, and the largest width for all that fits the budget, too; None where none does."""

    bits: Mapping[str, int]
    uniform: int | None

    @property
    def same(self) -> dict[str, int]:
        """The uniform width for each layer."""
        return {} if self.uniform is None else dict.fromkeys(self.bits, self.uniform)


def limit(budget: float, weights: int) -> int:
    """Bytes of so many weights at a budget of bits a weight.

    >>> limit(2.5, 100)
    31
    """
    return int(budget * weights / 8 * (1 + ROUNDED))


def time_limit(share: float, told: pd.DataFrame) -> int:
    """Nanoseconds of a share of what the layers in a table take as they are."""
    return int(share * int(told.loc[told["bits"] == AS_IT_IS, TIME].sum()) * (1 + ROUNDED))


Times = Mapping[str, Mapping[str, float]]  # layer -> milliseconds: {"32": as it is, "8": on integers}


def check(times: Times) -> None:
    """Raises SlimscopeError where times are below zero, or lack the layer as it is."""
    for layer, own in times.items():
        if str(AS_IT_IS) not in own or min(own.values()) < 0:
            raise SlimscopeError(
                f"times[{layer}] is {dict(own)}: allowed are milliseconds from 0 on, one of them for "
                f"{AS_IT_IS} bits"
            )


def timed(told: pd.DataFrame, times: Times) -> pd.DataFrame:
    """The table with a column TIME.

    A layer that has no time on integers takes as long at any width, and one without times counts for nothing.

    >>> rows = pd.DataFrame({"layer": ["a", "a", "b"], "bits": [8, 32, 8]})
    >>> timed(rows, {"a": {"8": 0.5, "32": 2.0}})["nanoseconds"].tolist()
    [500000, 2000000, 0]
    """

    def spent(layer: str, bits: int) -> int:
        own = times.get(layer, {})
        floats = own.get(str(AS_IT_IS), 0.0)
        return round(1e6 * (own.get(str(INTEGER), floats) if bits <= INTEGER else floats))

    return told.assign(**{TIME: list(map(spent, told["layer"], told["bits"]))})


def deal(told: pd.DataFrame, budget: int, cost: str = BYTES) -> Deal:
    """The widths within a budget that lose least in all, exactly; `told` is of `widths.told`.

    The budget is of BYTES, or of TIME where the table is `timed`. Raises SlimscopeError where the cheapest
    widths take more.
    """
    groups = [rows for _, rows in told.groupby("layer", sort=False)]
    costs, losses = ([rows[name].tolist() for rows in groups] for name in (cost, "sensitivity"))
    places = bit_budget.least_loss(costs, losses, budget).places
    chosen = [rows.iloc[place] for rows, place in zip(groups, places, strict=True)]
    spent = told.groupby("bits")[cost].sum()
    fits = spent[spent <= budget].index
    return Deal({row["layer"]: int(row["bits"]) for row in chosen}, int(max(fits)) if len(fits) else None)


def least(told: pd.DataFrame, cost: str = BYTES) -> int:
    """What the cheapest widths of all layers take together."""
    return int(told.groupby("layer")[cost].min().sum())


def at(told: pd.DataFrame, bits: Mapping[str, int]) -> pd.DataFrame:
    """The rows of a table of layers and widths at these bits, one for each layer."""
    return told[told["bits"] == told["layer"].map(bits)].reset_index(drop=True)


def notes(told: pd.DataFrame, dealt: Deal, sensitivity: str, leave_out: Sequence[str]) -> tuple[str, ...]:
    """What a report says beside its tables."""
    flat = told.groupby("layer", sort=False)["sensitivity"].max()
    none_below = sensitivity == "trace"
    at_zero = "The trace is estimated at zero or below in"
    return (
        *reports.named("Left out:", leave_out),
        *reports.named(at_zero, flat.index[(flat <= 0) & none_below], ": the narrowest width is theirs."),
        *(["No width for all layers fits this budget."] if dealt.uniform is None and dealt.bits else []),
    )


def too_small(told: pd.DataFrame, cost: str, weights: int) -> str:
    """What is said where a budget holds not even the cheapest widths."""
    if cost == TIME:
        whole = told.loc[told["bits"] == AS_IT_IS, TIME].sum()
        return (
            f"The budget is too small: as fast as they can be here, these layers take "
            f"{100 * least(told, TIME) / whole:.3g} % of their time as they are."
        )
    return (
        f"The budget is too small: in {told['bits'].min()} bits, the narrowest width that is allowed, these "
        f"layers take {8 * least(told) / weights:.4g} bits a weight with their scales."
    )


def layer_table(told: pd.DataFrame, weights: Mapping[str, int], dealt: Deal) -> pd.DataFrame:
    """A row for each layer: columns LAYER_COLUMNS; without `uniform_bits` where no width for all fits."""
    mine = at(told, dealt.bits)
    table = mine.assign(weights=mine["layer"].map(weights), uniform_bits=dealt.uniform)
    without = {"uniform_bits"} if dealt.uniform is None else set()
    return table[[name for name in LAYER_COLUMNS if name in table and name not in without]]


def time_figures(told: pd.DataFrame, dealt: Deal) -> tuple[Figure, ...]:
    """What the chosen widths, and the layers as they are, take together by the table."""
    how = "sum over layers of the measured times in the setting `times`, each layer alone in ONNX Runtime"
    sums = {
        "predicted time of the layers": at(told, dealt.bits),
        "time of the layers as they are": told[told["bits"] == AS_IT_IS],
    }
    return tuple(
        Figure(name, float(rows[TIME].sum()) / 1e6, "ms", Basis.MODELLED, how) for name, rows in sums.items()
    )
