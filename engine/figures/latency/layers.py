"""The time of each layer on this machine, on floats and on 8-bit codes: what a budget of time goes by.

A layer is timed alone, in ONNX Runtime, with what enters it in its model. On codes it makes codes of floats
first and floats of codes at its end; in a model these two steps fall away between two layers on codes, so
the sum over layers is rather too long than too short.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from onnx import TensorProto, helper
from torch import Tensor

from engine.data.sets import Samples
from engine.figures import onnx_run, widths
from engine.figures.latency import stopwatch
from engine.figures.latency.stopwatch import REPEATS
from engine.figures.mixed_bits import INTEGER
from engine.figures.widths import AS_IT_IS, Rounding
from engine.file import onnx_file
from engine.file.onnx_file import running
from engine.file.onnx_file.alone import GIVEN, READ, Alone
from engine.net import processor
from engine.types import Bundle, Figure, SlimscopeError, weight_layers

TURNS = 2 * REPEATS  # rounds: a layer takes microseconds


@dataclass(frozen=True)
class LayerTime:
    """One layer's time as it is, on floats, and on codes; `why` it has none of these."""

    layer: str
    floats: Figure
    integers: Figure | None
    why: str


@dataclass(frozen=True)
class LayerTimes:
    """All layers that could be timed, the whole model on floats beside them, and whose times these are."""

    rows: tuple[LayerTime, ...]
    whole: Figure
    processor: str

    @property
    def table(self) -> dict[str, dict[str, float]]:
        """As the setting `times` of mixed precision has it: milliseconds, to a millionth."""
        return {
            row.layer: {
                str(bits): max(round(time.value, 6), 0.0)
                for bits, time in ((INTEGER, row.integers), (AS_IT_IS, row.floats))
                if time is not None
            }
            for row in self.rows
        }


def layer_times(bundle: Bundle, ranges: Samples, inputs: Tensor, repeats: int = TURNS) -> LayerTimes:
    """Times for these inputs (n, ...) at once, one thread; grids of inputs are found on samples of `ranges`.

    All layers, on floats and on codes, the whole model and an empty call take turns, in another order each
    round; the empty call is subtracted. Raises SlimscopeError for a model that ONNX does not know, for inputs
    that are rounded already, and for less than 30 repeats.
    """
    if repeats < REPEATS or not len(inputs):
        raise SlimscopeError(f"repeats is {repeats}, batch {len(inputs)}: allowed are {REPEATS}, 1 or more")
    labels = {name: label for label, name in weight_layers(bundle).items()}
    how, unsigned = Rounding("channel", "minmax", ranges), onnx_run.needs_unsigned()
    codes = widths.rounded(bundle, tuple((name, INTEGER) for name in labels), how)
    on_integers, others, _ = onnx_run.of_layers(onnx_file.write(codes, inputs, unsigned=unsigned))
    chosen = [name for name in labels if onnx_file.layer_of(name) in on_integers]
    plain = onnx_file.alone(bundle, inputs, list(labels), coded=False)
    coded = onnx_file.alone(codes, inputs, chosen, coded=True, unsigned=unsigned)
    whole = running.session(onnx_file.write_floats(bundle, inputs))
    calls: list[Callable[[], object]] = [_empty(), partial(running.answer, whole, inputs)]
    calls += [_call(each) for each in (*plain.values(), *coded.values())]
    with stopwatch.ALONE:
        taken = stopwatch.timed(calls, repeats) / 1e6
    turns = (
        f"{repeats} runs in turns, {stopwatch.WARM_UP} before, ONNX Runtime, batch {len(inputs)}, 1 thread"
    )
    own = f"median of {turns}, this layer alone, an empty call subtracted; spread: quartiles"
    spent = [stopwatch.median("latency", each - taken[:, 0], "ms", own) for each in taken.T[2:]]
    floats = dict(zip(plain, spent[: len(plain)], strict=True))
    integers = dict(zip(coded, spent[len(plain) :], strict=True))
    reasons = dict(others)
    rows = tuple(
        LayerTime(labels[name], time, integers.get(name), reasons.get(onnx_file.layer_of(name), ""))
        for name, time in floats.items()
    )
    how_long = f"median of {turns}, the float file of the whole model; spread: quartiles"
    return LayerTimes(rows, stopwatch.median("latency", taken[:, 1], "ms", how_long), processor.name())


def _call(layer: Alone) -> partial[object]:
    run = running.session(layer.data)
    return partial(run.run, None, {READ: layer.inputs})


def _empty() -> partial[object]:
    """A call that does nothing: what any call costs."""
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in (READ, GIVEN)]
    graph = helper.make_graph([helper.make_node("Identity", [READ], [GIVEN])], "empty", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return partial(running.session(model.SerializeToString()).run, None, {READ: torch.zeros(1).numpy()})


def predicted(times: Mapping[str, Mapping[str, float]], bits: Mapping[str, int], whole: float) -> float:
    """Milliseconds of a model: those of the whole on floats, and what each layer with its bits differs by.

    >>> predicted({"a": {"8": 1.0, "32": 3.0}, "b": {"32": 2.0}}, {"a": 8, "b": 32}, 6.0)
    4.0
    """
    saved = (
        own[str(AS_IT_IS)] - own.get(str(INTEGER), own[str(AS_IT_IS)])
        for layer, own in times.items()
        if bits.get(layer, AS_IT_IS) <= INTEGER
    )
    return whole - sum(saved)
