"""What the reports of several techniques say alike: counts of zeros, and notes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pandas as pd
from torch import Tensor

from engine.data.sets import Data
from engine.figures import count
from engine.net.processor import has_bfloat16
from engine.tensor import masks
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure

LAYER_COLUMNS = ("layer", "weights", "kept", "removed", "sparsity", "threshold", "energy_kept")


def layer_table(values: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> pd.DataFrame:
    """What masks leave of the layers that have one, in the order of the values: columns LAYER_COLUMNS."""
    rows = [{"layer": x, **masks.summary(values[x], kept[x])} for x in values if x in kept]
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def named(before: str, layers: Iterable[str], after: str = ".") -> list[str]:
    """A note that names some layers; none where there are none.

    >>> named("Left out:", ["fc1", "fc2"]), named("Left out:", [])
    (['Left out: fc1, fc2.'], [])
    """
    text = ", ".join(layers)
    return [f"{before} {text}{after}"] * bool(text)


def reasons(before: str, why: Mapping[str, str]) -> list[str]:
    """A note with the reason of each layer that is left as it was."""
    return named(before, ["; ".join(f"{layer}, {reason}" for layer, reason in why.items())] * bool(why))


def trained_on(data: Data) -> str:
    return f"Trained on {len(data.train):,} samples of {data.name}."


def multiplied(precision: str) -> tuple[str, ...]:
    """What is to be said where a training was to multiply in 16 bits and could not."""
    if precision == "float32" or has_bfloat16():
        return ()
    return ("This processor has no bfloat16: all was multiplied in 32 bits.",)


def removed(layers: pd.DataFrame) -> tuple[Figure, Figure]:
    """Zeros, and their share, of a table with one row per layer: columns `weights` and `removed`."""
    weights, zeros = int(layers["weights"].sum()), int(layers["removed"].sum())
    how = "zeros / weights of the layers that this step may touch; biases left out"
    return (
        Figure("weights removed", zeros, "weights", Basis.COUNTED, "zeros after this step, in its layers"),
        Figure("sparsity of the pruned layers", zeros / max(weights, 1), "share", Basis.COUNTED, how),
    )


def output_errors(
    layers: pd.DataFrame, errors: Mapping[str, str], how: Callable[[pd.Series], str]
) -> tuple[Figure, ...]:
    """Output errors of the layer where the first is worst: column -> name; none where the last is not known.

    `how` says of that layer's row by which protocol they were measured.
    """
    first, *_, last = errors
    known = layers.dropna(subset=[last])
    if known.empty:
        return ()
    worst = known.sort_values(first).iloc[-1]
    said = how(worst)
    return tuple(
        Figure(name, float(worst[column]), "share", Basis.MEASURED, said) for column, name in errors.items()
    )


def costs(before: Bundle, after: Bundle) -> tuple[Figure, ...]:
    """Multiply-adds and parameters before and after a step."""
    return (
        replace(count.macs(before), name="multiply-adds before"),
        replace(count.macs(after), name="multiply-adds after"),
        replace(count.parameters(before), name="parameters before"),
        count.parameters(after),
    )


def emptied(layers: pd.DataFrame) -> list[str]:
    """A note where no weight is left in a layer: columns `layer` and `kept`."""
    empty = layers.loc[layers["kept"] == 0, "layer"]
    return named("No weight is left in", empty, ": nothing but biases passes this layer.")


def floats_again(layers: Iterable[str], why: str) -> list[str]:
    """A note on layers whose codes a step could not keep."""
    text = ", ".join(layers)
    return [f"{text} are 32-bit floats again{why}"] * bool(text)


def decoded(before: Bundle, step: str = "this step") -> list[str]:
    """A note where a training, that of `step`, made 32-bit floats of what had been quantized."""
    coded = [name for name, param in before.params.items() if not isinstance(param, Dense)]
    after = (
        f" had been quantized and returned to 32-bit floats: put quantize after {step} to have codes again"
    )
    return [", ".join(coded) + after] * bool(coded)
