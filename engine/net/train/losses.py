"""Losses of a training: against labels, and against the softened answers of one teacher or several."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

# (net, inputs (n, c, h, w), labels (n,)) -> scalar loss and logits (n, classes)
Loss = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]


def hard_labels(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy against the labels: (scalar loss, logits (n, classes))."""
    logits = net(inputs).float()
    return F.cross_entropy(logits, labels), logits


def as_rows(logits: Tensor) -> Tensor:
    """Logits (n, classes) as they are; (n, tokens, places) as a row for each place, (n * places, tokens)."""
    return logits.transpose(1, 2).flatten(0, 1) if logits.dim() == 3 else logits


def softened(logits: Tensor, temperature: float) -> Tensor:
    """softmax(logits / T) over the last dimension: the higher T, the closer to equal shares.

    >>> [round(share, 4) for share in softened(torch.tensor([2.0, 0.0]), 2.0).tolist()]
    [0.7311, 0.2689]
    """
    return F.softmax(logits / temperature, dim=-1)


def log_shares(teacher: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / T) of a teacher (n, classes), or of an ensemble (teachers, n, classes).

    An ensemble answers with the mean of its teachers' softened shares, not of their logits.
    (Hinton, Vinyals, Dean 2015, arXiv 1503.02531, section 5)

    >>> both = torch.tensor([[[2.0, 0.0]], [[0.0, 2.0]]])
    >>> log_shares(both, 1.0).exp().tolist()
    [[0.5, 0.5]]
    """
    shares = F.log_softmax(teacher.detach() / temperature, dim=-1)
    return shares if shares.dim() < 3 else shares.logsumexp(0) - math.log(len(shares))


def together(scores: Tensor, temperature: float) -> Tensor:
    """Logits (n, classes) whose softened shares are the mean of an ensemble's (teachers, n, classes).

    They belong to this temperature, T log(mean of shares), and have no unit of their own. Logits of one
    teacher (n, classes) are given back as they are.
    """
    return scores if scores.dim() < 3 else temperature * log_shares(scores, temperature)


def distillation_loss(
    student: Tensor, teacher: Tensor, labels: Tensor, temperature: float, alpha: float
) -> Tensor:
    """Hinton's loss of student logits (n, classes) against teacher logits and labels (n,).

    Teacher logits are (n, classes), or (teachers, n, classes) for an ensemble.
    alpha * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - alpha) * cross-entropy, both
    averaged over the n samples. T^2 keeps the weight of the first term when T changes, because
    its gradient shrinks with 1 / T^2: for high T it tends to (student - teacher) / classes, the
    gradient of regression on centred logits. No gradient flows to the teacher.
    (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)
    """
    answer = F.log_softmax(student / temperature, dim=-1)
    goal = log_shares(teacher, temperature)
    soft = F.kl_div(answer, goal, reduction="batchmean", log_target=True) * temperature**2
    return alpha * soft + (1 - alpha) * F.cross_entropy(student, labels)


def learning_from(teacher: nn.Module | Sequence[nn.Module], temperature: float, alpha: float) -> Loss:
    """The loss of a student of one teacher or an ensemble, all in eval mode and not trained.

    Raises ValueError for an ensemble without teachers.
    """
    teachers = [teacher] if isinstance(teacher, nn.Module) else list(teacher)
    if not teachers:
        raise ValueError("an ensemble has at least one teacher: got none")

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            goal = torch.stack([as_rows(each(inputs).float()) for each in teachers])
        logits = net(inputs).float()
        # One teacher's shares go the direct way: an ensemble's detour over logarithms may cost a last bit.
        return distillation_loss(
            as_rows(logits), goal[0] if len(goal) == 1 else goal, labels.flatten(), temperature, alpha
        ), logits

    return loss


def regressing_on(teacher: nn.Module, alpha: float) -> Loss:
    """alpha * mean squared error of the logits + (1 - alpha) * cross-entropy, of a student of one teacher.

    The teacher is in eval mode and not trained. The error is averaged over samples and classes.
    (Ba, Caruana 2014, Do Deep Nets Really Need to be Deep?, arXiv 1312.6184)
    """

    def loss(net: nn.Module, inputs: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            goal = teacher(inputs).float()
        logits = net(inputs).float()
        return alpha * F.mse_loss(logits, goal) + (1 - alpha) * F.cross_entropy(logits, labels), logits

    return loss
