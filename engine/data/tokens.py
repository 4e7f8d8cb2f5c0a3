"""Tokens of a language model: a text as numbers, by merging the pairs of letters that a vocabulary names.

Byte-pair encoding on letters (Sennrich et al. 2016, arXiv 1508.07909). A space is written as "▁", and a
word begins with the space in front of it, so that a text comes back exactly.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

SPACE = "▁"
SPECIAL = ("<pad>", "<unk>", "<bos>", "<eos>")
UNKNOWN = SPECIAL.index("<unk>")
STRANGE = "⁇"  # stands in a text for letters that the vocabulary lacks
CHUNK = re.compile(rf"\n|{SPACE}*[^{SPACE}\n]+|{SPACE}+")  # no token goes from one of these into the next


class Tokens:
    """A vocabulary: special tokens, single letters, then one token for each merge, the first merge first."""

    def __init__(self, letters: Sequence[str], merges: Iterable[Sequence[str]]) -> None:
        pairs = [(first, second) for first, second in merges]
        self.vocabulary = (*SPECIAL, *letters, *(first + second for first, second in pairs))
        self.numbers = {token: number for number, token in enumerate(self.vocabulary)}
        self.ranks = {pair: rank for rank, pair in enumerate(pairs)}
        self.known: dict[str, list[int]] = {}  # chunks that were cut already

    @classmethod
    def read(cls, path: Path) -> Tokens:
        """A vocabulary from JSON with `alphabet` (letters) and `merges` (pairs)."""
        found = json.loads(path.read_text(encoding="utf-8"))
        return cls(found["alphabet"], found["merges"])

    def __len__(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Each token as it reads in a text."""
        signs = (*("" for _ in SPECIAL), *self.vocabulary[len(SPECIAL) :])
        return tuple(
            STRANGE if number == UNKNOWN else text.replace(SPACE, " ") for number, text in enumerate(signs)
        )

    def encode(self, text: str) -> list[int]:
        """Numbers of the tokens of a text; letters that the vocabulary lacks are unknown tokens.

        >>> Tokens(["a", "b", "▁"], [("a", "b"), ("▁", "ab")]).encode("ab abc")
        [7, 8, 1]
        """
        chunks = CHUNK.findall(unicodedata.normalize("NFC", text).replace(" ", SPACE))
        return [number for chunk in chunks for number in self._cut(chunk)]

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of some tokens.

        >>> Tokens(["a", "b", "▁"], [("a", "b"), ("▁", "ab")]).decode([7, 8, 1])
        'ab ab⁇'
        """
        return "".join(self.words[number] for number in numbers)

    def _cut(self, chunk: str) -> list[int]:
        if chunk not in self.known:
            self.known[chunk] = [self.numbers.get(token, UNKNOWN) for token in self._merged(list(chunk))]
        return self.known[chunk]

    def _merged(self, parts: list[str]) -> list[str]:
        while pairs := [pair for pair in pairwise(parts) if pair in self.ranks]:
            best = min(pairs, key=self.ranks.__getitem__)
            found: list[str] = []
            place = 0
            while place < len(parts):
                is_pair = tuple(parts[place : place + 2]) == best
                found.append("".join(best) if is_pair else parts[place])
                place += 1 + is_pair
            parts = found
        return parts
