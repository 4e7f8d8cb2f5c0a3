"""Why an ONNX file is or is not faster than the float file of the original: one sentence, from the times."""

from __future__ import annotations

from engine.figures.latency import verdicts
from engine.figures.latency.stopwatch import Comparison, Pace
from engine.net import processor
from engine.tensor.formats import AffineGrid
from engine.types import Bundle


def sentence(before: Bundle, now: Bundle, compared: Comparison, integers: int, floats: int) -> str:
    """`integers` layers multiply 8-bit codes, and `floats` with weights in codes do not.

    It names the processor's instructions for such products, or says that nobody tells them.
    """
    has = f"this processor has {processor.byte_instructions(processor.flags())}"
    if not integers:
        said = verdicts.why(before, now, compared)
        coded = any(isinstance(param, AffineGrid) for param in now.params.values())
        return (
            f"{said} No layer multiplies 8-bit codes, so it does not matter here that {has}."
            if coded
            else said
        )
    if noise := verdicts.noise_of(compared):
        return f"{noise} {_layers(integers, floats)}; {has}."
    lead = verdicts.lead_of(compared)
    if compared.pace is Pace.FASTER:
        return f"{lead}: {_layers(integers, floats)}, and {has}."
    costs = "rounding and bounding codes between layers is extra work"
    if floats:
        costs = f"{costs}, and floats are made of codes again before the others"
    return f"{lead}, although {_layers(integers, floats)} and {has}; {costs}."


def _layers(integers: int, floats: int) -> str:
    """How many layers multiply codes.

    >>> _layers(1, 0), _layers(2, 3)
    ('the one layer with weights multiplies 8-bit codes', '2 of 5 layers with weights multiply 8-bit codes')
    """
    whole = integers + floats
    if whole == 1:
        return "the one layer with weights multiplies 8-bit codes"
    return f"{integers} of {whole} layers with weights multipl{'y' if integers > 1 else 'ies'} 8-bit codes"
