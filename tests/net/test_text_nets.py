"""The zoo's nets that read text: attention as torch has it, padding that says nothing, counts by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.data import sets, topics
from engine.data.pieces import PAD, UNKNOWN
from engine.figures import count
from engine.net import sources, zoo
from engine.net.train import Plan, suited
from engine.net.train.augment import augment
from engine.net.train.rewording import Rewording
from engine.net.zoo.text import FAR, Attention, Encoder, Transformer, mean_of_words
from engine.types import Arch

NAMES = ("transformer-topics", "bilstm-topics")


def padding_of(is_padding: torch.Tensor) -> torch.Tensor:
    return (FAR * is_padding.float()).unsqueeze(1).unsqueeze(1)


def same_as_torch(own: Attention, width: int) -> nn.MultiheadAttention:
    theirs = nn.MultiheadAttention(width, width // own.size, batch_first=True)
    three = (own.query, own.key, own.value)
    theirs.in_proj_weight.data = torch.cat([layer.weight for layer in three]).detach()
    theirs.in_proj_bias.data = torch.cat([layer.bias for layer in three]).detach()
    theirs.out_proj.load_state_dict(own.out.state_dict())
    return theirs


@pytest.fixture
def texts() -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (3, 7, 16), and which places are padding."""
    rng = torch.Generator().manual_seed(0)
    return torch.randn(3, 7, 16, generator=rng), torch.arange(7) >= torch.tensor([[7], [4], [1]])


def test_attention_is_torchs(texts: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, is_padding = texts
    torch.manual_seed(1)
    own = Attention(16, 4)
    theirs = same_as_torch(own, 16)
    expected, _ = theirs(x, x, x, key_padding_mask=is_padding)
    assert torch.allclose(own(x, padding_of(is_padding)), expected, atol=1e-5)


def test_an_encoder_is_torchs_with_its_norms_first(texts: tuple[torch.Tensor, torch.Tensor]) -> None:
    x, is_padding = texts
    torch.manual_seed(1)
    own = Encoder(16, 4, 24)
    theirs = nn.TransformerEncoderLayer(16, 4, 24, dropout=0.0, batch_first=True, norm_first=True)
    theirs.self_attn = same_as_torch(own.attention, 16)
    for ours, name in (
        (own.fc1, "linear1"),
        (own.fc2, "linear2"),
        (own.norm1, "norm1"),
        (own.norm2, "norm2"),
    ):
        getattr(theirs, name).load_state_dict(ours.state_dict())
    expected = theirs(x, src_key_padding_mask=is_padding)
    assert torch.allclose(own(x, padding_of(is_padding))[~is_padding], expected[~is_padding], atol=1e-5)


def test_padding_says_nothing_to_the_transformer() -> None:
    """The same text behind no padding, and behind much: by fewer places of the same net."""
    torch.manual_seed(2)
    net = Transformer(30, 12, 3, 16, 2, 24, 2).eval()
    text = torch.randint(2, 30, (5, 4))
    padded = torch.cat([text, torch.full((5, 8), PAD)], 1)
    assert torch.allclose(net(padded), net(text), atol=1e-5)
    assert bool(net(torch.full((2, 12), PAD)).isfinite().all())  # a text of nothing


def test_the_mean_is_over_words() -> None:
    x = torch.tensor([[[2.0], [4.0], [9.0]]])
    assert mean_of_words(x, torch.tensor([[1.0, 1.0, 0.0]])).tolist() == [[3.0]]
    assert mean_of_words(x, torch.zeros(1, 3)).tolist() == [[0.0]]


def test_counts_by_hand() -> None:
    """An encoder has 4 (96 x 96 + 96) + 2 x 96 x 192 + 192 + 96 + 4 x 96; attention adds 2 x 24 x 24 x 96."""
    large, small = (zoo.bundle_of(name, zoo.seeded(name, 0).state_dict()) for name in NAMES)
    encoder = 4 * (96 * 96 + 96) + 2 * 96 * 192 + 192 + 96 + 4 * 96
    assert count.parameters(large).value == (2048 + 24) * 96 + 4 * encoder + 2 * 96 + 15 * 97 == 499_695
    each = 24 * (4 * 96 * 96 + 2 * 96 * 192) + 2 * 24 * 24 * 96
    assert count.macs(large).value == 4 * each + 15 * 96
    assert count.parameters(small).value == 2048 * 32 + 2 * 4 * 64 * (32 + 64 + 2) + 15 * 129
    assert count.macs(small).value == 24 * 2 * 4 * 64 * (32 + 64) + 15 * 128


@pytest.mark.parametrize("name", NAMES)
def test_the_example_is_a_text_of_the_task(name: str) -> None:
    example, held = sources.inputs(Arch(name)), sets.load("debian-topics")
    assert (example.dtype, example.shape[1:]) == (held.test.images.dtype, held.test.images.shape[1:])
    drawn = zoo.INPUTS["debian-topics"].extremes(torch.Generator().manual_seed(0))
    assert (len(drawn), int(drawn.min())) == (4, 0)
    assert int(drawn.max()) < topics.PIECES


# ---------------------------------------------------------------- training


def test_words_are_masked_and_padding_is_not() -> None:
    inputs = torch.tensor([[5, 6, 7, PAD], [8, PAD, PAD, PAD]]).repeat(500, 1)
    masked = augment(inputs, Plan(1, 0.1, mask_words=0.25), torch.Generator().manual_seed(0))
    assert set(masked[masked != inputs].tolist()) == {UNKNOWN}
    assert bool((masked[inputs == PAD] == PAD).all())
    assert float((masked != inputs)[inputs != PAD].float().mean()) == pytest.approx(0.25, abs=0.03)


def test_texts_are_reworded_as_often_as_asked() -> None:
    inputs = torch.tensor([[5, 6, 7, PAD], [8, PAD, PAD, PAD]]).repeat(1000, 1)
    plan = Plan(1, 0.1, rewording=Rewording(mask=0.2, replace=0.3, run=0.0))
    changed = augment(inputs, plan, torch.Generator().manual_seed(0))
    is_word = inputs != PAD
    assert bool((changed[~is_word] == PAD).all())
    words, before = changed[is_word], inputs[is_word]
    assert float((words == UNKNOWN).float().mean()) == pytest.approx(0.2, abs=0.02)
    is_other = (words != before) & (words != UNKNOWN)
    assert float(is_other.float().mean()) == pytest.approx(0.3 * 3 / 4, abs=0.02)  # one in four is itself
    assert set(words.tolist()) == {UNKNOWN, 5, 6, 7, 8}


def test_a_run_is_one_to_five_neighbours() -> None:
    inputs = torch.tensor([[*range(2, 12), PAD, PAD], [7, 8, *[PAD] * 10]]).repeat(1000, 1)
    plan = Plan(1, 0.1, rewording=Rewording(mask=0.0, replace=0.0, run=1.0))
    cut = augment(inputs, plan, torch.Generator().manual_seed(0))
    length = (cut != PAD).sum(1)
    assert set(length[0::2].tolist()) == {1, 2, 3, 4, 5}
    assert set(length[1::2].tolist()) == {1, 2}
    starts = cut[:, :1] + torch.arange(cut.shape[1])
    assert torch.equal(cut, torch.where(cut != PAD, starts, PAD))
    assert set(cut[0::2, 0].tolist()) == set(range(2, 12))


def test_a_plan_for_texts_masks_words_and_moves_no_pixels() -> None:
    plan = suited(
        Plan(1, 0.1, shift=2, flip=True),
        zoo.seeded("transformer-topics", 0),
        sets.load("debian-topics").train,
    )
    assert (plan.shift, plan.flip, plan.channels_last, plan.clip_norm) == (0, False, False, 1.0)
    assert plan.mask_words > 0


def test_attention_without_a_head_is_attention_with_its_columns_at_zero(
    texts: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """The second of four heads, 4 numbers wide, goes by making four layers narrower."""
    x, is_padding = texts
    torch.manual_seed(1)
    whole, fewer, stays = Attention(16, 4), Attention(16, 4), [*range(4), *range(8, 16)]
    for name in ("query", "key", "value"):
        old, new = getattr(whole, name), nn.Linear(16, 12)
        new.weight.data, new.bias.data = old.weight.data[stays], old.bias.data[stays]
        setattr(fewer, name, new)
    fewer.out = nn.Linear(12, 16)
    fewer.out.weight.data, fewer.out.bias.data = whole.out.weight.data[:, stays], whole.out.bias.data
    whole.out.weight.data[:, 4:8] = 0.0
    assert torch.allclose(fewer(x, padding_of(is_padding)), whole(x, padding_of(is_padding)), atol=1e-6)
