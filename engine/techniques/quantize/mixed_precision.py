"""Mixed precision: bits for each layer by how much its rounding matters, within bytes or time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

from engine.data.sets import Data
from engine.figures import mixed_bits, mixed_trial, widths
from engine.figures.mixed_bits import BYTES, FASTEST, TIME
from engine.figures.mixed_trial import Trial
from engine.figures.widths import AS_IT_IS, Question, Rounding
from engine.net import sources
from engine.recipe import settings
from engine.recipe.knobs import Choice, Entries, Slider
from engine.recipe.technique import technique
from engine.types import Bundle, Report, weight_layers

ALLOWED: Mapping[str, tuple[int, ...]] = {"any": tuple(range(2, 9)), "powers": (2, 4, 8), "hardware": (4, 8)}
OF_BYTES, OF_TIME = (("limit", ("bytes",)),), (("limit", ("time",)),)


@technique(
    family="quantize",
    title="Mixed precision",
    reference="Dong et al. 2020, HAWQ-V2, arXiv 1911.03852; Cai et al. 2020, ZeroQ, arXiv 2001.00281 (KL); "
    "Wang et al. 2019, HAQ, arXiv 1811.08886 (time)",
    page="mixed",
    stage=701,
    runs="seconds",
    locality="model",
    tables=mixed_bits.TABLES,
    aha="Layers are not alike: a bit more in a small layer that the loss notices costs few bytes, and a bit "
    "less in a large one that it hardly notices pays for many of them.",
    trap="What layers lose alone is added up, and together they lose something else: compare the prediction "
    "with what is measured. And a uniform width comes in whole bits: it may leave part of the budget unused.",
    presets={"gentle": {"budget": 4.5}, "balanced": {}, "extreme": {"budget": 2.0}},
    needs_model=True,
    possible=sources.need_classes,
)
def mixed_precision(
    bundle: Bundle,
    data: Data,
    *,
    limit: Annotated[
        str,
        Choice(
            label="Budget of",
            help="What is scarce: bytes in the file, or measured time on this machine.",
            options={
                "bytes": "bytes in the file",
                "time": "time: a layer runs on 8-bit codes, weights and inputs, or on floats",
            },
            added=True,
        ),
    ] = "bytes",
    budget: Annotated[
        float,
        Slider(
            low=0.1,
            high=8.0,
            step=0.05,
            unit="bits a weight",
            label="Budget",
            help="What the weights may take in the file, on average: codes as they are coded there, and "
            "their scales. Floats take 32, so 4 is an eighth of their bytes.",
            when=OF_BYTES,
        ),
    ] = 3.0,
    share: Annotated[
        float,
        Slider(
            low=0.05,
            high=1.5,
            step=0.01,
            percent=True,
            unit="of the layers' time on floats",
            label="Time",
            help="How long the layers may take together, by the table of their times.",
            when=OF_TIME,
            added=True,
        ),
    ] = 0.7,
    times: Annotated[
        Mapping[str, Mapping[str, float]],
        Entries(
            label="Times",
            help="Milliseconds of each layer as it is (32) and on 8-bit codes (8), as they were measured.",
            most=AS_IT_IS + 1,
            when=OF_TIME,
            added=True,
        ),
    ] = settings.NONE,
    sensitivity: Annotated[
        str,
        Choice(
            label="Sensitivity",
            help="How it is told what a layer loses at a width.",
            options=widths.SENSITIVITIES,
        ),
    ] = "kl",
    allowed: Annotated[
        str,
        Choice(
            label="Widths",
            help="Which widths a layer may have.",
            options={
                "any": "2, 3, 4, 5, 6, 7 or 8 bits",
                "powers": "2, 4 or 8 bits: a byte holds a whole number of codes",
                "hardware": "4 or 8 bits: what processors and accelerators multiply",
            },
            when=OF_BYTES,
        ),
    ] = "any",
    granularity: Annotated[
        str,
        replace(settings.one_per("scale", "How many weights share one step size of 32 bits."), advanced=True),
    ] = "channel",
    range: Annotated[
        str,
        Choice(
            label="Range",
            help="Which values the grid spans; what lies outside is clipped to its ends.",
            options={
                "minmax": "from the smallest to the largest: nothing is clipped, outliers widen all steps",
                "mse": "the clip with the least squared error, of 100 that are tried",
            },
        ),
    ] = "minmax",
    samples: Annotated[
        int,
        replace(
            settings.samples(
                "On how many training samples sensitivity is told.",
                when=(("sensitivity", ("trace", "curvature", "kl", "accuracy")),),
            ),
            advanced=True,
        ),
    ] = 50,
    checked: Annotated[
        int,
        Slider(
            low=100,
            high=5000,
            step=100,
            whole=True,
            unit="validation samples",
            label="Measured on",
            help="On how many validation samples the result and its uniform counterpart are compared.",
            advanced=True,
        ),
    ] = 1000,
    seed: Annotated[
        int, settings.seed("Fixes the training samples, and the vectors of the trace's estimate.")
    ] = 0,
    leave_out: Annotated[Sequence[str], settings.leave_out("Layers that are not touched.")] = (),
) -> tuple[Bundle, Report]:
    """Give each layer the bits with which the model is expected to lose least within a budget of bytes.

    For each layer and width it is worked out what the layer takes in the file, with its scales, and what the
    model loses by it alone, on training samples. Of all combinations within the budget the one of the least
    sum is taken, exactly. Rounding is symmetric. Beside it stands the largest width for all layers that fits
    the budget, too; both are measured on validation samples. Biases and normalisation stay 32-bit floats, and
    nothing is trained. Where even the narrowest widths exceed the budget, all layers have them, with a note.

    A budget of time is dealt out in the same way, by the measured table `times`: a layer stays as it is, or
    has 8-bit weights and inputs. Narrower codes are multiplied as 8-bit ones, and would not be faster.
    """
    sources.need_classes(bundle)
    names = {layer: name for layer, name in weight_layers(bundle).items() if layer not in leave_out}
    weights = {layer: math.prod(bundle.params[name].shape) for layer, name in names.items()}
    in_time, total = limit == "time", sum(weights.values())
    mixed_bits.check(times)
    bits, cost = ALLOWED[allowed], BYTES
    if in_time:
        bits, cost = (FASTEST, TIME) if times else ((AS_IT_IS,), BYTES)
    how = Rounding(granularity, range, data.train if in_time else None)
    asked = Question(bundle, tuple(names.items()), bits, how, data.train, samples, seed)
    told = widths.told(asked, sensitivity)
    told = mixed_bits.timed(told, times) if cost == TIME else told
    least = mixed_bits.least(told, cost)
    most = mixed_bits.limit(budget, total)
    if in_time:
        most = mixed_bits.time_limit(share, told) if times else least
    dealt = mixed_bits.deal(told, max(most, least), cost)
    after = widths.rounded(bundle, tuple((names[layer], own) for layer, own in dealt.bits.items()), how)
    trial = Trial(bundle, names, how, sensitivity, data.validation, checked)
    figures, models = mixed_trial.compared(trial, told, dealt, after, total)
    tables = {"layers": mixed_bits.layer_table(told, weights, dealt), "models": models, "widths": told}
    notes = mixed_bits.notes(told, dealt, sensitivity, leave_out)
    if in_time:
        figures += mixed_bits.time_figures(told, dealt) if times else ()
        notes += (mixed_bits.NOT_FASTER if times else mixed_bits.NO_TIMES,)
    if least > most:
        notes += (mixed_bits.too_small(told, cost, total),)
    return after, Report(figures, tables, notes)
