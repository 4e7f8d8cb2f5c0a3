"""Why a variant is or is not faster: one sentence each, which follows from the times."""

from __future__ import annotations

from engine.figures import count
from engine.figures.latency.sparse import SHARES
from engine.figures.latency.stopwatch import Comparison, Pace, quartiles
from engine.figures.latency.variants import ONNX, TORCH
from engine.tensor.formats import Dense
from engine.types import Bundle, Figure, SlimscopeError

NOISY = 1.5  # quartiles of a ratio further apart than this say nothing
OVERHEAD = "calling layers and moving numbers takes time that does not shrink with them"


def work_left(before: Bundle, now: Bundle) -> float | None:
    """Multiply-adds over those of the original; None where a layer is of a kind that can't be counted."""
    try:
        return count.macs(now).value / max(count.macs(before).value, 1)
    except SlimscopeError:
        return None


def noise_of(compared: Comparison) -> str:
    """What is said of a tie that comes from noise, so that no reason is given for it; else nothing."""
    low, high = quartiles(compared.ratio)
    if compared.pace is not Pace.TIE or high < NOISY * low:
        return ""
    return (
        f"Too noisy to tell: half of the runs lie between {low:.2f} and {high:.2f} times as fast. Measure "
        "again when the machine has less to do."
    )


def lead_of(compared: Comparison) -> str:
    match compared.pace:
        case Pace.FASTER:
            return f"{compared.ratio.value:.2f} times as fast"
        case Pace.SLOWER:
            return f"{1 / compared.ratio.value:.2f} times the time"
    return "No difference beyond the noise"


def why_runtime(compared: Comparison) -> str:
    """The same dense net through the two runtimes."""
    if noise := noise_of(compared):
        return f"Beside {TORCH}: {noise[0].lower()}{noise[1:]}"
    if compared.pace is Pace.TIE:
        return f"{ONNX} and {TORCH} take the same time for it, within the noise."
    return f"The same model as in {TORCH}, {lead_of(compared)}: another runtime, no compression."


def why(before: Bundle, now: Bundle, compared: Comparison) -> str:
    """Is this net faster than the original, beyond the noise, and why or why not."""
    if noise := noise_of(compared):
        return noise
    lead, work = lead_of(compared), work_left(before, now)
    if work is None:
        return f"{lead}; how much it multiplies is not known, because a layer is of no kind that is counted."
    if compared.pace is Pace.FASTER:
        if work < 1:
            return f"{lead} with {share(work)} of the multiply-adds{_proportion(1 / work, compared.ratio)}."
        return f"{lead}, yet it does as many multiply-adds: nothing in the model explains it."
    reasons = _obstacles(now)
    if work != 1:
        reasons.insert(0, f"it does {share(work)} of the multiply-adds{f', but {OVERHEAD}' * (work < 1)}")
    return f"{lead}: {'; '.join(reasons) or 'both do the same multiply-adds'}."


def _proportion(promise: float, ratio: Figure) -> str:
    """How a speed-up compares with that of the multiply-adds."""
    low, high = quartiles(ratio)
    if high < promise:
        return f", where {promise:.2f} times would be in proportion: {OVERHEAD}"
    return ", more than in proportion" if low > promise else ", in proportion"


def _obstacles(bundle: Bundle) -> list[str]:
    """Why compression that is real in bytes is not time saved."""
    said, zeros = [], count.sparsity(bundle).value
    if zeros > 0:
        said.append(
            f"{share(zeros)} of the weights are zero, but they lie in dense matrices and are multiplied "
            "like any other number"
        )
    if any(not isinstance(param, Dense) for param in bundle.params.values()):
        said.append("quantized weights are decoded to 32-bit floats, so the same kernels run")
    if any(verb == "quantize_input" for verb, _ in bundle.arch.edits):
        said.append("rounding the inputs of layers is extra work here")
    if any(verb == "project" for verb, _ in bundle.arch.edits):
        said.append(
            "PyTorch runs an LSTM with a projection step by step, and one without it in one kernel of oneDNN"
        )
    return said


def why_csr(compared: Comparison, layer: str, zeros: float, threshold: Figure | None) -> str:
    """Of the sparse variant; `layer` is the largest linear one, with a share `zeros` of zeros."""
    if noise := noise_of(compared):
        return noise
    lead = lead_of(compared)
    if threshold is None:
        gain = f"at no share of zeros up to {share(SHARES[-1])}"
    elif threshold.value <= SHARES[0]:
        gain = f"already at {share(SHARES[0])} zeros"
    else:
        gain = f"only above about {share(threshold.value)} zeros"
    rule = f"a layer of {layer}'s size gains {gain}, and {layer} has {share(zeros)}"
    wins = threshold is not None and zeros > threshold.value
    if compared.pace is Pace.FASTER:
        return f"{lead}: zeros are skipped; {rule if wins else f'with zeros at random places {rule}'}."
    if wins:
        return f"{lead}: {rule}, but the rest of the model takes what was gained there."
    return f"{lead}: each kept weight brings its index and is fetched one by one; {rule}."


def share(value: float) -> str:
    """A share as per cent, three digits.

    >>> share(0.19846)
    '19.8 %'
    """
    return f"{100 * value:.3g} %"
