"""Gradients of the soft loss against their closed form, and the ratio of the top two classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from engine.figures.softening import most_alike, pulls, similarity, top_two

GENERATOR = torch.Generator().manual_seed(3)
STUDENT, TEACHER = (4 * torch.randn(50, 10, generator=GENERATOR) for _ in range(2))
LABELS = torch.randint(0, 10, (50,), generator=GENERATOR)


def test_gradients_are_those_of_the_closed_form() -> None:
    table = pulls(STUDENT, TEACHER, LABELS, [0.5, 1.0, 4.0, 20.0])
    for row in table.itertuples():
        t = row.temperature
        gap = (F.softmax(STUDENT / t, 1) - F.softmax(TEACHER / t, 1)) / t  # of KL(teacher || student)
        assert row.soft == pytest.approx(float(gap.norm(dim=1).mean()), rel=1e-4)
        assert row.scaled == pytest.approx(t**2 * row.soft)
    hard = F.softmax(STUDENT, 1) - F.one_hot(LABELS, 10)
    assert table["hard"].tolist() == pytest.approx([float(hard.norm(dim=1).mean())] * 4, rel=1e-4)


def test_with_t_squared_the_pull_settles_where_without_it_vanishes() -> None:
    table = pulls(STUDENT, TEACHER, LABELS, [500.0, 1000.0]).set_index("temperature")
    assert table["soft"][500.0] / table["soft"][1000.0] == pytest.approx(4, rel=0.01)
    centred = [logits - logits.mean(1, keepdim=True) for logits in (STUDENT, TEACHER)]
    limit = float((centred[0] - centred[1]).norm(dim=1).mean()) / 10  # Hinton 2015, equation 4
    assert table["scaled"][1000.0] == pytest.approx(limit, rel=0.01)


def test_the_top_two_come_together_as_the_temperature_rises() -> None:
    scores = torch.tensor([3.0, -1.0, 5.0])
    shares = F.softmax(scores / 3, 0).sort(descending=True).values
    assert top_two(scores, 3).value == pytest.approx(float(shares[0] / shares[1]), rel=1e-5)
    assert [round(top_two(scores, t).value, 4) for t in (1, 2)] == [round(math.e**2, 4), round(math.e, 4)]


def test_what_classes_have_in_common_by_hand() -> None:
    """Class 0 has two samples, of shares (e / (e + 1), 1 / (e + 1)) and halves; class 1 has none."""
    scores = torch.tensor([[2.0, 0.0], [5.0, 5.0]])
    share = (math.e / (math.e + 1) + 0.5) / 2
    matrix = similarity(scores, torch.tensor([0, 0]), 2.0)
    assert matrix.flatten().tolist() == pytest.approx([share, 1 - share, 0.0, 0.0])
    assert most_alike(torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.7, 0.3], [0.2, 0.1, 0.7]])) == (1, 2)


def test_classes_blur_into_one_another_as_the_temperature_rises() -> None:
    matrices = [similarity(TEACHER, LABELS, t) for t in (0.5, 4.0, 1000.0)]
    for matrix in matrices:
        assert matrix.sum(1).tolist() == pytest.approx([1.0] * 10)
    shares = F.softmax(TEACHER.double() / 4, 1)
    for label in range(10):  # against a plain mean
        assert torch.allclose(matrices[1][label], shares[label == LABELS].mean(0))
    spread = [float(matrix.std()) for matrix in matrices]
    assert spread == sorted(spread, reverse=True)
    assert torch.allclose(matrices[2], torch.full((10, 10), 0.1, dtype=torch.float64), atol=0.01)
