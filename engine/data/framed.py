"""Word pieces as BERT reads them: words without accents, and each text between a first and a last token.

Devlin et al. 2019, BERT, arXiv 1810.04805; MiniLM (Wang et al. 2020, arXiv 2002.10957) has its vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from engine.data.pieces import PAD, SPECIAL, Pieces

FRAME = ("[cls]", "[sep]")
FIRST, LAST = 2, 3  # the numbers of these two


class Framed(Pieces):
    """A vocabulary that begins with padding, the unknown piece, and the two tokens of the frame."""

    longest = 100

    @staticmethod
    def words(text: str) -> list[str]:
        """Words in lower case without accents; punctuation and ideographs are words of their own.

        What is not printed is left out.

        >>> Framed.words("Zoë's GNOME™ clone")
        ['zoe', "'", 's', 'gnome™', 'clone']
        """
        printed = (letter for letter in text if letter in "\t\n\r" or not _is_hidden(letter))
        apart = unicodedata.normalize("NFD", "".join(printed))
        plain = (letter.lower() for letter in apart if unicodedata.category(letter) != "Mn")
        return "".join(f" {letter} " if _is_word(letter) else letter for letter in plain).split()

    def encode(self, text: str) -> list[int]:
        """Numbers of the first token, of all pieces, and of the last token.

        >>> Framed([*SPECIAL, *FRAME, "cafe", "##s"]).encode("Cafés!")
        [2, 4, 5, 1, 3]
        """
        return [FIRST, *super().encode(text), LAST]

    def padded(self, text: str, places: int) -> list[int]:
        """As `encode`, filled up with padding; of a longer text the end is left out, and not the last token.

        >>> Framed([*SPECIAL, *FRAME, "a"]).padded("a a a", 4)
        [2, 4, 4, 3]
        """
        found = [FIRST, *super().encode(text)[: places - 2], LAST]
        return found + [PAD] * (places - len(found))


def _is_hidden(letter: str) -> bool:
    return letter == "\ufffd" or unicodedata.category(letter).startswith("C")


def _is_word(letter: str) -> bool:
    kind, name = unicodedata.category(letter), unicodedata.name(letter, "")
    is_symbol = letter.isascii() and kind.startswith("S")  # not those beyond ASCII
    return is_symbol or kind.startswith("P") or name.startswith("CJK UNIFIED IDEOGRAPH")


def ordered(published: Iterable[str]) -> list[str]:
    """BERT's vocabulary with the four special tokens first, as `Framed` wants it; all others in their order.

    >>> ordered(["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the"])
    ['[pad]', '[unk]', '[cls]', '[sep]', '[unused0]', '[MASK]', 'the']
    """
    special = [token.upper() for token in (*SPECIAL, *FRAME)]
    return [*SPECIAL, *FRAME, *(piece for piece in published if piece not in special)]
