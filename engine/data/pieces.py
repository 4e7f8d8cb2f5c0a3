"""Word pieces: a text as numbers, each word cut into the longest pieces that a vocabulary has.

WordPiece of Wu et al. 2016 (arXiv 1609.08144, section 4.1); the vocabulary is learned by merging the pair
of pieces that occurs most often, as in Sennrich et al. 2016 (arXiv 1508.07909).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

PAD, UNKNOWN = 0, 1
SPECIAL = ("[pad]", "[unk]")
INSIDE = "##"  # in front of a piece that goes on with a word
LONGEST = 40  # letters; a longer word is one unknown piece
WORD = re.compile(r"[^\W_]+|[^\w\s]|_")

Word = tuple[str, ...]


def words(text: str) -> list[str]:
    """Words and signs of a text, in small letters.

    >>> words("GTK+ based e-mail")
    ['gtk', '+', 'based', 'e', '-', 'mail']
    """
    return WORD.findall(text.lower())


class Pieces:
    """A vocabulary: the number of a piece is its place in it; the first two are padding and unknown."""

    longest = LONGEST
    words = staticmethod(words)

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self.vocabulary = tuple(vocabulary)
        self.numbers = {piece: number for number, piece in enumerate(self.vocabulary)}
        self.known: dict[str, list[int]] = {}  # words that were cut already

    def __len__(self) -> int:
        return len(self.vocabulary)

    def encode(self, text: str) -> list[int]:
        """Numbers of the pieces of all words; a text without words is one unknown piece.

        >>> Pieces([*SPECIAL, "pack", "##er", "##age"]).encode("Package packer?")
        [2, 4, 2, 3, 1]
        """
        return [number for word in self.words(text) for number in self._cut(word)] or [UNKNOWN]

    def padded(self, text: str, places: int) -> list[int]:
        """As `encode`, cut off behind so many places, or filled up with padding."""
        found = self.encode(text)[:places]
        return found + [PAD] * (places - len(found))

    def read(self, numbers: Iterable[int]) -> list[str]:
        """The pieces with these numbers, without padding.

        >>> Pieces([*SPECIAL, "pack", "##er"]).read([2, 3, 0])
        ['pack', '##er']
        """
        return [self.vocabulary[number] for number in numbers if number != PAD]

    def _cut(self, word: str) -> list[int]:
        if word not in self.known:
            self.known[word] = self._longest_first(word)
        return self.known[word]

    def _longest_first(self, word: str) -> list[int]:
        found: list[int] = []
        start = 0
        while start < len(word):
            lead = INSIDE if start else ""
            ends = range(len(word), start, -1) if len(word) <= self.longest else ()
            end = next((end for end in ends if lead + word[start:end] in self.numbers), None)
            if end is None:
                return [UNKNOWN]
            found.append(self.numbers[lead + word[start:end]])
            start = end
        return found


def learn(texts: Iterable[str], size: int) -> list[str]:
    """A vocabulary of `size` pieces, or fewer where all words are whole before: the same for the same texts.

    >>> learn(["aa aa ab"], 6)
    ['[pad]', '[unk]', 'a', '##a', '##b', 'aa']
    """
    counts = Counter(word for text in texts for word in words(text))
    cut: dict[str, Word] = {word: _letters(word) for word in counts}
    vocabulary = [*SPECIAL, *sorted({p for parts in cut.values() for p in parts}, key=_order)]
    pairs: Counter[tuple[str, str]] = Counter()
    for word, parts in cut.items():
        _count(pairs, parts, counts[word])
    while len(vocabulary) < size and (most := max(pairs.values(), default=0)) > 0:
        pair = min(pair for pair, count in pairs.items() if count == most)
        vocabulary.append(_joined(pair))
        for word, parts in cut.items():
            if pair in pairwise(parts):
                _count(pairs, parts, -counts[word])
                cut[word] = _merged(parts, pair)
                _count(pairs, cut[word], counts[word])
    return vocabulary


def _letters(word: str) -> Word:
    return (word[0], *(INSIDE + letter for letter in word[1:]))


def _order(piece: str) -> tuple[bool, str]:
    return piece.startswith(INSIDE), piece


def _count(pairs: Counter[tuple[str, str]], parts: Word, times: int) -> None:
    for pair in pairwise(parts):
        pairs[pair] += times


def _joined(pair: tuple[str, str]) -> str:
    return pair[0] + pair[1].removeprefix(INSIDE)


def _merged(parts: Word, pair: tuple[str, str]) -> Word:
    found: list[str] = []
    for part in parts:
        if found and (found[-1], part) == pair:
            found[-1] = _joined(pair)
        else:
            found.append(part)
    return tuple(found)
