"""Quantize-aware training: weights and what enters layers are rounded while the model trains."""

from __future__ import annotations

from typing import Annotated

from engine.data.sets import Data
from engine.figures import few_bits
from engine.figures.few_bits import CURVE, LAYER_COLUMNS, STEP_COLUMNS, Widths
from engine.recipe import settings
from engine.recipe.knobs import Choice
from engine.recipe.technique import Cost, technique
from engine.types import Bundle, Progress, Report


@technique(
    family="quantize",
    title="Quantize-aware training",
    reference="Esser et al. 2020, Learned Step Size Quantization, arXiv 1902.08153",
    stage=724,
    runs="trains",
    cost=lambda chosen: Cost(2 * chosen["epochs"]),  # rounding takes about as long as all else
    locality="model",
    tables={"curve": CURVE, "steps": STEP_COLUMNS, "layers": LAYER_COLUMNS},
    aha="The model learns to live with few levels: rounding that ruins it when it comes afterwards costs "
    "little when the weights, and the distance between the levels, have trained with it.",
    trap="The gradient is a pretence: rounding has none, and the training acts as if it were not there. And "
    "an 8-bit first and last layer may hold most of the bytes of a small model.",
    presets={
        "gentle": {"bits": 4, "activation_bits": 4},
        "balanced": {"bits": 3, "activation_bits": 3},
        "extreme": {"bits": 2, "activation_bits": 2},
    },
)
def quantize_aware(
    bundle: Bundle,
    data: Data,
    *,
    bits: settings.TrainedBits = 3,
    activations: settings.RoundInputs = True,
    activation_bits: settings.InputBits = 3,
    end_bits: settings.EndBits = 8,
    step_sizes: Annotated[
        str,
        Choice(
            label="Step sizes",
            help="What a gradient reaches beside the weights.",
            options={
                "learned": "step sizes train with the weights (LSQ)",
                "fixed": "they stay as they begin: weights alone train (straight-through)",
            },
        ),
    ] = "learned",
    epochs: Annotated[int, settings.epochs("How often the model sees all training samples.")] = 5,
    learning_rate: settings.RateWithSteps = 0.01,
    granularity: settings.TrainedGranularity = "tensor",
    weight_decay: settings.WeightDecay = 5e-5,
    keep_zeros: settings.KeepZeros = True,
    grid: settings.FirstGrid = "new",
    precision: settings.AddedPrecision = "float32",
    seed: settings.OrderSeed = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Trains weights and layers' inputs while they are rounded; codes and step sizes are stored as trained.

    Forward, values are rounded; backward, the gradient passes as if they were not (straight-through). Step
    sizes begin at 2 <|v|> / sqrt(Q) and have LSQ's own gradient, times 1 / sqrt(N Q). Biases and
    normalisation train along as 32-bit floats. Stochastic gradient descent with Nesterov momentum 0.9, batch
    128, a cosine schedule; images are moved by a few pixels, and photos mirrored. What was rounded before
    starts from its rounded values; with grid = 'own' on its own grid, in that grid's bits. Raises Cancelled
    through `progress`.
    """
    widths = Widths(bits, activation_bits if activations else None, end_bits)
    start = few_bits.begin(bundle, data, widths, granularity, keep_zeros, grid)
    plan = few_bits.plan(epochs, learning_rate, weight_decay, precision, seed)
    after, rows = few_bits.train(start, data, plan, progress, "net", learned=step_sizes == "learned")
    return after, few_bits.report(bundle, start, after, data, plan, rows)
