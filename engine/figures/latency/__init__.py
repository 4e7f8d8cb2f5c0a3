"""Is it faster here? Every variant of a model that can run on this machine, timed side by side.

A variant is timed only where it answers as the model itself does. One sentence for each says why it is or
is not faster, and follows from the times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.figures import count
from engine.figures.latency import stopwatch, variants, verdicts
from engine.figures.latency.empty import without_zero_channels
from engine.figures.latency.sparse import break_even
from engine.figures.latency.stopwatch import REPEATS, Comparison
from engine.figures.latency.variants import CSR, ONNX, TORCH, Variant
from engine.net import kinds, sources, zoo
from engine.types import Basis, Bundle, Figure, SlimscopeError

CLOSE = 1e-4  # how far a variant's outputs may lie from the net's own, over the largest of them (1 at least)
LEAST_LINEAR = 0.05  # of all weights must be in linear layers for a sparse variant to be one
ORIGINAL, CUT = "Original, dense", "Zero channels cut out"


@dataclass(frozen=True)
class Row:
    """One variant: its time, how many times as fast it is as the original in the same runtime, its size, why.

    A variant that was not timed has no `time`; what all others are compared with has no `speed_up`.
    """

    form: str
    runtime: str
    time: Figure | None
    speed_up: Figure | None
    size: Figure | None
    why: str


@dataclass(frozen=True)
class _Times:
    """Milliseconds of each (variant, runtime) in each round, and how they were taken."""

    taken: Mapping[tuple[str, str], Tensor]
    how: str

    def compare(self, before: tuple[str, str], now: tuple[str, str]) -> Comparison:
        return stopwatch.compare(self.taken[before], self.taken[now], self.how)


def latency(before: Bundle, now: Bundle, batch: int = 1, repeats: int = REPEATS) -> tuple[Row, ...]:
    """Time of one forward pass of the original and of every variant of this net, on this machine.

    One thread, `batch` real test images. After a warm-up the variants take turns, in another order each
    round, so that drift hits all alike. Times in ms are medians, their spread the quartiles; a
    speed-up is the median of the ratios inside each round. Variants that can't be had, or
    whose outputs differ from this net's, are rows without a time. Raises SlimscopeError for fewer
    than 30 repeats, an empty batch, nets that read different data, or no known architecture.
    """
    if repeats < REPEATS or batch < 1:
        raise SlimscopeError(f"repeats is {repeats}, batch {batch}: allowed are {REPEATS} or more, 1 or more")
    first, second = sources.task(before.arch), sources.task(now.arch)
    if first != second:
        raise SlimscopeError(
            f"{before.arch.title} reads {first}, {now.arch.title} reads {second}: no comparison"
        )
    images = sources.data(before.arch).test
    inputs = images.inputs(torch.arange(batch) % len(images))
    with stopwatch.ALONE, torch.inference_mode():
        return _measured(before, now, inputs, repeats)


def _measured(before: Bundle, now: Bundle, inputs: Tensor, repeats: int) -> tuple[Row, ...]:
    here, cut, linear = name_of(before, now), without_zero_channels(now), variants.linear_share(now)
    found: list[Variant | Row] = [
        variants.through_torch(ORIGINAL, before, inputs),
        variants.through_torch(here, now, inputs),
        variants.in_csr(now, inputs) if linear >= LEAST_LINEAR else _not_timed(CSR, _few_linear(linear)),
        _not_timed(CUT, cut) if isinstance(cut, str) else variants.through_torch(CUT, cut, inputs),
        variants.through_onnx(ORIGINAL, before, inputs),
        _through_onnx(here, now, inputs),
    ]
    expected = {bundle: zoo.build(bundle)(inputs) for bundle in (before, now)}
    found = [
        each if isinstance(each, Row) else _checked(each, expected[before if each.name == ORIGINAL else now])
        for each in found
    ]
    run = [each for each in found if isinstance(each, Variant)]
    taken = stopwatch.timed([variant.answer for variant in run], repeats) / 1e6
    turns = f"{repeats} runs in turns, {stopwatch.WARM_UP} before"
    times = _Times(
        {(variant.name, variant.runtime): taken[:, i] for i, variant in enumerate(run)},
        f"median of {turns}, batch {len(inputs)}, 1 thread; spread: quartiles",
    )
    bundles = {} if isinstance(cut, str) else {CUT: cut}
    return tuple(
        _row(each, times, before, bundles.get(each.name, now), len(inputs))
        if isinstance(each, Variant)
        else each
        for each in found
    )


def _through_onnx(name: str, bundle: Bundle, inputs: Tensor) -> Variant | Row:
    try:
        return variants.through_onnx(name, bundle, inputs)
    except SlimscopeError as error:  # a layer that torch has and ONNX has not
        return _not_timed(name, f"{error}.", ONNX)


def _row(variant: Variant, times: _Times, before: Bundle, now: Bundle, batch: int) -> Row:
    """The timed variant, compared with the original in the same runtime."""
    name, runtime = variant.name, variant.runtime
    compared = times.compare((ORIGINAL, runtime), (name, runtime))
    if name == ORIGINAL:
        why = "What the other rows of this runtime are compared with."
        if runtime == ONNX:
            why += f" {verdicts.why_runtime(times.compare((ORIGINAL, TORCH), (ORIGINAL, ONNX)))}"
        return Row(name, runtime, compared.now, None, variant.size, why)
    in_rows = name == CSR
    why = _why_in_csr(before, now, times, batch) if in_rows else verdicts.why(before, now, compared)
    return Row(name, runtime, compared.now, compared.ratio, variant.size, why)


def _why_in_csr(before: Bundle, now: Bundle, times: _Times, batch: int) -> str:
    """Judged against the same layers dense: against the original, a smaller net would be its own reason."""
    same = now.arch == before.arch
    compared = times.compare((ORIGINAL if same else name_of(before, now), TORCH), (CSR, TORCH))
    layer, weight = variants.largest_linear(now)
    zeros, others = 1 - int(weight.count_nonzero()) / weight.numel(), 1 - variants.linear_share(now)
    why = verdicts.why_csr(compared, layer, zeros, break_even(weight, batch))
    why = why if same else f"Against this model with dense layers: {why[0].lower()}{why[1:]}"
    rest = f" The other layers, with {verdicts.share(others)} of the weights, stay dense."
    return f"{why}{rest}" if others else why


def _not_timed(name: str, why: str, runtime: str = TORCH) -> Row:
    return Row(name, runtime, None, None, None, f"Not timed: {why}")


def _checked(found: Variant, expected: Tensor) -> Variant | Row:
    """The variant, or a row without a time where it answers otherwise than the net itself."""
    off = float((found.answer() - expected).abs().max())
    if off <= CLOSE * max(1.0, float(expected.abs().max())):
        return found
    why = f"its outputs differ from the model's own by up to {off:.2g}, so it is not the same model."
    return _not_timed(found.name, why, found.runtime)


def _few_linear(share: float) -> str:
    return (
        f"only linear layers have a CSR kernel in PyTorch, convolutions and LSTMs have none: in this model "
        f"linear layers hold {verdicts.share(share)} of the weights."
    )


def seconds(before: Bundle, now: Bundle, batch: int = 1) -> Figure:
    """About how long `latency` will take. Raises SlimscopeError where the architecture is unknown."""
    layers = kinds.layer_count(before) + kinds.layer_count(now)
    runs = (stopwatch.WARM_UP + 2 * REPEATS) * batch * (2 * kinds.work(before) + 4 * kinds.work(now))
    how = "0.3 s + 0.04 s a layer to make the forms + 1 s for 30 thousand million units of work in all runs"
    return Figure("time to measure", 0.3 + 0.04 * layers + runs / 3e10, "seconds", Basis.MODELLED, how)


def name_of(before: Bundle, now: Bundle) -> str:
    """What this net is physically, beside the original.

    >>> net = zoo.load("mlp-32")
    >>> name_of(net, net)
    'This model'
    """
    work = verdicts.work_left(before, now)
    if work is None:
        work = count.parameters(now).value / count.parameters(before).value
    if work < 1:
        return "This model, physically smaller"
    return "This model, zeros in place" if count.sparsity(now).value > 0 else "This model"
