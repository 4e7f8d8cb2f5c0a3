"""Trim: what changes no answer goes: units that say nothing, and bits of biases and scales."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Annotated, Any

import pandas as pd
from torch import Tensor

from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.net import constants, sources
from engine.net.constants import Dead
from engine.recipe.knobs import Slider, Toggle
from engine.recipe.technique import technique
from engine.tensor import mantissas
from engine.tensor.formats import AffineGrid, Dense, Levels
from engine.types import Basis, Bundle, Figure, Param, Report, weight_layers

BIASES, SCALES = "biases and norms", "scales"
COLUMNS = ("layer", "outputs", "unread", "constant", "kept")
NUMBERS = ("what", "numbers", "mantissa", "largest change")


@technique(
    family="quantize",
    title="Trim",
    reference="Serra 2020, Lossless Compression of Deep Neural Networks, arXiv 2001.00218; "
    "Kalamkar 2019, A Study of BFLOAT16, arXiv 1905.12322",
    stage=730,
    runs="seconds",
    locality="model",
    tables={"layers": COLUMNS, "numbers": NUMBERS},
    presets={"gentle": {"changed": 0.0}, "balanced": {"changed": 0.002}, "extreme": {"changed": 0.01}},
    needs_model=True,
    possible=sources.need_classes,
)
def trim(
    bundle: Bundle,
    data: Data,
    *,
    changed: Annotated[
        float,
        Slider(
            low=0.0,
            high=0.02,
            step=0.001,
            unit="share of validation samples",
            percent=True,
            label="Answers that may change",
            help="On how many of the validation samples the predicted class may be another one afterwards.",
        ),
    ] = 0.0,
    dead: Annotated[
        bool,
        Toggle(
            label="Dead units",
            help="Take out units that nobody reads or nothing enters: the next bias gets their constant.",
        ),
    ] = True,
    fewer_bits: Annotated[
        bool,
        Toggle(
            label="Fewer bits",
            help="Round biases, normalisation and scales to the fewest bits with which the answers stay.",
        ),
    ] = True,
    samples: Annotated[
        int,
        Slider(
            low=100,
            high=5000,
            step=100,
            whole=True,
            unit="validation samples",
            label="Samples",
            help="On how many validation samples answers are compared.",
        ),
    ] = 1000,
) -> tuple[Bundle, Report]:
    """Removes what changes no answer, or few: dead units, and mantissa bits of numbers beside the weights.

    A unit whose own weights are all zero gives a constant: it goes, and the bias of the next layer takes the
    constant over. Biases, normalisation and scales then lose as many bits as validation samples allow.
    Anything that would change more answers than allowed is not done. Nothing is trained.
    """
    sources.need_classes(bundle)
    sample = data.validation.stratified(samples)
    answers = measure.predictions(bundle, sample)

    def agrees(other: Bundle) -> bool:
        return int((measure.predictions(other, sample) != answers).sum()) <= changed * len(sample)

    gone = constants.dead_channels(bundle, data.validation) if dead else {}
    after = constants.without(bundle, gone, data.validation)
    if gone and not agrees(after):
        gone, after = {}, bundle
    before, rows = after, []
    for what in (BIASES, SCALES) if fewer_bits else ():
        after, bits = _fewest_bits(after, what, agrees)
        rows.append(_number_row(before, after, what, bits))
    numbers = pd.DataFrame(rows, columns=NUMBERS)
    tables = {"layers": _layer_rows(bundle, after, gone), "numbers": numbers}
    figures = _figures(bundle, after, gone, numbers, sample, answers)
    return after, Report(figures, tables, _notes(gone, numbers))


# ---------------------------------------------------------------- fewer bits


def _fewest_bits(bundle: Bundle, what: str, agrees: Callable[[Bundle], bool]) -> tuple[Bundle, int]:
    """The bundle with the fewest bits that bisection finds, and how many: 23 where none are spared."""
    best, low, high = bundle, 1, mantissas.FULL
    while low < high and _numbers(bundle, what):
        middle = (low + high) // 2
        tried = _rounded(bundle, what, middle)
        if agrees(tried):
            best, high = tried, middle
        else:
            low = middle + 1
    return best, high


def _rounded(bundle: Bundle, what: str, bits: int) -> Bundle:
    return bundle.become({name: _with(param, what, bits) for name, param in bundle.params.items()})


def _with(param: Param, what: str, bits: int) -> Param:
    match param:
        case Dense() if what == BIASES and len(param.shape) < 2:
            return Dense(mantissas.rounded(param.values, bits))
        case AffineGrid() | Levels() if what == SCALES:
            return replace(param, scale=mantissas.rounded(param.scale, bits))
    return param


def _numbers(bundle: Bundle, what: str) -> list[Tensor]:
    """What there is to round, one tensor for each parameter."""
    found = []
    for param in bundle.params.values():
        match param:
            case Dense() if what == BIASES and len(param.shape) < 2:
                found.append(param.values)
            case AffineGrid() | Levels() if what == SCALES:
                found.append(param.scale)
    return found


# ---------------------------------------------------------------- what the report says


def _number_row(before: Bundle, after: Bundle, what: str, bits: int) -> dict[str, Any]:
    pairs = list(zip(_numbers(before, what), _numbers(after, what), strict=True))
    largest = max((float((a - b).abs().max()) for a, b in pairs if a.numel()), default=0.0)
    return {
        "what": what,
        "numbers": sum(a.numel() for a, _ in pairs),
        "mantissa": bits,
        "largest change": largest,
    }


def _layer_rows(before: Bundle, after: Bundle, gone: Mapping[str, Dead]) -> pd.DataFrame:
    none = Dead()
    rows = [
        {
            "layer": layer,
            "outputs": before.params[name].shape[0],
            "unread": len(gone.get(layer, none).unread),
            "constant": len(gone.get(layer, none).constant),
            "kept": after.params[name].shape[0],
        }
        for layer, name in weight_layers(before).items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _figures(
    before: Bundle,
    after: Bundle,
    gone: Mapping[str, Dead],
    numbers: pd.DataFrame,
    sample: Samples,
    answers: Tensor,
) -> tuple[Figure, ...]:
    now = measure.predictions(after, sample)
    differ, n = int((now != answers).sum()), len(sample)
    units = sum(len(each.all) for each in gone.values())
    return (
        Figure("units removed", units, "units", Basis.COUNTED, "nobody reads them, or nothing enters them"),
        Figure("answers changed", differ / n, "share", Basis.MEASURED, f"{differ} of {n} validation samples"),
        replace(measure.paired_difference(answers, now, sample.labels), name="validation accuracy change"),
        *(
            Figure(f"mantissa of {row['what']}", row["mantissa"], "bits", Basis.COUNTED, "of 23 bits")
            for row in numbers.to_dict("records")
            if row["numbers"]
        ),
    )


def _notes(gone: Mapping[str, Dead], numbers: pd.DataFrame) -> tuple[str, ...]:
    units = [f"{len(each.all)} of {name}" for name, each in gone.items()]
    bits = [f"{row['mantissa']} of 23 bits" for row in numbers.to_dict("records") if row["numbers"]]
    notes = [f"Units that are gone: {', '.join(units)}."] if units else []
    if bits:
        notes.append(
            f"Mantissas of biases and scales keep {' and '.join(bits)}; last bits that are zero cost nothing."
        )
    return tuple(notes)
