"""Word pieces as BERT reads them: words without accents, and each text between a first and a last sign.

Devlin et al. 2019, BERT, arXiv 1810.04805; MiniLM (Wang et al. 2020, arXiv 2002.10957) has its vocabulary.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from engine.data.pieces import PAD, SPECIAL, Pieces

FRAME = ("[cls]", "[sep]")
FIRST, LAST = 2, 3  # numbers of these two


class Framed(Pieces):
    """A vocabulary that begins with padding, the unknown piece, and the two signs of the frame."""

    longest = 100

    @staticmethod
    def words(text: str) -> list[str]:
        """Words in small letters without marks above or below; each sign and each ideograph is a word.

        >>> Framed.words("Zoë's GNOME™ clone")
        ['zoe', "'", 's', 'gnome™', 'clone']
        """
        apart = unicodedata.normalize("NFD", text.lower())
        plain = (sign for sign in apart if unicodedata.category(sign) != "Mn")
        return "".join(f" {sign} " if _is_word(sign) else sign for sign in plain).split()

    def encode(self, text: str) -> list[int]:
        """Numbers of the first sign, of all pieces, and of the last sign.

        >>> Framed([*SPECIAL, *FRAME, "cafe", "##s"]).encode("Cafés!")
        [2, 4, 5, 1, 3]
        """
        return [FIRST, *super().encode(text), LAST]

    def padded(self, text: str, places: int) -> list[int]:
        """As `encode`, filled up with padding; of a longer text the end is left out, and not the last sign.

        >>> Framed([*SPECIAL, *FRAME, "a"]).padded("a a a", 4)
        [2, 4, 4, 3]
        """
        found = self.encode(text)
        found = found if len(found) <= places else [*found[: places - 1], LAST]
        return found + [PAD] * (places - len(found))


def _is_word(sign: str) -> bool:
    kind, name = unicodedata.category(sign), unicodedata.name(sign, "")
    is_symbol = sign.isascii() and kind.startswith("S")  # not those beyond ASCII
    return is_symbol or kind.startswith("P") or name.startswith("CJK UNIFIED IDEOGRAPH")


def ordered(published: Iterable[str]) -> list[str]:
    """BERT's vocabulary with the four signs first, as `Framed` wants it; the others keep their order.

    >>> ordered(["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the"])
    ['[pad]', '[unk]', '[cls]', '[sep]', '[unused0]', '[MASK]', 'the']
    """
    signs = [sign.upper() for sign in (*SPECIAL, *FRAME)]
    return [*SPECIAL, *FRAME, *(piece for piece in published if piece not in signs)]
