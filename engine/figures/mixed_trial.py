"""A deal of bits measured: what was predicted beside what is, and beside the same bits for all layers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd
from torch import Tensor

from engine.data.sets import Samples
from engine.figures import loss_change, measure
from engine.figures.mixed_bits import TABLES, Deal, at
from engine.figures.widths import Rounding, Widths, rounded
from engine.file import packfile
from engine.memory import remembered
from engine.net import incremental
from engine.types import Basis, Bundle, Figure

ADDED = "sum over layers of the sections that each one's codes and scales become"


@dataclass(frozen=True, eq=False)
class Trial:
    """How a deal is measured: the model before it, layers (label -> weight's name), rounding, samples."""

    before: Bundle
    names: Mapping[str, str]
    how: Rounding
    sensitivity: str
    samples: Samples
    count: int

    def outputs(self, bits: Mapping[str, int]) -> Tensor:
        """What the model answers with these layers in their bits, all at once: (n, classes)."""
        widths = tuple((self.names[layer], own) for layer, own in bits.items())
        return _outputs(self.before, widths, self.how, self.samples, self.count)

    def loss(self, before: Tensor, after: Tensor, labels: Tensor) -> Figure:
        """What the sensitivity predicts, as it is on the samples, with its normal 95 % interval."""
        unit = "nat"
        if self.sensitivity == "kl":
            name = "KL of the outputs"
            each = loss_change.kl(before, after)
        elif self.sensitivity == "accuracy":
            name, unit = "accuracy lost", "share"
            wrong = [(answers.argmax(1) != labels).double() for answers in (before, after)]
            each = wrong[1] - wrong[0]
        else:
            name = "loss increase"
            each = loss_change.loss(before, after, labels)
        how = f"mean over {len(each)} validation samples, all layers rounded; normal 95 % interval"
        return loss_change.mean(name, each, unit, how)


@remembered
def _outputs(bundle: Bundle, widths: Widths, how: Rounding, samples: Samples, count: int) -> Tensor:
    return incremental.logits(rounded(bundle, widths, how), samples.stratified(count), keep=False)[0]


def compared(
    trial: Trial, told: pd.DataFrame, dealt: Deal, after: Bundle, weights: int
) -> tuple[tuple[Figure, ...], pd.DataFrame]:
    """Figures of a deal, and a row for it and for the uniform width: columns of TABLES.

    `after` is the model with the deal's widths.
    """
    labels = trial.samples.stratified(trial.count).labels
    before, mixed = trial.outputs({}), trial.outputs(dealt.bits)
    found = {"mixed": _tried(trial, at(told, dealt.bits), before, mixed, labels)}
    figures = [*_in_the_file(trial, after, weights), *found["mixed"].values()]
    if dealt.uniform is not None:
        even = trial.outputs(dealt.same)
        found["uniform"] = _tried(trial, at(told, dealt.same), before, even, labels)
        how = "the largest width that all layers can have within the budget"
        gain = measure.paired_difference(even.argmax(1), mixed.argmax(1), labels)
        figures += [
            Figure("uniform bits", dealt.uniform, "bits", Basis.COUNTED, how),
            *(
                replace(each, name=f"{each.name} at uniform bits")
                for name, each in found["uniform"].items()
                if name in ("bytes", "accuracy")
            ),
            replace(gain, name="validation accuracy gain over uniform bits"),
        ]
    rows = [{"model": name, **_row(each, weights)} for name, each in found.items()]
    return tuple(figures), pd.DataFrame(rows, columns=TABLES["models"]).dropna(axis=1, how="all")


def _in_the_file(trial: Trial, after: Bundle, weights: int) -> tuple[Figure, Figure]:
    """What the layers' weights take in the packed file of `after`."""
    sizes = packfile.sections(after)
    real = int(sizes.loc[sizes["tensor"].isin(trial.names.values()), "bytes"].sum())
    how = "sections of these layers' weights in the packed file of the whole model, scales included"
    return (
        Figure(
            "bits per weight", 8 * real / max(weights, 1), "bits", Basis.MEASURED, f"{how}, over the weights"
        ),
        Figure("bytes of the weights", real, "B", Basis.MEASURED, how),
    )


def _tried(
    trial: Trial, rows: pd.DataFrame, before: Tensor, after: Tensor, labels: Tensor
) -> dict[str, Figure]:
    """What is predicted of the widths in `rows`, and what is measured."""
    loss, predicted = trial.loss(before, after, labels), float(rows["sensitivity"].sum())
    how = "sum over layers of what each loses alone, as training samples tell"
    figures = {
        "bytes": Figure("predicted bytes", int(rows["bytes"].sum()), "B", Basis.MODELLED, ADDED),
        "predicted": Figure(f"predicted {loss.name}", predicted, loss.unit, Basis.MODELLED, how),
        "measured": loss,
        "accuracy": replace(measure.accuracy_of(after.argmax(1), labels), name="validation accuracy"),
        "change": replace(
            measure.paired_difference(before.argmax(1), after.argmax(1), labels),
            name="validation accuracy change",
        ),
    }
    if trial.sensitivity == "error":  # squared error says nothing of the loss
        del figures["predicted"]
    return figures


def _row(tried: Mapping[str, Figure], weights: int) -> dict[str, float]:
    ends = {name: tried[name].spread or (math.nan, math.nan) for name in ("accuracy", "change")}
    return {
        **{name: each.value for name, each in tried.items()},
        "bits_per_weight": 8 * tried["bytes"].value / max(weights, 1),
        **dict(zip(("low", "high"), ends["accuracy"], strict=True)),
        **dict(zip(("change_low", "change_high"), ends["change"], strict=True)),
    }
