"""A text goes on: the likeliest token, lots that all models share, and what a model can't read."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.data import language
from engine.data.sets import ASSETS
from engine.figures import continuing
from engine.net import zoo
from engine.types import SlimscopeError

TOKENS = language.vocabulary(ASSETS / "data" / "language")


class Next(nn.Module):
    """A model that expects the number after the last one, and the one after that a little less."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = torch.zeros(1, 20, x.shape[1])
        for place, number in enumerate(x[0].tolist()):
            scores[0, (number + 1) % 20, place], scores[0, (number + 2) % 20, place] = 9.0, 8.0
        return scores


def test_the_likeliest_token_is_taken_where_there_is_no_seed() -> None:
    assert continuing.continued(Next(), [5, 6], 4, None) == [7, 8, 9, 10]
    assert continuing.continued(Next(), [18], 2, None)[0] == 19


def test_special_tokens_are_never_given() -> None:
    assert continuing.continued(Next(), [19], 1, None) == [
        4
    ]  # of equal scores the first that is no special one


def test_lots_are_those_of_the_seed() -> None:
    found = [continuing.continued(Next(), [5], 8, seed) for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    drawn = [continuing.drawn(shares.log(), lot / 1000) for lot in range(1000)]
    assert [drawn.count(token) / 1000 for token in range(3)] == pytest.approx(shares.tolist(), abs=2e-3)


def test_losses_are_those_of_the_scores() -> None:
    found = continuing.losses(Next(), [5, 6, 8])
    scores = torch.zeros(20)
    scores[6], scores[7] = 9.0, 8.0
    assert found == pytest.approx(
        [-float(scores.log_softmax(0)[6]), -float(scores.log_softmax(0)[7])], abs=1e-5
    )
    with pytest.raises(SlimscopeError, match="one more word"):
        continuing.losses(Next(), [5])


def test_a_beginning_is_cut_in_front_and_strange_letters_are_named() -> None:
    found = continuing.beginning("Alice, 愛麗絲 é", TOKENS, 6)
    assert found.strange == ("愛", "麗", "絲", "é")
    assert len(found.numbers) == 6
    assert TOKENS.decode(TOKENS.encode("Alice, 愛麗絲 é")) == found.cut + TOKENS.decode(found.numbers)
    with pytest.raises(SlimscopeError, match="an empty text"):
        continuing.beginning("", TOKENS, 6)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(SlimscopeError, match="at most 128 at once"):
        continuing.continued(Next(), [5] * 120, 9, None)


def test_the_model_of_the_zoo_writes_like_its_book() -> None:
    numbers = TOKENS.encode("Alice was beginning to")
    found = continuing.continued(zoo.build(zoo.load("glass-en")), numbers, 3, None)
    assert all(word.strip().isalpha() for word in TOKENS.decode(found).split())
