"""Makes the task `language`: windows of tokens from Moby Dick and from State of the Union addresses.

Windows of one chapter or address are all in the same part. In each, they are spread evenly over the text.
"""

from __future__ import annotations

import hashlib
import json
import lzma
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from engine.data.language import PARTS, PLACES
from engine.data.samples import SPLIT_SEED
from engine.data.tokens import UNKNOWN, Tokens

DOCUMENTS = {
    "moby-dick": re.compile(r"package/data/(chapter_\d+)\.json"),
    "sotu": re.compile(r"package/data/(\d+_\w+)\.json"),
}
WINDOWS = {"train": 512, "validation": 128, "test": 128}  # of each of the two
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}  # of chapters or addresses


def documents(source: str, archive: tarfile.TarFile) -> dict[str, str]:
    """The texts of a package by name, in the order of their names."""
    found = {}
    for member in archive.getmembers():
        match = DOCUMENTS[source].fullmatch(member.name)
        file = archive.extractfile(member) if match else None
        if match and file is not None:
            found[match[1]] = typeset(json.loads(file.read())["text"])
    return dict(sorted(found.items()))


def typeset(text: str) -> str:
    """One paragraph a line, and signs as the vocabulary's own texts have them.

    >>> typeset('He said "no"--twice.')
    'He said “no”—twice.'
    """
    text = re.sub(r'"(?=\w)', "“", text)
    text = text.replace('"', "”").replace("--", "—")
    return re.sub(r"[^\S\n]+", " ", text).strip()


def windows(texts: Mapping[str, str], tokens: Tokens, count: int) -> list[list[int]]:
    """`count` windows of PLACES + 1 tokens, as many of each text as can be, evenly spread over it.

    A window with a letter that the vocabulary lacks is left out.
    """
    whole = []
    for text in texts.values():
        numbers = tokens.encode(text)
        cuts = [numbers[at : at + PLACES + 1] for at in range(0, len(numbers) - PLACES, PLACES + 1)]
        whole.append([cut for cut in cuts if UNKNOWN not in cut])
    each = 1
    while sum(min(len(cuts), each) for cuts in whole) < count:
        each += 1
    found = [
        cuts[place * len(cuts) // min(len(cuts), each)]
        for cuts in whole
        for place in range(min(len(cuts), each))
    ]
    return [found[place * len(found) // count] for place in range(count)]


def parts(texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The texts of train, validation and test, by a fixed seed."""
    order = np.random.Generator(np.random.PCG64(SPLIT_SEED)).permutation(len(texts))
    names, found, start = list(texts), {}, 0.0
    for part, share in SHARES.items():
        rows = order[round(start * len(order)) : round((start + share) * len(order))]
        found[part] = {names[row]: texts[names[row]] for row in sorted(rows)}
        start += share
    return found


def write(archives: Mapping[str, tarfile.TarFile], folder: Path) -> None:
    """All windows, each with the number of its part in front; `folder` has the vocabulary."""
    tokens = Tokens.read(folder / "tokens.json")
    rows: dict[str, list[list[int]]] = {part: [] for part in PARTS}
    for source, archive in archives.items():
        for part, texts in parts(documents(source, archive)).items():
            rows[part] += windows(texts, tokens, WINDOWS[part])
    rng = np.random.Generator(np.random.PCG64(SPLIT_SEED))  # some of a part are of both books
    mixed = {part: [found[row] for row in rng.permutation(len(found))] for part, found in rows.items()}
    content = b"".join(
        np.array([PARTS.index(part), *row], "<u2").tobytes() for part, found in mixed.items() for row in found
    )
    (folder / "windows.bin.xz").write_bytes(lzma.compress(content, preset=9 | lzma.PRESET_EXTREME))
    counts = ", ".join(f"{len(found):,} {part}" for part, found in mixed.items())
    print(f"{counts}; sha256 of all windows {hashlib.sha256(content).hexdigest()}")
