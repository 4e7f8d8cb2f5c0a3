"""Makes the task `debian-topics` from what apt knows: one-line descriptions, and the section of each.

Lines of packages that are built from one source resemble each other ("... (data files)"): a source is in one
part alone (`engine.data.lines`).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from engine.data import lines as kept
from engine.data.lines import Line
from engine.data.topics import PIECES
from engine.types import SlimscopeError

# Debian's section -> what a page calls it
TOPICS = {
    "admin": "administration",
    "database": "databases",
    "editors": "editors",
    "fonts": "fonts",
    "games": "games",
    "graphics": "graphics",
    "mail": "mail",
    "math": "mathematics",
    "net": "network",
    "science": "science",
    "sound": "sound",
    "text": "text",
    "video": "video",
    "web": "web",
    "x11": "desktop",
}
EMPTY = re.compile(r"\b(transitional|dummy)\b", re.IGNORECASE)  # packages without a content of their own


def available(archive: Path | None = None) -> str:
    """What `apt-cache dumpavail` prints here; `archive` is a copy of such a text."""
    if archive is not None:
        return archive.read_text(encoding="utf-8")
    apt = shutil.which("apt-cache")
    if apt is None:
        raise SlimscopeError("apt-cache is missing: it is needed to make this task (not to run slimscope)")
    done = subprocess.run([apt, "dumpavail"], capture_output=True, check=True)
    return done.stdout.decode("utf-8")


def write(text: str, folder: Path) -> None:
    """Lines, topics and word pieces of the task, from a text as `available` gives it."""
    kept.write(lines(text), TOPICS, folder, PIECES)


def lines(text: str) -> list[Line]:
    """The lines of the topics' packages, by package; a text that occurs again is left out, and so are
    packages that only lead to others, and those of no Debian archive, which have no `Description-md5`.

    >>> lines("Package: joe\\nSection: editors\\nDescription: small editor\\nDescription-md5: 1\\n")
    [Line(name='joe', source='joe', section='editors', text='small editor')]
    """
    found: dict[str, Line] = {}
    for line in sorted(_lines(text), key=lambda line: line.name):
        if not EMPTY.search(line.text):
            found.setdefault(line.text.lower(), line)
    return sorted(found.values(), key=lambda line: line.name)


def _lines(text: str) -> Iterator[Line]:
    for record in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in record.splitlines() if re.match(r"[\w-]+: ", line))
        if "Description-md5" in fields and fields.get("Section") in TOPICS:
            package = fields["Package"]
            source = fields.get("Source", package).partition(" ")[0]
            yield Line(package, source, fields["Section"], " ".join(fields["Description"].split()))
