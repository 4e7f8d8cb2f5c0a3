"""Is it faster here? Every form in which a net can run on this machine, timed side by side.

A form is the same net as a processor meets it: as it is, its linear layers in a sparse format, what is
zero throughout cut out, and through another runtime. A form is timed only where it answers as the
net itself does. One sentence for each says why it is or is not faster, and follows from the times.
"""

from __future__ import annotations

import io
import math
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import onnxruntime
import torch
from torch import Tensor, nn

from engine.data import sets
from engine.figures import count, theory
from engine.net import channels, kinds, zoo
from engine.net.surgery import replace_layer
from engine.tensor.formats import Dense
from engine.types import Basis, Bundle, Figure, SlimscopeError

WARM_UP = 10
REPEATS = 30  # fewer say little about a median
CLOSE = 1e-4  # how far a form's outputs may lie from the net's own, over the largest of them (1 at least)
NOISY = 1.5  # quartiles of a ratio further apart than this say nothing
LEAST_LINEAR = 0.05  # of all weights must be in linear layers for a sparse form to be one
SHARES = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995)  # of zeros, at which a layer is tried in CSR

TORCH, ONNX = "PyTorch", "ONNX Runtime"
ORIGINAL, CSR, CUT = "Original, dense", "Linear layers in CSR", "Zero channels cut out"

# The exporter keeps its state in globals, and two measurements at once would slow each other down.
_ALONE = threading.Lock()


@dataclass(frozen=True)
class Row:
    """One form: its time, how many times as fast it is as the original in the same runtime, its size, why.

    A form that was not timed has no `time`; what all others are compared with has no `speed_up`.
    """

    form: str
    runtime: str
    time: Figure | None
    speed_up: Figure | None
    size: Figure | None
    why: str


class Pace(StrEnum):
    """How two times compare."""

    FASTER = "faster"
    SLOWER = "slower"
    TIE = "tie"


@dataclass(frozen=True)
class _Form:
    """A form that can be run: `answer` gives the outputs (n, classes) to the batch that is timed."""

    name: str
    runtime: str
    answer: Callable[[], Tensor]
    size: Figure


def latency(before: Bundle, now: Bundle, batch: int = 1, repeats: int = REPEATS) -> tuple[Row, ...]:
    """Time of one forward pass of the original and of every form of this net, on this machine.

    One thread, `batch` real test images. After a warm-up the forms take turns, in another order each
    round, so that drift hits all alike. Times in ms are medians, their spread the quartiles; a
    speed-up is the median of the ratios inside each round. Forms that can't be had, or
    whose outputs differ from this net's, are rows without a time. Raises SlimscopeError for fewer
    than 30 repeats, an empty batch, nets that read different data, or no known architecture.
    """
    if repeats < REPEATS or batch < 1:
        raise SlimscopeError(f"repeats is {repeats}, batch {batch}: allowed are {REPEATS} or more, 1 or more")
    first, second = zoo.entry(before.arch.name).data, zoo.entry(now.arch.name).data
    if first != second:
        raise SlimscopeError(
            f"{before.arch.name} reads {first}, {now.arch.name} reads {second}: no comparison"
        )
    images = sets.load(first).test
    inputs = images.inputs(torch.arange(batch) % len(images))
    with _ALONE, torch.inference_mode():
        return _measured(before, now, inputs, repeats)


def _measured(before: Bundle, now: Bundle, inputs: Tensor, repeats: int) -> tuple[Row, ...]:
    here, cut, linear = name_of(before, now), without_zero_channels(now), linear_share(now)
    found: list[_Form | Row] = [
        _through_torch(ORIGINAL, before, inputs),
        _through_torch(here, now, inputs),
        _in_csr(now, inputs) if linear >= LEAST_LINEAR else _refused(CSR, _few_linear(linear)),
        _refused(CUT, cut) if isinstance(cut, str) else _through_torch(CUT, cut, inputs),
        _through_onnx(ORIGINAL, before, inputs),
        _through_onnx(here, now, inputs),
    ]
    expected = {bundle: zoo.build(bundle)(inputs) for bundle in (before, now)}
    rows = [
        form if isinstance(form, Row) else _checked(form, expected[before if form.name == ORIGINAL else now])
        for form in found
    ]
    forms = [form for form in rows if isinstance(form, _Form)]
    times = _timed([form.answer for form in forms], repeats) / 1e6
    turns = f"{repeats} runs in turns, {WARM_UP} before"
    how = f"median of {turns}, batch {len(inputs)}, 1 thread; spread: quartiles"
    known = {(form.name, form.runtime): times[:, i] for i, form in enumerate(forms)}
    narrow = now if isinstance(cut, str) else cut
    return tuple(
        form
        if isinstance(form, Row)
        else _row(form, known, how, before, narrow if form.name == CUT else now, inputs)
        for form in rows
    )


def _row(
    form: _Form,
    times: Mapping[tuple[str, str], Tensor],
    how: str,
    before: Bundle,
    now: Bundle,
    inputs: Tensor,
) -> Row:
    """The timed form, compared with the original in the same runtime."""
    own, reference = times[form.name, form.runtime], times[ORIGINAL, form.runtime]
    taken = _median("latency", own, "ms", how)
    if form.name == ORIGINAL:
        why = "What the other rows of this runtime are compared with."
        if form.runtime == ONNX:
            ours = times[ORIGINAL, TORCH]
            why += f" {_engines(_median('latency', ours, 'ms', how), taken, _ratio(ours, own, how))}"
        return Row(form.name, form.runtime, taken, None, form.size, why)
    ratio = _ratio(reference, own, how)
    dense = _median("latency", reference, "ms", how)
    if form.name == CSR:
        why = _why_in_csr(before, now, times, how, len(inputs))
    else:
        why = why_of(before, now, dense, taken, ratio)
    return Row(form.name, form.runtime, taken, ratio, form.size, why)


def _why_in_csr(
    before: Bundle, now: Bundle, times: Mapping[tuple[str, str], Tensor], how: str, batch: int
) -> str:
    """Judged against the same layers dense: against the original, a smaller net would be its own reason."""
    same = now.arch == before.arch
    dense, own = times[ORIGINAL if same else name_of(before, now), TORCH], times[CSR, TORCH]
    layer, weight = largest_linear(now)
    zeros, others = 1 - int(weight.count_nonzero()) / weight.numel(), 1 - linear_share(now)
    there, here = (_median("latency", values, "ms", how) for values in (dense, own))
    why = why_csr(there, here, _ratio(dense, own, how), layer, zeros, break_even(weight, batch))
    why = why if same else f"Against this net with dense layers: {why[0].lower()}{why[1:]}"
    return f"{why} The other layers, with {_share(others)} of the weights, stay dense." if others else why


def _refused(name: str, why: str) -> Row:
    return Row(name, TORCH, None, None, None, f"Not timed: {why}")


def _checked(form: _Form, expected: Tensor) -> _Form | Row:
    """The form, or a row without a time where it answers otherwise than the net itself."""
    off = float((form.answer() - expected).abs().max())
    if off <= CLOSE * max(1.0, float(expected.abs().max())):
        return form
    why = f"Not timed: its outputs differ from the net's own by up to {off:.2g}, so it is not the same net."
    return Row(form.name, form.runtime, None, None, None, why)


def seconds(before: Bundle, now: Bundle, batch: int = 1, repeats: int = REPEATS) -> Figure:
    """About how long `latency` will take. Raises SlimscopeError where the architecture is unknown."""
    layers = len(kinds.layer_macs(before)) + len(kinds.layer_macs(now))
    runs = (WARM_UP + 2 * repeats) * batch * (2 * kinds.work(before) + 4 * kinds.work(now))
    how = "0.3 s + 0.04 s a layer to make the forms + 1 s for 30 thousand million units of work in all runs"
    return Figure("time to measure", 0.3 + 0.04 * layers + runs / 3e10, "seconds", Basis.MODELLED, how)


# ---------------------------------------------------------------- the forms


def name_of(before: Bundle, now: Bundle) -> str:
    """What this net is physically, beside the original.

    >>> net = zoo.load("mlp-32")
    >>> name_of(net, net)
    'This net'
    """
    if count.macs(now).value < count.macs(before).value:
        return "This net, physically smaller"
    return "This net, zeros in place" if count.sparsity(now).value > 0 else "This net"


def _net(bundle: Bundle) -> nn.Module:
    """A copy of the net: weights that were read from a file may lie where kernels are slower to load them."""
    return zoo.fork(bundle).eval().requires_grad_(False)


def _through_torch(name: str, bundle: Bundle, inputs: Tensor) -> _Form:
    return _Form(name, TORCH, partial(_net(bundle), inputs), theory.dense_file(bundle))


def _through_onnx(name: str, bundle: Bundle, inputs: Tensor) -> _Form:
    model = to_onnx(bundle, inputs)
    size = Figure(
        "ONNX file", len(model), "bytes", Basis.MEASURED, "length of the file that the runtime reads"
    )
    session, feed = _session(model), inputs.numpy()
    return _Form(name, ONNX, lambda: torch.from_numpy(session.run(None, {"images": feed})[0]), size)


def to_onnx(bundle: Bundle, inputs: Tensor) -> bytes:
    """The net as an ONNX file for batches like `inputs`; decoded, so all its numbers are 32-bit floats."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        # The other exporter needs one more package; what this one warns of does not touch a fixed batch.
        warnings.simplefilter("ignore")
        names = {"input_names": ["images"], "output_names": ["logits"]}
        torch.onnx.export(zoo.build(bundle), (inputs,), file, dynamo=False, **names)  # type: ignore[arg-type]
    return file.getvalue()


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class SparseLinear(nn.Module):
    """A linear layer whose weight (out, in) is kept in compressed sparse rows with 32-bit indices.

    `F.linear` takes such a weight too, but through a kernel that is up to 30 times as slow.
    """

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.before = getattr(layer, "input_quantizer", nn.Identity())
        self.weight, self.bias = compressed(layer.weight), layer.bias

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, out) of inputs (n, in)."""
        x = self.before(x)
        return times_sparse(self.weight, x) if self.bias is None else times_sparse(self.weight, x) + self.bias


def compressed(weight: Tensor) -> Tensor:
    """A matrix in compressed sparse rows: a 4-byte value and a 4-byte column a non-zero weight."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the format is called beta
        sparse = weight.to_sparse_csr()
        rows, columns = sparse.crow_indices().int(), sparse.col_indices().int()
        return torch.sparse_csr_tensor(rows, columns, sparse.values(), weight.shape, check_invariants=True)


def times_sparse(weight: Tensor, x: Tensor) -> Tensor:
    """Inputs (n, in) times a compressed weight (out, in): (n, out). One sample has a kernel of its own."""
    return torch.mv(weight, x[0])[None] if len(x) == 1 else torch.mm(weight, x.t()).t()


def _in_csr(bundle: Bundle, inputs: Tensor) -> _Form:
    net, stored = _net(bundle), sum(4 * math.prod(param.shape) for param in bundle.params.values())
    for name, layer in _linear(net).items():
        stored += theory.csr_bits(layer.weight) // 8 - 4 * layer.weight.numel()
        replace_layer(net, name, SparseLinear(layer))
    how = "linear layers: 8 B a non-zero weight and 4 B a row and one more; all else 4 B a number"
    size = Figure("bytes in memory", stored, "bytes", Basis.COUNTED, how)
    return _Form(CSR, TORCH, partial(net, inputs), size)


def _linear(net: nn.Module) -> dict[str, nn.Linear]:
    return {name: module for name, module in net.named_modules() if isinstance(module, nn.Linear)}


def linear_share(bundle: Bundle) -> float:
    """Share of all weights that lie in linear layers, for which PyTorch has a sparse kernel."""
    total = sum(weight.numel() for _, weight in count.weights(bundle))
    return sum(layer.weight.numel() for layer in _linear(zoo.skeleton(bundle.arch)).values()) / total


def _few_linear(share: float) -> str:
    return (
        f"only linear layers have a CSR kernel in PyTorch, convolutions and LSTMs have none, and in this net "
        f"linear layers hold {_share(share)} of the weights."
    )


def largest_linear(bundle: Bundle) -> tuple[str, Tensor]:
    """(name, weight) of the linear layer with the most weights."""
    layers = _linear(zoo.build(bundle))
    name = max(layers, key=lambda name: layers[name].weight.numel())
    return name, layers[name].weight


def without_zero_channels(bundle: Bundle) -> Bundle | str:
    """The net without the filters and units that change nothing, or why there is none.

    A channel changes nothing where all that makes it is zero, biases and batch-norm included, or all
    that reads it. Cutting some out can leave others unread, so it goes on until nothing is left to cut.
    """
    after = bundle
    try:
        while kept := _kept(after):
            after = channels.keep(after, kept)
    except SlimscopeError as error:
        return f"{error}."
    if after is not bundle:
        return after
    return (
        "no filter or unit is zero throughout, so there is none to cut out: zeros that lie scattered leave "
        "every one in place."
    )


def _kept(bundle: Bundle) -> dict[str, list[int]]:
    """Group -> channels that stay, for the groups that lose any; one stays in any case."""
    kept = {}
    for name, group in channels.groups(bundle).items():
        made = [part for part in group.makes if not part.param.endswith(("running_mean", "running_var"))]
        alive = _used(bundle, made, group.channels) & _used(bundle, group.reads, group.channels)
        stay = [int(channel) for channel in alive.nonzero()] or [0]
        if len(stay) < group.channels:
            kept[name] = stay
    return kept


def _used(bundle: Bundle, parts: Sequence[channels.Part], count: int) -> Tensor:
    """For each of `count` channels, whether any number of these parts of it is not zero."""
    used = torch.zeros(count, dtype=torch.bool)
    for part in parts:
        values = bundle.params[part.param].decode().movedim(part.axis, 0)
        places = torch.tensor(part.at)[:, None] + torch.arange(part.block)
        used |= values.reshape(len(values), -1).any(1)[places].any(1)
    return used


# ---------------------------------------------------------------- the stopwatch


def _timed(calls: Sequence[Callable[[], object]], repeats: int) -> Tensor:
    """Nanoseconds (repeats, calls): in each round all are called, in another order.

    Each is called once more just before it is timed: after a form of the other runtime, or of another
    size, it would find its own code and numbers out of the caches.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    times = torch.zeros(repeats, len(calls), dtype=torch.float64)
    chance = torch.Generator().manual_seed(0)
    try:
        for _ in range(WARM_UP):
            for call in calls:
                call()
        for turn in range(repeats):
            for which in torch.randperm(len(calls), generator=chance).tolist():
                calls[which]()
                times[turn, which] = _nanoseconds(calls[which])
    finally:
        torch.set_num_threads(threads)
    return times


def _nanoseconds(call: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    call()
    return time.perf_counter_ns() - start


def _median(name: str, values: Tensor, unit: str, how: str) -> Figure:
    low, middle, high = (float(v) for v in torch.quantile(values, torch.tensor([0.25, 0.5, 0.75]).double()))
    return Figure(name, middle, unit, Basis.MEASURED, how, (low, high))


def _ratio(before: Tensor, now: Tensor, how: str) -> Figure:
    return _median("speed-up", before / now, "times", f"time before / time now, in each round; {how}")


def break_even(weight: Tensor, batch: int, repeats: int = REPEATS) -> Figure | None:
    """Share of zeros above which a matrix (out, in) of this size is faster in CSR; None up to 99.5 %.

    Measured with zeros at random places and `SHARES` of them, each beside the dense matrix. The
    spread is the pair of shares between which the medians cross, the value lies on the line
    between them; below 50 % nothing is measured.
    """
    chance = torch.Generator().manual_seed(0)
    order = torch.rand(weight.shape, generator=chance)
    x, values = (
        torch.randn(batch, weight.shape[1], generator=chance),
        torch.randn(weight.shape, generator=chance),
    )
    sparse = [compressed(values * (order >= share)) for share in SHARES]
    calls = [
        partial(nn.functional.linear, x, values),
        *(partial(times_sparse, matrix, x) for matrix in sparse),
    ]
    dense, *others = _timed(calls, repeats).median(0).values.tolist()
    return crossing(dense, others)


def crossing(dense: float, sparse: Sequence[float]) -> Figure | None:
    """Where the times at `SHARES` fall below the dense one and stay there; None where they never do.

    >>> found = crossing(10, [40, 20, 12, 8, 6, 5, 4])
    >>> round(found.value, 3), found.spread
    (0.925, (0.9, 0.95))
    """
    slow = [i for i, taken in enumerate(sparse) if taken >= dense]
    last = slow[-1] if slow else -1
    if last == len(SHARES) - 1:
        return None
    how = f"a layer of this size with random zeros, at {len(SHARES)} shares of them from 50 % to 99.5 %"
    if last < 0:
        return Figure("CSR break-even", SHARES[0], "share", Basis.MEASURED, how, (0.0, SHARES[0]))
    low, high = SHARES[last], SHARES[last + 1]
    way = (sparse[last] - dense) / (sparse[last] - sparse[last + 1])
    return Figure("CSR break-even", low + way * (high - low), "share", Basis.MEASURED, how, (low, high))


# ---------------------------------------------------------------- why it is or is not faster


def pace(dense: Figure, now: Figure, ratio: Figure) -> Pace:
    """Faster or slower only where neither the quartiles of the times overlap nor the ratio's hold 1."""
    (dense_low, dense_high), (low, high), (least, most) = (_spread(f) for f in (dense, now, ratio))
    if high < dense_low and least > 1:
        return Pace.FASTER
    return Pace.SLOWER if low > dense_high and most < 1 else Pace.TIE


def _spread(figure: Figure) -> tuple[float, float]:
    return figure.spread or (figure.value, figure.value)


def _unclear(found: Pace, ratio: Figure) -> str:
    """What is said of a tie that comes from noise, so that no reason is given for it."""
    low, high = _spread(ratio)
    if found is not Pace.TIE or high < NOISY * low:
        return ""
    return (
        f"Too noisy to tell: half of the runs lie between {low:.2f} and {high:.2f} times as fast. Measure "
        "again when the machine has less to do."
    )


def _lead(found: Pace, ratio: Figure) -> str:
    match found:
        case Pace.FASTER:
            return f"{ratio.value:.2f} times as fast"
        case Pace.SLOWER:
            return f"{1 / ratio.value:.2f} times the time"
    return "No difference beyond the noise"


def _engines(ours: Figure, theirs: Figure, ratio: Figure) -> str:
    """The same dense net through the two runtimes."""
    found = pace(ours, theirs, ratio)
    if unclear := _unclear(found, ratio):
        return f"Beside {TORCH}: {unclear[0].lower()}{unclear[1:]}"
    if found is Pace.TIE:
        return f"{ONNX} and {TORCH} take the same time for it, within the noise."
    return f"The same net as in {TORCH}, {_lead(found, ratio)}: another runtime, no compression."


def why_of(before: Bundle, now: Bundle, dense: Figure, taken: Figure, ratio: Figure) -> str:
    """One sentence: is this net faster than the original, beyond the noise, and why or why not."""
    found = pace(dense, taken, ratio)
    if unclear := _unclear(found, ratio):
        return unclear
    lead, work = _lead(found, ratio), count.macs(now).value / count.macs(before).value
    if found is Pace.FASTER:
        if work < 1:
            return f"{lead} with {_share(work)} of the multiply-adds{_proportion(1 / work, ratio)}."
        return f"{lead}, yet it does as many multiply-adds: nothing in the net explains it."
    reasons = _obstacles(now)
    if work < 1:
        reasons.insert(0, f"it does {_share(work)} of the multiply-adds, but {OVERHEAD}")
    elif work > 1:
        reasons.insert(0, f"it does {_share(work)} of the multiply-adds")
    return f"{lead}: {'; '.join(reasons) or 'both do the same multiply-adds'}."


OVERHEAD = "calling layers and moving numbers takes time that does not shrink with them"


def _proportion(promise: float, ratio: Figure) -> str:
    """How a speed-up compares with that of the multiply-adds."""
    low, high = _spread(ratio)
    if high < promise:
        return f", where {promise:.2f} times would be in proportion: {OVERHEAD}"
    return ", more than in proportion" if low > promise else ", in proportion"


def _obstacles(bundle: Bundle) -> list[str]:
    """Why compression that is real in bytes is not time saved."""
    said, zeros = [], count.sparsity(bundle).value
    if zeros > 0:
        said.append(
            f"{_share(zeros)} of the weights are zero, but they lie in dense matrices and are multiplied "
            "like any other number"
        )
    if any(not isinstance(param, Dense) for param in bundle.params.values()):
        said.append("quantized weights are decoded to 32-bit floats, so the same kernels run")
    if any(verb == "quantize_input" for verb, _ in bundle.arch.edits):
        said.append("rounding the inputs of layers is extra work here")
    return said


def why_csr(
    dense: Figure, taken: Figure, ratio: Figure, layer: str, zeros: float, threshold: Figure | None
) -> str:
    """One sentence on the sparse form; `layer` is the largest linear one, with a share `zeros` of zeros."""
    found = pace(dense, taken, ratio)
    if unclear := _unclear(found, ratio):
        return unclear
    lead = _lead(found, ratio)
    if threshold is None:
        gain = f"at no share of zeros up to {_share(SHARES[-1])}"
    elif threshold.value <= SHARES[0]:
        gain = f"already at {_share(SHARES[0])} zeros"
    else:
        gain = f"only above about {_share(threshold.value)} zeros"
    rule = f"a layer of {layer}'s size gains {gain}, and {layer} has {_share(zeros)}"
    wins = threshold is not None and zeros > threshold.value
    if found is Pace.FASTER:
        return f"{lead}: zeros are skipped; {rule if wins else f'with zeros at random places {rule}'}."
    if wins:
        return f"{lead}: {rule}, but the rest of the net takes what was gained there."
    return f"{lead}: each kept weight brings its index and is fetched one by one; {rule}."


def _share(value: float) -> str:
    """A share as per cent, three digits."""
    return f"{100 * value:.3g} %"
