"""Where a visitor is in the story, as a pure value: the chapter, what was guessed, and whether it is presented."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

CHAPTERS = ("look", "prune", "guess", "tune", "quantize", "file", "record")  # as a link names them
ASKING = ("guess", "tune")  # chapters whose answer is guessed before it is shown


@dataclass(frozen=True)
class Place:
    """A chapter; the guesses (shares) that were made, by chapter; presented alone in large type, or on its page."""

    chapter: str = CHAPTERS[0]
    guesses: Mapping[str, float] = field(default_factory=dict)
    presented: bool = False

    @property
    def number(self) -> int:
        """The chapter's number, from 1."""
        return CHAPTERS.index(self.chapter) + 1

    @property
    def asks(self) -> bool:
        """Whether the chapter waits for a guess."""
        return self.chapter in ASKING and self.chapter not in self.guesses

    def has_told(self, chapter: str) -> bool:
        """Whether what a chapter has to say is seen here: the chapter is reached, and answered if it asks."""
        place = CHAPTERS.index(chapter) + 1
        return place < self.number or (place == self.number and not self.asks)

    def forward(self, standing: Mapping[str, float]) -> Place:
        """One step on: where the chapter asks, its answer is shown beside the guess; else the next chapter.

        `standing` are the guesses of all chapters that ask, as they stand now.

        >>> Place("guess").forward({"guess": 0.9})
        Place(chapter='guess', guesses={'guess': 0.9}, presented=False)
        >>> Place("guess", {"guess": 0.9}).forward({}).chapter, Place("file").forward({}).chapter
        ('tune', 'record')
        """
        if self.asks:
            return replace(self, guesses={**self.guesses, self.chapter: standing[self.chapter]})
        return replace(self, chapter=CHAPTERS[min(self.number, len(CHAPTERS) - 1)])

    def back(self) -> Place:
        """The chapter before."""
        return replace(self, chapter=CHAPTERS[max(self.number - 2, 0)])

    def follow(self, keys: str, standing: Mapping[str, float]) -> Place:
        """After these keys: n next, b back, x leaves the presentation.

        >>> Place().follow("nnb", {}).chapter, Place(presented=True).follow("x", {}).presented
        ('prune', False)
        """
        here = self
        for key in keys:
            match key:
                case "n":
                    here = here.forward(standing)
                case "b":
                    here = here.back()
                case "x":
                    here = replace(here, presented=False)
        return here

    def written(self) -> tuple[str | None, str | None]:
        """What a link says of it: the chapter, and "1" where it is presented; nothing of the first chapter alone.

        >>> Place("tune", presented=True).written(), Place().written()
        (('tune', '1'), (None, None))
        """
        is_first = self.chapter == CHAPTERS[0]
        return None if is_first and not self.presented else self.chapter, "1" if self.presented else None


def read(chapter: str | None, presented: str | None) -> tuple[Place, str]:
    """The place that a link names, and what is wrong with it: then it is the first chapter, or not presented.

    >>> read("tune", None)[0].chapter, read("end", "1")
    ('tune', (Place(chapter='look', guesses={}, presented=True), "The story has no chapter 'end': showing the first."))
    """
    problems = []
    if chapter not in (None, *CHAPTERS):
        problems.append(f"The story has no chapter {(chapter or '')[:30]!r}: showing the first.")
    if presented not in (None, "0", "1"):
        problems.append(f"Presentation mode is 1 or 0, not {presented[:30]!r}: it is off.")
    found = chapter if chapter in CHAPTERS else CHAPTERS[0]
    return Place(found, presented=presented == "1"), " ".join(problems)


def hear(
    place: Place, heard: int, message: object, standing: Mapping[str, float], base: str
) -> tuple[Place, int]:
    """The place after the keys in a browser's message that are new, and how many keys were heard in all.

    The browser sends every key since the `start`-th that the server has not confirmed: a message that is lost,
    overtaken or sent twice costs nothing.

    >>> hear(Place(), 0, {"base": "me", "start": 0, "keys": "nn"}, {}, "me")[0].chapter
    'guess'
    >>> hear(Place("prune"), 1, {"base": "me", "start": 0, "keys": "n"}, {}, "me")[1]
    1
    """
    match message:
        case {"base": str(by), "start": int(start), "keys": str(keys)} if by == base and 0 <= start <= heard:
            new = keys[heard - start :]
            return place.follow(new, standing), heard + len(new)
    return place, heard
