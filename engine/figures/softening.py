"""What a temperature does to the answers of teacher and student: who comes second, how hard they pull."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from engine.net.train.losses import distillation_loss
from engine.types import Basis, Figure


def top_two(scores: Tensor, temperature: float = 1.0) -> Figure:
    """How many times likelier the best class is than the second, softened; scores are logits (classes,).

    exp((first - second) / T): 1 where both are alike.

    >>> round(top_two(torch.tensor([0.0, 2.0, 1.0]), 2.0).value, 4)
    1.6487
    """
    first, second = scores.topk(2).values.double().tolist()
    value = float(torch.exp(torch.tensor((first - second) / temperature, dtype=torch.float64)))
    how = f"largest share over the second of the softmax at temperature {temperature:g}, one sample"
    return Figure("ratio of the top two", value, "times", Basis.MEASURED, how)


def pulls(student: Tensor, teacher: Tensor, labels: Tensor, temperatures: Sequence[float]) -> pd.DataFrame:
    """How strong the gradients of a student's losses are: a row for each temperature.

    Columns temperature, soft (KL(teacher || student) of the softened answers), scaled (the same times T^2,
    as Distill trains) and hard (cross-entropy with the labels (n,), which knows no temperature): the norm of
    the gradient by autograd with respect to the logits (n, classes), its mean over the n samples. The
    teacher's are (n, classes), or (teachers, n, classes) of an ensemble.
    Without T^2 it falls with 1 / T^2 (Hinton 2015, arXiv 1503.02531, section 2.1).

    >>> student, teacher = torch.tensor([[2.0, 0.0]]), torch.zeros(1, 2)
    >>> pulls(student, teacher, torch.tensor([0]), [1.0]).round(4).values.tolist()
    [[1.0, 0.5385, 0.5385, 0.1686]]
    """
    hard = _norm(student, lambda logits: F.cross_entropy(logits, labels))
    rows = []
    for temperature in temperatures:

        def soft(logits: Tensor, t: float = temperature) -> Tensor:
            return distillation_loss(logits, teacher.double(), labels, t, 1.0)

        scaled = _norm(student, soft)
        rows.append((temperature, scaled / temperature**2, scaled, hard))
    return pd.DataFrame(rows, columns=["temperature", "soft", "scaled", "hard"])


def _norm(student: Tensor, loss: Callable[[Tensor], Tensor]) -> float:
    """Of the gradient of a loss that is a mean over samples: the mean of its norms, one for each sample."""
    logits = student.detach().double().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(logits), logits)
    return float(gradient.norm(dim=1).mean()) * len(logits)


def similarity(scores: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """What classes have in common for a model: (classes, classes), each row a mean of softened answers.

    Row t is the mean of softmax(scores / T) over the samples whose true class is t; scores are logits
    (n, classes), labels (n,). Rows add up to 1; a class without samples has a row of zeros. The higher T, the
    more of a row is on the wrong classes, until all are alike. (Hinton, Vinyals, Dean 2015, arXiv 1503.02531)

    >>> scores = torch.tensor([[2.0, 0.0], [0.0, 0.0]])
    >>> similarity(scores, torch.tensor([0, 0]), 2.0).round(decimals=4).tolist()
    [[0.6155, 0.3845], [0.0, 0.0]]
    """
    shares = F.softmax(scores.double() / temperature, dim=1)
    classes = scores.shape[1]
    sums = torch.zeros(classes, classes, dtype=torch.float64).index_add_(0, labels, shares)
    return sums / torch.bincount(labels, minlength=classes).clamp(min=1).unsqueeze(1)


def most_alike(matrix: Tensor) -> tuple[int, int]:
    """(true class, wrong class) of the largest share outside of the diagonal of `similarity`.

    >>> most_alike(torch.tensor([[0.9, 0.1], [0.3, 0.7]]))
    (1, 0)
    """
    wrong = matrix.clone().fill_diagonal_(-1.0)
    return divmod(int(wrong.argmax()), matrix.shape[1])
