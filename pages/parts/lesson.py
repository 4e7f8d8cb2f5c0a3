"""What a page wants to be remembered: its aha and its trap, each a sentence with the numbers of the moment.

A page gives them with what moves (`Update.lesson`); they stand under its pictures, where they happen.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

PLACE = "lesson"


@dataclass(frozen=True)
class Lesson:
    """`caught` says that what is shown has fallen into the trap."""

    aha: str
    trap: str
    caught: bool = False

    def html(self) -> str:
        """Both side by side; nothing where a technique names neither.

        >>> Lesson("", "").html()
        ''
        """
        said = (("aha", "Aha", self.aha), ("trap caught" if self.caught else "trap", "Trap", self.trap))
        cells = (
            f'<p class="{kind}"><b>{title}:</b> {escape(words)}</p>' for kind, title, words in said if words
        )
        found = "".join(cells)
        return f'<div class="lesson">{found}</div>' if found else ""


NONE = Lesson("", "")
