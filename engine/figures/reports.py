"""What the reports of several techniques say alike: counts of zeros, and notes."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from engine.figures import count
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure


def removed(layers: pd.DataFrame) -> tuple[Figure, Figure]:
    """Zeros, and their share, of a table with one row per layer: columns `weights` and `removed`."""
    weights, zeros = int(layers["weights"].sum()), int(layers["removed"].sum())
    how = "zeros / weights of the layers that this step may touch; biases left out"
    return (
        Figure("weights removed", zeros, "weights", Basis.COUNTED, "zeros after this step, in its layers"),
        Figure("sparsity of the pruned layers", zeros / max(weights, 1), "share", Basis.COUNTED, how),
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
    empty = layers.loc[layers["kept"] == 0, "layer"].tolist()
    return [f"No weight is left in {', '.join(empty)}: nothing but biases passes this layer."] * bool(empty)


def decoded(before: Bundle, step: str = "this step") -> list[str]:
    """A note where a training, that of `step`, made 32-bit floats of what had been quantized."""
    coded = [name for name, param in before.params.items() if not isinstance(param, Dense)]
    said = (
        f"{', '.join(coded)} had been quantized and returned to 32-bit floats: "
        f"put quantize after {step} to have codes again"
    )
    return [said] * bool(coded)
