"""Word pieces: a vocabulary worked by hand, words that are cut, padding and what no piece is there for."""

from __future__ import annotations

import random

from engine.data.pieces import INSIDE, PAD, SPECIAL, UNKNOWN, Pieces, learn, words


def test_merges_by_hand() -> None:
    """`low` twice and `lower` once: l-o thrice, then lo-w thrice, then e-r and low-e once each."""
    vocabulary = learn(["low low lower"], 9)
    assert vocabulary == [*SPECIAL, "l", "##e", "##o", "##r", "##w", "##ow", "low"]
    assert learn(["low low lower"], 100)[9:] == ["##er", "lower"]


def test_the_longest_piece_comes_first() -> None:
    pieces = Pieces([*SPECIAL, "low", "lower", "##er", "##e", "##st", "l", "##o", "##w"])
    assert pieces.encode("lower lowest LOW") == [3, 2, 5, 6, 2]
    assert pieces.encode("lox low") == [UNKNOWN, 2]  # x is in no piece: the whole word is unknown
    assert pieces.encode("") == pieces.encode(" \t") == [UNKNOWN]


def test_padding_and_truncation() -> None:
    pieces = Pieces([*SPECIAL, "a", "b"])
    assert pieces.padded("a b", 4) == [2, 3, PAD, PAD]
    assert pieces.padded("a b a b a", 3) == [2, 3, 2]


def test_signs_are_words_of_their_own_and_letters_of_any_script_are_letters() -> None:
    assert words("C++ (GTK-3), naïve_x") == [*"c++(", "gtk", "-", "3", ")", ",", "naïve", "_", "x"]
    assert words("日本 語!") == ["日本", "語", "!"]


def test_whatever_was_learned_reads_back() -> None:
    rng = random.Random(5)
    texts = [
        " ".join("".join(rng.choices("abcde", k=rng.randint(1, 9))) for _ in range(6)) for _ in range(40)
    ]
    pieces = Pieces(learn(texts, 60))
    assert len(set(pieces.vocabulary)) == len(pieces) == 60
    for text in texts:
        read = [pieces.vocabulary[number] for number in pieces.encode(text)]
        assert "".join(p.removeprefix(INSIDE) if p.startswith(INSIDE) else f" {p}" for p in read)[1:] == text


def test_a_very_long_word_is_unknown() -> None:
    assert Pieces([*SPECIAL, "a", "##a"]).encode("a" * 10_000 + " a") == [UNKNOWN, 2]
