"""ZeroQ: calibrate ranges of activations with images that are distilled from batch-norm, not with data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Data, Samples
from engine.figures import measure, reports, rounding
from engine.net import distilled, rounded_inputs, zoo
from engine.net.distilled import Distilled, Pixels
from engine.net.rounded_inputs import Plan
from engine.recipe import settings
from engine.recipe.knobs import Slider
from engine.recipe.technique import Cost, technique
from engine.tensor import grids
from engine.tensor.formats import AffineGrid
from engine.tensor.granularity import named
from engine.types import Basis, Bundle, Figure, Progress, Report, weight_layers

CHECKED = 1000  # validation samples that calibrations are compared on
SCANNED = (8, 4, 2)  # bits of one layer, the others floats
SHOWN = 5  # images that are kept for the report
SOURCES = ("distilled images", "training images", "noise")
LAYER_COLUMNS = (*rounding.COLUMNS, *(f"kl_{bits}_bits" for bits in SCANNED))
COMPARED_COLUMNS = ("ranges_from", "images", "accuracy", "low", "high", "change", "change_low", "change_high")
IMAGE_COLUMNS = ("step", "image", "channels", "height", "width", "pixels")


@technique(
    family="quantize",
    title="ZeroQ",
    reference="Cai et al. 2020, ZeroQ: A Novel Zero Shot Quantization Framework, arXiv 2001.00281",
    stage=703,
    runs="trains",
    cost=lambda chosen: Cost(chosen["steps"], images=chosen["images"]),
    locality="model",
    tables={
        "layers": LAYER_COLUMNS,
        "compared": COMPARED_COLUMNS,
        "distillation": ("step", "loss"),
        "images": IMAGE_COLUMNS,
        "activations": rounded_inputs.COLUMNS,
    },
    possible=distilled.check,
    aha="A trained model remembers what its data were like: batch-norm keeps the mean and spread of each "
    "channel. Noise that is moved until it has these can stand in for data.",
    trap="Distilled images look like no photo and need not: they bring ranges back, nothing else. At 8 bits "
    "noise may do as well: compare at 4.",
    presets={
        "gentle": {"bits": 8, "activation_bits": 8},
        "balanced": {},
        "extreme": {"bits": 4, "activation_bits": 4, "steps": 500},
    },
)
def zeroq(
    bundle: Bundle,
    data: Data,
    *,
    bits: Annotated[int, settings.trained_bits("Bits", "Width of a weight's code.")] = 6,
    activation_bits: Annotated[
        int, settings.trained_bits("Activation bits", "Width of the codes of what enters a layer.")
    ] = 6,
    steps: Annotated[
        int,
        Slider(
            low=10,
            high=500,
            step=10,
            whole=True,
            unit="steps",
            label="Steps",
            help="How often the images are moved; each step sees all of them.",
        ),
    ] = 200,
    images: Annotated[
        int,
        Slider(
            low=16,
            high=128,
            step=16,
            whole=True,
            unit="images",
            label="Images",
            help="How many are distilled; as many training images and as much noise are compared.",
        ),
    ] = 64,
    seed: Annotated[int, settings.seed("Fixes the noise that distillation begins with.")] = 0,
    progress: Progress,
) -> tuple[Bundle, Report]:
    """Distil images from the statistics of batch-norm, and read the ranges of activations from them.

    Weights are rounded to nearest, asymmetric, with a scale for each output; what enters layers is rounded by
    the smallest and largest value that the images show. No data are used for that, but how pixels are scaled;
    the report alone runs validation images, with ranges from training images and from noise for comparison.
    `layers` has the mean KL divergence of answers to the distilled images, in nat, where this layer's weights
    alone are rounded. Refused for models without batch-norm. Raises Cancelled through `progress`.
    """
    distilled.check(bundle)
    names, pixels = weight_layers(bundle), pixels_of(data)
    others = (data.train.stratified(images).inputs(), distilled.noise(bundle, images, seed + 1, pixels))
    done = [calibrated_by(shown, bundle, bits, activation_bits) for shown in others]
    found = distilled.distil(bundle, images, steps, seed, pixels, progress.part(0.0, 0.8))
    after, activations, floats = calibrated_by(found.images, bundle, bits, activation_bits)
    models = dict(zip(SOURCES, (after, *(each[0] for each in done)), strict=True))
    compared, change = _compared(bundle, models, data.validation.stratified(CHECKED), images)
    grid = {x: param for x, name in names.items() if isinstance(param := after.params[name], AffineGrid)}
    layers = _layers(bundle, names, grid, found.images, progress.part(0.8, 1.0))
    tables = {
        "layers": layers,
        "compared": compared,
        "distillation": pd.DataFrame({"step": range(1, steps + 1), "loss": found.losses}),
        "images": _images(found),
        "activations": activations,
    }
    inputs = ", and their own mean and deviation to 0 and 1" if pixels else ""
    notes = (
        f"{images} images, moved to the statistics of batch-norm{inputs}: no data were used for ranges.",
        *reports.named("What enters these layers stays 32-bit floats:", floats),
    )
    return after, Report((*change, *_figures(compared, found), *rounding.figures(layers)), tables, notes)


def pixels_of(data: Data) -> Pixels | None:
    """How pixels are scaled; None where that is not known."""
    return Pixels(data.train.mean, data.train.std) if data.train.mean else None


def calibrated_by(
    images: Tensor, bundle: Bundle, bits: int, activation_bits: int
) -> tuple[Bundle, pd.DataFrame, list[str]]:
    """The bundle with rounded weights, and inputs of layers rounded by the extremes that images show.

    With it a row for each layer, and the layers whose inputs stay floats (`rounded_inputs.calibrated`).
    """
    names = weight_layers(bundle)
    grid = {name: _rounded(bundle, name, bits) for name in names.values()}
    weights = bundle.become({**bundle.params, **grid})
    return rounded_inputs.calibrated(
        weights, images, names, Plan(activation_bits, False, False, "minmax", 100.0)
    )


def _rounded(bundle: Bundle, name: str, bits: int) -> AffineGrid:
    return grids.quantize(bundle.params[name].decode(), bits, False, named("channel", 1))


def _compared(
    before: Bundle, models: Mapping[str, Bundle], samples: Samples, images: int
) -> tuple[pd.DataFrame, tuple[Figure, ...]]:
    """A row for each source of ranges, with changes from the model before; and the first one's figures."""
    original, rows = measure.predictions(before, samples), []
    answers = {source: measure.predictions(model, samples) for source, model in models.items()}
    for source, given in answers.items():
        _, accuracy, change = measure.before_and_after(original, given, samples.labels)
        assert accuracy.spread is not None
        assert change.spread is not None
        rows.append((source, images, accuracy.value, *accuracy.spread, change.value, *change.spread))
    figures = measure.before_and_after(original, answers[SOURCES[0]], samples.labels)
    return pd.DataFrame(rows, columns=COMPARED_COLUMNS), figures


def _figures(compared: pd.DataFrame, found: Distilled) -> tuple[Figure, ...]:
    how = "share of the same validation samples right, with ranges of activations from as many"
    others = [
        Figure(
            f"validation accuracy, ranges from {row['ranges_from']}",
            row["accuracy"],
            "share",
            Basis.MEASURED,
            f"{how} {row['ranges_from']}; Wilson 95 % interval",
            (row["low"], row["high"]),
        )
        for row in compared.to_dict("records")[1:]
    ]
    left = found.losses[-1] / found.losses[0] if found.losses[0] > 0 else 0.0
    how = "loss before the last step over that of noise: squared differences of means and deviations"
    return (*others, Figure("distance from the statistics", left, "share", Basis.MEASURED, how))


def _layers(
    bundle: Bundle,
    names: Mapping[str, str],
    grid: Mapping[str, AffineGrid],
    images: Tensor,
    progress: Progress,
) -> pd.DataFrame:
    """What rounding costs each layer's weights, and the model's answers where it is the only one rounded."""
    net = zoo.fork(bundle).eval()
    whole, rows = _answers(net, images), []
    for number, (label, name) in enumerate(names.items()):
        values = bundle.params[name].decode()
        row = rounding.row(label, values, grid[label])
        for bits in SCANNED:
            with torch.no_grad():
                net.get_parameter(name).copy_(_rounded(bundle, name, bits).decode())
            row[f"kl_{bits}_bits"] = float(measure.kl(whole, _answers(net, images)).value)
        with torch.no_grad():
            net.get_parameter(name).copy_(values)
        rows.append(row)
        progress((number + 1) / len(names))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


@torch.no_grad()
def _answers(net: nn.Module, images: Tensor) -> Tensor:
    answers: Tensor = net(images)
    return answers


def _images(found: Distilled) -> pd.DataFrame:
    """Some images at some steps: pixels as bytes in hex digits, from an image's darkest to its brightest."""
    rows = []
    for step, images in found.seen.items():
        for number, image in enumerate(images[:SHOWN] if images.dim() == 4 else []):
            low, high = image.min(), image.max()
            grey = ((image - low) / (high - low).clamp(min=1e-12) * 255).to(torch.uint8)
            rows.append((step, number, *image.shape, grey.numpy().tobytes().hex()))
    return pd.DataFrame(rows, columns=IMAGE_COLUMNS)
