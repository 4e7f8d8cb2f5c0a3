"""A model on integers alone beside the simulated one, which rounds as it does but computes in floats.

Jacob et al. 2018, arXiv 1712.05877: 8-bit codes, 32-bit sums and biases, fixed-point multipliers. The two
differ where a sum lies so near to the middle between two codes that the last digits of floats decide.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.data.sets import Samples
from engine.figures import measure
from engine.figures.integer_only.program import Program, compiled
from engine.file.onnx_file.traced import MIDDLE
from engine.net import zoo
from engine.net.surgery import InputQuantizer
from engine.tensor import fixed_point
from engine.types import Basis, Bundle, Figure

AT_ONCE = 100  # samples
COLUMNS = ("layer", "largest_lsb", "mean_lsb", "largest_lsb_alone", "largest_sum", "sum_bits", "fits")


@dataclass(frozen=True)
class Compared:
    """`layers` has a row for each layer, columns COLUMNS: the codes that enter it, in steps (LSB) apart.

    `alone` is with the simulated codes in all layers before. `largest_sum` is how far from zero its
    32-bit sums may ever lie, whatever the input, which takes `sum_bits` bits with the sign.
    """

    layers: pd.DataFrame
    figures: tuple[Figure, ...]
    first: str
    notes: tuple[str, ...]


def compared(bundle: Bundle, samples: Samples) -> Compared:
    """Both models on all samples. Raises SlimscopeError for a bundle that is not run on integers here."""
    program = compiled(bundle, samples.inputs(slice(0, 2)))
    net = zoo.fork(bundle).eval()
    codes = _tapped(net)
    outputs: list[tuple[Tensor, Tensor]] = []
    lsb: dict[str, list[float]] = {}
    for start in range(0, len(samples), AT_ONCE):
        inputs = samples.inputs(slice(start, start + AT_ONCE))
        with torch.no_grad():
            simulated = net(inputs)
        found, seen = program.run(inputs)
        _, alone = program.run(inputs, codes)
        outputs.append((simulated, found))
        for layer, own in codes.items():
            now = (own - seen[layer]).abs()
            row = lsb.setdefault(layer, [0.0, 0.0, 0.0, 0.0])
            row[0] = max(row[0], float(now.max()))
            row[1] += float(now.sum())
            row[2] = max(row[2], float((own - alone[layer]).abs().max()))
            row[3] += now.numel()
    simulated, found = (torch.cat(each) for each in zip(*outputs, strict=True))
    layers = pd.DataFrame([_row(layer, lsb[layer], program) for layer in program.largest], columns=COLUMNS)
    return Compared(layers, _figures(simulated, found, samples), _first(simulated, found), _notes(layers))


def _tapped(net: nn.Module) -> dict[str, Tensor]:
    """Layer -> the unsigned codes of what entered it last; filled as the net runs."""
    codes: dict[str, Tensor] = {}

    def tap(name: str) -> Callable[..., None]:
        def note(module: InputQuantizer, args: Any, output: Tensor) -> None:
            shift = MIDDLE if module.symmetric else 0
            codes[name] = torch.round(output / module.scale).long() + int(module.zero) + shift

        return note

    for name, module in net.named_modules():
        if isinstance(module, InputQuantizer) and name.endswith("input_quantizer"):
            module.register_forward_hook(tap(name.rpartition(".")[0]))
    return codes


def _row(layer: str, lsb: list[float], program: Program) -> dict[str, Any]:
    largest, total, alone, numbers = lsb
    reach = program.largest[layer]
    return {
        "layer": layer,
        "largest_lsb": int(largest),
        "mean_lsb": total / numbers,
        "largest_lsb_alone": int(alone),
        "largest_sum": reach,
        "sum_bits": reach.bit_length() + 1,
        "fits": reach < fixed_point.WORD,
    }


def _figures(simulated: Tensor, found: Tensor, samples: Samples) -> tuple[Figure, ...]:
    n = len(samples)
    how = f"|output on integers - output of the simulated model|, over {n:,} samples"
    off = Figure(
        "largest output difference", float((simulated - found).abs().max()), "output", Basis.MEASURED, how
    )
    if not samples.is_labelled:  # of a language model the layers before attention are no chain
        return (off,)
    both = [outputs.argmax(1) for outputs in (simulated, found)]
    how = f"samples of {n:,} that both put into the same class"
    same = float((both[0] == both[1]).float().mean())
    before, now = (measure.accuracy_of(answers, samples.labels) for answers in both)
    return (
        replace(now, name="accuracy on integers"),
        replace(before, name="accuracy, simulated"),
        Figure("equal predictions", same, "share", Basis.MEASURED, how),
        off,
    )


def _first(simulated: Tensor, found: Tensor) -> str:
    """The first sample that the two see otherwise, in a sentence."""
    if simulated.dim() != 2:
        return ""
    one, other = simulated.argmax(1), found.argmax(1)
    rows = (one != other).nonzero().flatten()
    if len(rows) == 0:
        return f"Both put all {len(one):,} samples into the same classes."
    row = int(rows[0])
    gaps = [float(each[row].topk(2).values.diff().abs()) for each in (simulated, found)]
    return (
        f"Sample {row} of these {len(one):,} is the first of {len(rows)} that differ: class {int(one[row])} "
        f"simulated, ahead by {gaps[0]:.3g}, and {int(other[row])} on integers, ahead by {gaps[1]:.3g}."
    )


def _notes(layers: pd.DataFrame) -> tuple[str, ...]:
    wide = layers.loc[~layers["fits"], "layer"].tolist()
    overflow = (
        f"Sums of {', '.join(wide)} may leave 32 bits for some input; they wrap around there."
        if wide
        else "No input can bring a sum beyond 32 bits."
    )
    return (
        overflow,
        "Multipliers are 31-bit mantissas with a shift; products are rounded once, halves away from zero.",
        "ReLU and other bounds are bounds of codes; averages are 32-bit sums. The terms of a residual sum "
        "are brought to one 32-bit scale, finer than codes. Attention and recurrent layers are not done.",
    )
