"""Measured figures: accuracy or perplexity with its interval, differences on the same samples.

Answers are what `engine.net.answers` keeps: classes (n,), or losses and likeliest tokens (n, 2, places).

Nothing here is a formula about a net: the net runs, and what comes out is counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data import user_errors
from engine.data.sets import Samples
from engine.data.user_errors import UserError
from engine.figures import perplexity, scores
from engine.net import answers as kept
from engine.net import incremental, kinds, sources
from engine.types import Basis, Bundle, Figure, SlimscopeError

Z95 = 1.959963984540054  # two-sided 95 % point of the normal distribution


@torch.inference_mode()
def logits(net: nn.Module, samples: Samples, batch: int = 500) -> Tensor:
    """What the net answers to every sample: (n, classes), in eval mode."""
    was_training = net.training
    net.eval()
    answers = [net(samples.inputs(slice(i, i + batch))) for i in range(0, len(samples), batch)]
    net.train(was_training)
    return torch.cat(answers)


def predictions(bundle: Bundle, samples: Samples) -> Tensor:
    """What is kept of the answers of the bundle's net: the class of each sample (n,) int64, or of tokens."""
    return incremental.answers(bundle, samples, keep=False)[0]


def net_answers(net: nn.Module, samples: Samples, batch: int = 500) -> Tensor:
    """The same of a net in training. Raises NotNumbers where outputs are NaN."""
    if not samples.is_read_on:
        return kept.of(incremental.checked(logits(net, samples, batch)), samples)
    parts = [samples.take(slice(i, i + WINDOWS)) for i in range(0, len(samples), WINDOWS)]
    return torch.cat([kept.of(incremental.checked(logits(net, part)), part) for part in parts])


def share_right(net: nn.Module, samples: Samples) -> float:
    """Share of samples classified right, or of tokens foretold, 0..1, for a net in training (no interval)."""
    answers = net_answers(net, samples)
    return float((kept.likeliest(answers) == samples.labels).float().mean())


def right(bundle: Bundle, samples: Samples) -> float:
    """The same of a bundle."""
    return right_of(predictions(bundle, samples), samples.labels)


def right_of(answers: Tensor, labels: Tensor) -> float:
    """Share of right classes (n,), or of right likeliest tokens (n, places), 0..1."""
    return int((kept.likeliest(answers) == labels).sum()) / labels.numel()


def wilson(right: int, n: int) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927).

    >>> low, high = wilson(985, 1000)
    >>> round(low, 4), round(high, 4)
    (0.9754, 0.9909)
    """
    if n == 0:
        return 0.0, 1.0
    p, z = right / n, Z95
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the bound is the share itself; rounding must not move it inwards.
    return (0.0 if right == 0 else centre - half), (1.0 if right == n else centre + half)


def near_chance(original: Figure, classes: int) -> str:
    """A sentence where a net's accuracy is less than twice that of guessing; empty otherwise."""
    if original.value >= 2 / classes:
        return ""
    return (
        f"The original is right in {100 * original.value:.1f} % of the cases, and guessing in "
        f"{100 / classes:.0f} %: probably it is another model than it was taken for (activation, data, order "
        "of the classes), or its inputs were scaled otherwise"
    )


def accuracy_of(answers: Tensor, labels: Tensor) -> Figure:
    """Accuracy of given answers (n,) against labels (n,), with Wilson's 95 % interval.

    Of answers about tokens their perplexity.
    """
    if kept.are_of_tokens(answers):
        return perplexity.of_answers(answers)
    _check_classes(labels)
    right, n = int((answers == labels).sum()), len(labels)
    how = f"{right} of {n} samples right; Wilson 95 % interval"
    return Figure("accuracy", right / n, "share", Basis.MEASURED, how, wilson(right, n))


def _check_classes(labels: Tensor) -> None:
    """Targets of another shape would be compared each with every answer."""
    if labels.dim() != 1 or labels.is_floating_point():
        raise SlimscopeError("no accuracy is measured: the targets are not numbers of classes")


def accuracy(bundle: Bundle, samples: Samples) -> Figure:
    """Accuracy of a bundle on samples, or its perplexity, measured by running its net on all of them."""
    return accuracy_of(predictions(bundle, samples), samples.labels)


def judged(bundle: Bundle, samples: Samples, metric: Callable[[Tensor, Tensor], Any]) -> Figure:
    """What a user's metric says of a bundle's outputs on samples; higher is better.

    Where it gives a score for each sample, their mean with its normal 95 % interval. Raises UserError
    where it fails, or gives neither one number nor one for each sample.
    """
    outputs = incremental.logits(bundle, samples, keep=False)[0]
    name = str(getattr(metric, "__name__", type(metric).__name__))
    with user_errors.own_errors(f"metric {name}"):
        said = torch.as_tensor(metric(outputs, samples.labels)).detach().to(torch.float64)
    n = len(samples)
    if said.dim() == 0:
        return Figure(name, float(said), "score", Basis.MEASURED, f"the user's {name} on {n} samples")
    if tuple(said.shape) != (n,):
        raise UserError(f"metric {name} gives {tuple(said.shape)}: allowed is one number, or {n}")
    mean, half = float(said.mean()), Z95 * float(said.std()) / math.sqrt(n) if n > 1 else math.inf
    how = f"mean of the user's {name} over {n} samples; normal 95 % interval"
    return Figure(name, mean, "score", Basis.MEASURED, how, (mean - half, mean + half))


def carried(whole: Figure, change: Figure) -> Figure:
    """Accuracy from the original's on the whole test set and the paired difference on some of its samples.

    Two nets that differ little agree on most samples, so the difference is far better known than either
    accuracy. The interval is the difference's alone.
    """
    low, high = change.spread or (change.value, change.value)
    if change.unit == scores.RELATIVE:
        at = [whole.value * (1 + value) for value in (change.value, low, high)]
        how = (
            f"the original's {whole.value:.2f} ({whole.how.partition(';')[0]}), and the change: {change.how}"
        )
        return Figure(whole.name, at[0], whole.unit, Basis.MEASURED, how, (at[1], at[2]))
    at = [min(max(whole.value + value, 0.0), 1.0) for value in (change.value, low, high)]
    how = f"the original's {whole.value:.4f} ({whole.how.partition(';')[0]}), and the change: {change.how}"
    return Figure("accuracy", at[0], "share", Basis.MEASURED, how, (at[1], at[2]))


def paired_difference(before: Tensor, after: Tensor, labels: Tensor) -> Figure:
    """Accuracy after minus before on the same samples, with Agresti and Min's 95 % interval.

    Only samples that one of the two got right and the other wrong say anything: with b lost
    and c won of n, the difference is (c - b) / n. Its interval is Wald's after half a sample was
    added to each of the four cells, so that it has a width where nothing was lost or won.
    (Agresti, Min 2005, Statistics in Medicine 24, 729) Of answers about tokens the change of perplexity.
    """
    if kept.are_of_tokens(after):
        return perplexity.change(before, after)
    _check_classes(labels)
    lost = int(((before == labels) & (after != labels)).sum())
    won = int(((before != labels) & (after == labels)).sum())
    n = len(labels)
    middle, spread = (won - lost) / (n + 2), lost + won + 1 - (lost - won) ** 2 / (n + 2)
    half = Z95 * math.sqrt(spread) / (n + 2)
    interval = max(middle - half, -1.0), min(middle + half, 1.0)
    how = f"{won} won, {lost} lost of the same {n} samples; Agresti-Min 95 % interval"
    return Figure("accuracy change", (won - lost) / n, "share", Basis.MEASURED, how, interval)


def before_and_after(before: Tensor, after: Tensor, labels: Tensor) -> tuple[Figure, Figure, Figure]:
    """Validation accuracy before and after a training, and their paired difference; answers are (n,)."""
    return (
        on_validation(accuracy_of(before, labels), "before"),
        on_validation(accuracy_of(after, labels), "after"),
        on_validation(paired_difference(before, after, labels)),
    )


def on_validation(figure: Figure, more: str = "") -> Figure:
    """The same figure, named as one of validation samples."""
    return replace(figure, name=f"validation {figure.name} {more}".strip())


def rank_correlation(name: str, value: float, n: int, how: str) -> Figure:
    """With the interval of Fisher's z for ranks: standard error sqrt(1.06 / (n - 3)) (Fieller 1957)."""
    spread = None
    if n > 3:
        half = 1.96 * math.sqrt(1.06 / (n - 3))
        z = math.atanh(max(min(value, 1 - 1e-12), 1e-12 - 1))
        spread = (math.tanh(z - half), math.tanh(z + half))
    return Figure(name, value, "1", Basis.MEASURED, how, spread)


def kl(teacher: Tensor, student: Tensor, temperature: float = 1.0) -> Figure:
    """KL(teacher || student) of the softened answers, in nat: logits (classes,) or (n, classes).

    For many samples their mean, and for (n, tokens, places) that of all places. Zero where both give the
    same shares.
    """
    n = 1 if teacher.dim() == 1 else len(teacher)
    if teacher.dim() == 3:
        teacher, student = teacher.transpose(1, 2), student.transpose(1, 2)
    goal = F.log_softmax(teacher / temperature, dim=-1)
    gap = goal - F.log_softmax(student / temperature, dim=-1)
    value = float((goal.exp() * gap).sum(-1).mean().clamp(min=0.0))
    how = f"sum of p log(p / q) at temperature {temperature:g}, mean of {n} sample{'s' * (n > 1)}"
    return Figure("KL of teacher and student", value, "nat", Basis.MEASURED, how)


# ---------------------------------------------------------------- which samples changed


def flips(before: Tensor, after: Tensor, labels: Tensor) -> pd.DataFrame:
    """One row per sample whose answer changed: sample, label, before, after, kind.

    `kind` is `won` (wrong, then right), `lost` (right, then wrong) or `changed` (wrong both times).
    """
    rows = (before != after).nonzero().flatten()
    table = pd.DataFrame(
        {
            "sample": rows.numpy(),
            "label": labels[rows].numpy(),
            "before": before[rows].numpy(),
            "after": after[rows].numpy(),
        }
    )
    table["kind"] = "changed"
    table.loc[table["after"] == table["label"], "kind"] = "won"
    table.loc[table["before"] == table["label"], "kind"] = "lost"
    return table


def per_class(before: Tensor, after: Tensor, labels: Tensor, classes: Sequence[str]) -> pd.DataFrame:
    """One row per class: class, n, accuracy before and after with Wilson's interval, change.

    The intervals are columns `before low`, `before high`, `after low`, `after high`. A class
    without samples has n = 0, accuracies NaN and the interval 0..1.
    """
    rows = []
    for number, name in enumerate(classes):
        of_class = labels == number
        n = int(of_class.sum())
        row: dict[str, object] = {"class": name, "n": n}
        share = {}
        for when, answers in (("before", before), ("after", after)):
            right = int((answers[of_class] == number).sum())
            share[when] = right / n if n else math.nan
            low, high = wilson(right, n)
            row |= {when: share[when], f"{when} low": low, f"{when} high": high}
        rows.append({**row, "change": share["after"] - share["before"]})
    return pd.DataFrame(rows)


LIVE_BUDGET = 4e9  # units of work (`kinds.work`) that may pass while a slider waits: about 0.1 s
LIVE_SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000)
LIVE_WINDOWS = (20, 50, *LIVE_SIZES)  # of a text that is read on: each has many tokens to judge
WINDOWS = 16  # that are run at once: scores of all tokens at all places take memory


def sample_size(bundle: Bundle) -> int:
    """How many test samples can be measured at once while a slider moves: small nets all 10,000."""
    affordable = LIVE_BUDGET / kinds.work(bundle)
    sizes = LIVE_WINDOWS if sources.is_read_on(bundle.arch) else LIVE_SIZES
    return max((n for n in sizes if n <= affordable), default=sizes[0])


def entropy(scores: Tensor, temperature: float = 1.0) -> Figure:
    """Entropy of the softened answer to one sample, in bit; scores are logits (classes,).

    Zero for a net that is certain, log2(classes) for one that has no idea.

    >>> entropy(torch.zeros(4)).value
    2.0
    """
    log_shares = F.log_softmax(scores / temperature, dim=-1)
    value = float(-(log_shares.exp() * log_shares).sum() / math.log(2))
    how = f"minus sum of p log2(p) of the softmax at temperature {temperature:g}, one sample"
    return Figure("entropy", value, "bits", Basis.MEASURED, how)
