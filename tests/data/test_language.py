"""The task `language`: frozen windows, tokens that read back, parts that share no text."""

from __future__ import annotations

import hashlib
import lzma

import pytest
import torch

from engine.data import excerpts, language, sets
from engine.data.tokens import SPECIAL, UNKNOWN, Tokens

FOLDER = sets.ASSETS / "data" / "language"
MOST_BYTES = 300_000


def test_the_windows_are_the_frozen_ones() -> None:
    held = sets.load("language")
    assert [len(part) for part in (held.train, held.validation, held.test)] == [1024, 256, 256]
    digest = hashlib.sha256(lzma.decompress((FOLDER / "windows.bin.xz").read_bytes())).hexdigest()
    assert digest in (FOLDER / "SOURCE.md").read_text()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES
    assert held.test.texts[0].startswith("“In vain it was to rake for Ambergriese")


def test_labels_are_the_tokens_that_follow_and_windows_read_back() -> None:
    held, tokens = sets.load("language"), language.vocabulary(FOLDER)
    assert len(tokens) == language.TOKENS
    seen: set[str] = set()
    for part in (held.train, held.validation, held.test):
        assert part.images.shape == part.labels.shape == (len(part), language.PLACES)
        assert torch.equal(part.images[:, 1:], part.labels[:, :-1])
        assert UNKNOWN not in part.images
        assert part.is_read_on
        assert not part.is_labelled
        whole = [*part.images[0].tolist(), int(part.labels[0, -1])]
        assert tokens.decode(whole) == part.texts[0]
        assert not seen & set(part.texts)
        seen |= set(part.texts)


def test_some_samples_keep_what_they_are() -> None:
    part = sets.load("language").validation.stratified(20)
    assert part.is_read_on
    assert len(part.texts) == len(part) == 20


def test_tokens_are_merged_in_the_order_of_the_vocabulary() -> None:
    # By hand: "the" is h e, then t he; the space in front of a word is a part of it.
    tokens = Tokens([*"eht", "▁"], [("h", "e"), ("t", "he"), ("▁", "the")])
    assert [tokens.vocabulary[number] for number in tokens.encode("the the")] == ["the", "▁the"]
    assert tokens.encode("hx") == [len(SPECIAL) + 1, UNKNOWN]
    assert tokens.decode(tokens.encode("the  the")) == "the  the"


def test_windows_are_spread_evenly_and_leave_out_what_cannot_be_read() -> None:
    tokens = Tokens(["a", "b"], [])
    texts = {"long": "a" * 10 * (language.PLACES + 1), "strange": "é" * 2 * (language.PLACES + 1)}
    texts["short"] = "b" * (language.PLACES + 1)
    found = excerpts.windows(texts, tokens, 4)
    assert len(found) == 4
    assert {len(window) for window in found} == {language.PLACES + 1}
    assert sum(window[0] == tokens.numbers["b"] for window in found) == 1


def test_no_text_is_in_two_parts() -> None:
    texts = {f"chapter_{number}": str(number) for number in range(50)}
    parts = excerpts.parts(texts)
    assert sorted(name for part in parts.values() for name in part) == sorted(texts)
    assert [len(parts[part]) for part in language.PARTS] == [30, 10, 10]


@pytest.mark.parametrize(("text", "typeset"), [('"Ay," said he.', "“Ay,” said he."), ("so--so", "so—so")])
def test_signs_are_those_of_the_vocabulary(text: str, typeset: str) -> None:
    assert excerpts.typeset(text) == typeset
