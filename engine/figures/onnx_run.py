"""An ONNX file, run before it is offered: its answers, bytes and time, and which layers multiply integers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial

import onnx
import torch
from torch import Tensor

from engine.data import user_errors
from engine.data.sets import Samples
from engine.figures import measure, onnx_why
from engine.figures.latency import stopwatch
from engine.figures.latency.stopwatch import REPEATS, Comparison
from engine.file import onnx_file
from engine.file.onnx_file import OnnxFile, floats, running
from engine.file.onnx_file.traced import INPUT
from engine.net import answers as kept
from engine.net import incremental, processor
from engine.types import Basis, Bundle, Figure, SlimscopeError

AT_ONCE = 100  # samples
CLOSE = 1e-4  # how far outputs without rounding may be off, over the largest of them (1 at least)
LEFT = "the runtime leaves its products in floats on this machine"


@dataclass(frozen=True)
class Tried:
    """A file that was run: its figures, the layers that multiply integers, and what works on floats.

    `floats` has, for each other layer whose weights are codes, why; `operators` are those on floats
    beside layers, where any layer multiplies integers. `unsigned` is about weights.
    """

    data: bytes = field(repr=False)
    figures: tuple[Figure, ...]
    integers: tuple[str, ...]
    floats: tuple[tuple[str, str], ...]
    operators: tuple[str, ...]
    unsigned: bool
    why: str

    def figure(self, name: str) -> Figure | None:
        """The figure of that name; None where it can't be measured."""
        return next((figure for figure in self.figures if figure.name == name), None)


def tried(
    before: Bundle,
    now: Bundle,
    samples: Samples,
    *,
    batch: int = 1,
    repeats: int = REPEATS,
    unsigned: bool | None = None,
) -> Tried:
    """The file of `now`, run on all samples, and timed in turns with the float file of `before`.

    `unsigned` weights are for processors that add products of 8-bit codes in 16 bits; by default what this
    one needs. Raises SlimscopeError for a bundle that can't be written, for a batch of no samples, and for a
    file without rounding that answers otherwise than the bundle's own model.
    """
    if batch < 1 or repeats < REPEATS:
        raise SlimscopeError(f"batch is {batch}, repeats {repeats}: allowed are 1 or more, {REPEATS} or more")
    unsigned = needs_unsigned() if unsigned is None else unsigned
    example = samples.inputs(slice(0, 2))
    file = onnx_file.write(now, example, unsigned=unsigned, about=inputs_of(samples))
    first = onnx_file.write_floats(before, example)
    figures = _answers(file, now, samples)
    figures += [
        Figure("ONNX file", len(file.data), "B", Basis.MEASURED, "length of the file"),
        Figure("float ONNX file of the original", len(first), "B", Basis.MEASURED, "length of the file"),
    ]
    compared = _timed(first, file.data, samples.inputs(torch.arange(batch) % len(samples)), repeats)
    figures += [
        replace(compared.before, name="latency of the original"),
        compared.now,
        compared.ratio,
    ]
    integers, others, operators = of_layers(file)
    why = onnx_why.sentence(before, now, compared, len(integers), len(others))
    return Tried(file.data, tuple(figures), integers, others, operators, unsigned, why)


def needs_unsigned() -> bool:
    """Whether this processor adds products of signed weights up wrongly, as far as it says."""
    return not processor.multiplies_bytes(processor.flags())


def inputs_of(samples: Samples) -> str:
    """What a file is to be given, in a sentence.

    >>> inputs_of(Samples(torch.zeros(9, 1, 28, 28).byte(), torch.zeros(9), (0.1307,), (0.3081,)))
    'Input "inputs": (batch, 1, 28, 28), float32; pixels / 255, minus mean 0.1307, over deviation 0.3081.'
    """
    shape = ", ".join(map(str, samples.images.shape[1:]))
    kind = str(samples.inputs(slice(0, 1)).dtype).removeprefix("torch.")
    words = f'Input "{INPUT}": (batch, {shape}), {kind}'
    if samples.is_text:
        return f"{words}; numbers of word pieces, 0 behind the last."
    if not samples.mean:
        return f"{words}, as the data give it."
    mean, deviation = (", ".join(f"{each:g}" for each in numbers) for numbers in (samples.mean, samples.std))
    return f"{words}; pixels / 255, minus mean {mean}, over deviation {deviation}."


SAME_CLASS = "samples of {} that the file and the model put into the same class"
SAME_TOKEN = "tokens of {} that the file and the model think likeliest alike"


def _answers(file: OnnxFile, now: Bundle, samples: Samples) -> list[Figure]:
    """Accuracy of the file, and how far its outputs lie from those of the bundle's own model."""
    expected = incremental.logits(now, samples, keep=False)[0]
    with user_errors.own_errors(f"ONNX Runtime does not run the file of {now.arch.title}"):
        session = running.session(file.data)
        rows = range(0, len(samples), AT_ONCE)
        found = torch.cat([running.answer(session, samples.inputs(slice(i, i + AT_ONCE))) for i in rows])
    off = _difference(found, expected, now)
    if not samples.is_judged:
        return [off]
    answers, n = kept.of(found, samples), samples.labels.numel()
    equal = measure.right_of(answers, expected.argmax(1))
    how = (SAME_TOKEN if samples.is_read_on else SAME_CLASS).format(f"{n:,}")
    return [
        measure.accuracy_of(answers, samples.labels),
        Figure("equal predictions", equal, "share", Basis.MEASURED, how),
        off,
    ]


def _difference(found: Tensor, expected: Tensor, now: Bundle) -> Figure:
    if found.shape != expected.shape:
        raise SlimscopeError(
            f"the ONNX file of {now.arch.title} gives {tuple(found.shape)}, the model {tuple(expected.shape)}"
        )
    off, largest = float((found - expected).abs().max()), float(expected.abs().max())
    rounds = any(verb == "quantize_input" for verb, _ in now.arch.edits)
    if not rounds and not off <= CLOSE * max(1.0, largest):
        raise SlimscopeError(
            f"the ONNX file of {now.arch.title} answers otherwise than the model, by up to {off:.2g}: its "
            "forward does not do the same for all inputs, and a file can't follow that"
        )
    how = (
        f"output of the file - output of the model, over {len(found):,} samples; outputs reach {largest:.3g}"
    )
    if rounds:
        how += "; a last digit that falls the other way at a rounding moves a code by one step"
    return Figure("largest output difference", off, "output", Basis.MEASURED, how)


def _timed(before: bytes, now: bytes, inputs: Tensor, repeats: int) -> Comparison:
    calls = [partial(running.answer, running.session(data), inputs) for data in (before, now)]
    with stopwatch.ALONE:
        times = stopwatch.timed(calls, repeats) / 1e6
    turns = f"{repeats} runs in turns, {stopwatch.WARM_UP} before"
    how = f"median of {turns}, ONNX Runtime, batch {len(inputs)}, 1 thread; spread: quartiles"
    return stopwatch.compare(times[:, 0], times[:, 1], how)


def of_layers(file: OnnxFile) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...], tuple[str, ...]]:
    """Layers on integers as ONNX Runtime runs them here, why others are not, and operators on floats."""
    if not file.integers:
        return (), tuple((onnx_file.layer_of(name), why) for name, why in file.floats.items()), ()
    here = floats.layers_on_integers(running.optimized(file.data), file.integers)
    why = {**dict.fromkeys((name for name in file.integers if name not in here), LEFT), **file.floats}
    rest = floats.float_operators(onnx.load_from_string(file.data), here)
    return (
        tuple(onnx_file.layer_of(name) for name in file.integers if name in here),
        tuple((onnx_file.layer_of(name), said) for name, said in why.items()),
        tuple(f"{count} {kind}" for kind, count in sorted(rest.items())),
    )


SIGNED = (
    "Inputs are unsigned codes and weights signed ones, which is exact on this processor. One without VNNI "
    "may add up such products in 16 bits, which do not hold them: `slimscope export --unsigned` writes a "
    "file that is exact there."
)
UNSIGNED = "Inputs and weights are unsigned codes, which every processor multiplies exactly."


def told(found: Tried) -> list[str]:
    """What is said of a file beside its figures, sentence by sentence."""
    lines = [found.why]
    if found.integers:
        lines.append(f"Layers that multiply 8-bit integers: {', '.join(found.integers)}.")
    reasons: dict[str, list[str]] = {}
    for layer, why in found.floats:
        reasons.setdefault(why, []).append(layer)
    lines += [f"On floats: {', '.join(layers)}, because {why}." for why, layers in reasons.items()]
    if found.integers:
        rest = ", ".join(found.operators) or "none"
        lines += [f"Other operators on floats: {rest}.", UNSIGNED if found.unsigned else SIGNED]
    return lines
