"""MiniLM's word pieces against the tokenizers library: all texts of the task, and texts made to differ."""

from __future__ import annotations

import pytest
import torch
from tokenizers.implementations import BertWordPieceTokenizer

from engine.data import sets, topics
from engine.data.framed import FIRST, FRAME, LAST, Framed, ordered
from engine.data.pieces import PAD, SPECIAL, UNKNOWN

OURS = topics.framed(sets.ASSETS / "data" / "debian-topics")
SIGNS = {sign: sign.upper() for sign in (*SPECIAL, *FRAME)}
ODD = (
    "Mastermind™ clone for GNOME",
    "C++ (GTK-3), naïve_x^2 ~ 5€ $7 `a` <b> |c| Ångström ÀÉÎ",
    "日本 語の text!",
    "wait… “quoted” -- l'été № 3",
    "soft\u00adhyphen \ufeffmark a\u200bb \x00null \ufffd\ttab\nline \u2028",
    "ΟΔΥΣΣΕΥΣ İstanbul ǅ ﬁ",
    "x" * 101 + " " + "x" * 100,
    "",
)


@pytest.fixture(scope="module")
def theirs() -> BertWordPieceTokenizer:
    return BertWordPieceTokenizer({SIGNS.get(piece, piece): row for piece, row in OURS.numbers.items()})


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_all_texts_of_the_task_are_cut_as_by_the_library(part: str, theirs: BertWordPieceTokenizer) -> None:
    texts = getattr(sets.load("debian-topics"), part).texts
    for text, found in zip(texts, theirs.encode_batch(list(texts)), strict=True):
        assert OURS.encode(text) == found.ids, text


@pytest.mark.parametrize("text", ODD)
def test_texts_made_to_differ_are_cut_as_by_the_library(text: str, theirs: BertWordPieceTokenizer) -> None:
    found = theirs.encode(text).ids
    assert OURS.encode(text) == (found if text else [FIRST, UNKNOWN, LAST])  # ours never leaves a text empty


def test_a_text_that_is_too_long_keeps_its_frame() -> None:
    pieces = Framed([*SPECIAL, *FRAME, "a", "b"])
    assert pieces.padded("a b", 6) == [FIRST, 4, 5, LAST, PAD, PAD]
    assert pieces.padded("a b a b", 4) == [FIRST, 4, 5, LAST]


def test_the_vocabulary_is_whole_and_begins_with_the_four_signs() -> None:
    assert len(OURS) == len(OURS.numbers) == topics.FRAMED
    published = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a"]
    assert ordered(published) == [*SPECIAL, *FRAME, "[unused0]", "[MASK]", "a"]


def test_both_sets_of_topics_are_the_same_texts_in_the_same_order() -> None:
    own, framed = (sets.load(name) for name in ("debian-topics", "debian-topics-minilm"))
    for part in ("train", "validation", "test"):
        mine, others = getattr(own, part), getattr(framed, part)
        assert mine.texts == others.texts
        assert torch.equal(mine.labels, others.labels)
        assert others.images.shape == (len(mine), topics.PLACES)
        assert int(others.images.max()) < topics.FRAMED
