"""Measured figures: accuracy with its interval, differences on the same samples, time.

Nothing here is a formula about a net: the net runs, and what comes out is counted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine import zoo
from engine.data import Samples
from engine.types import Basis, Bundle, Figure

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
    """The class that the bundle's net gives to each sample: (n,) int64."""
    return logits(zoo.build(bundle), samples).argmax(1)


def share_right(net: nn.Module, samples: Samples) -> float:
    """Share of samples classified right, 0..1, for a net in training (no interval)."""
    return float((logits(net, samples).argmax(1) == samples.labels).float().mean())


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson's score interval for a share (Wilson 1927).

    >>> low, high = wilson(985, 1000)
    >>> round(low, 4), round(high, 4)
    (0.9754, 0.9909)
    """
    if n == 0:
        return 0.0, 1.0
    p = right / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_of(answers: Tensor, labels: Tensor) -> Figure:
    """Accuracy of given answers (n,) against labels (n,), with Wilson's 95 % interval."""
    right, n = int((answers == labels).sum()), len(labels)
    how = f"{right} of {n} samples right; Wilson 95 % interval"
    return Figure("accuracy", right / n, "share", Basis.MEASURED, how, wilson(right, n))


def accuracy(bundle: Bundle, samples: Samples) -> Figure:
    """Accuracy of a bundle on samples, measured by running its net on all of them."""
    return accuracy_of(predictions(bundle, samples), samples.labels)


def paired_difference(before: Tensor, after: Tensor, labels: Tensor) -> Figure:
    """Accuracy after minus before on the same samples, with McNemar's interval.

    Only samples that one of the two got right and the other wrong say anything: with b lost
    and c won of n, the difference is (c - b) / n and its standard error
    sqrt(b + c - (b - c)^2 / n) / n.
    """
    lost = int(((before == labels) & (after != labels)).sum())
    won = int(((before != labels) & (after == labels)).sum())
    n = len(labels)
    half = Z95 * math.sqrt(max(lost + won - (lost - won) ** 2 / n, 0.0)) / n
    value = (won - lost) / n
    how = f"{won} won, {lost} lost of the same {n} samples; McNemar 95 % interval"
    return Figure("accuracy change", value, "share", Basis.MEASURED, how, (value - half, value + half))
