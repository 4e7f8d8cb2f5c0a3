"""Masks of tickets over their rounds: packed and back, and what two masks share."""

from __future__ import annotations

import pytest
import torch

from engine.tensor import tickets
from engine.types import FormatError


def rounds(shape: tuple[int, ...], count: int, seed: int) -> list[torch.Tensor]:
    """Masks that each lie within the one before."""
    generator = torch.Generator().manual_seed(seed)
    found = [torch.rand(shape, generator=generator) < 0.9]
    for _ in range(count):
        found.append(found[-1] & (torch.rand(shape, generator=generator) < 0.8))
    return found


@pytest.mark.parametrize("shape", [(7, 5), (3, 2, 3, 3), (4, 0)])
def test_every_rounds_mask_comes_back_from_the_packed_text(shape: tuple[int, ...]) -> None:
    known = rounds(shape, 4, 0)
    gone = tickets.unpacked(tickets.packed(tickets.gone_in(known)))
    for number, mask in enumerate(known):
        assert torch.equal(tickets.mask_of(gone, number), mask)


@pytest.mark.parametrize(
    "row", [{}, {"shape": "2 x 2", "gone": "!"}, {"shape": "9 x 9", "gone": "eJxjAAAAAQAB"}]
)
def test_what_was_not_packed_is_refused(row: dict[str, str]) -> None:
    with pytest.raises(FormatError, match="compressed"):
        tickets.unpacked(row)


def test_a_bomb_is_not_unpacked_beyond_its_shape() -> None:
    bomb = tickets.packed(torch.zeros(10_000_000, dtype=torch.uint8)) | {"shape": "3"}
    with pytest.raises(FormatError):
        tickets.unpacked(bomb)


def test_random_masks_share_what_chance_says_and_nested_ones_all() -> None:
    mask = rounds((200, 300), 3, 1)[-1]
    other = tickets.shuffled({"w": mask}, 5)["w"]
    both, chance = tickets.shared(mask, other)
    assert both == pytest.approx(chance, abs=0.02)
    first = rounds((200, 300), 3, 1)[0]
    assert tickets.shared(mask, first)[0] == 1
