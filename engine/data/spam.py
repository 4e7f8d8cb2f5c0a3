"""The task `spam`: whether a mail is spam, told from its subject and its first hundred words.

Made from SpamAssassin's public corpus by `engine.data.fetch`, and read from assets/data/spam. What says where
a mail comes from rather than what it says is left out: headers, tags of mailing lists, addresses and links.
"""

from __future__ import annotations

import email
import json
import re
import tarfile
import unicodedata
from collections.abc import Iterable, Iterator
from email.header import decode_header
from html.parser import HTMLParser
from pathlib import Path

from engine.data import lines
from engine.data.lines import Line
from engine.data.samples import Data

PIECES = 2048  # in the vocabulary
PLACES = 128  # word pieces of a mail that a net reads
WORDS, FEWEST = 100, 5  # of a body that are kept, and of a mail that is taken
ALIKE = 12  # words: mails whose bodies begin with the same are copies
CLASSES = {"ham": "no spam", "spam": "spam"}
MEMBER = re.compile(r"package/data/(easy-ham|hard-ham|spam)-\d/(\d+)\.\w+\.json")
TAG = re.compile(r"\[[^\]]*\]")  # of a mailing list, in a subject
ANSWER = re.compile(r"^\s*((re|fwd?|aw)\s*:\s*)+", re.IGNORECASE)
LINK = re.compile(r"https?://\S*|\bwww\.\S+", re.IGNORECASE)
ADDRESS = re.compile(r"\S+@\S+")


def read(folder: Path) -> Data:
    """Inputs (n, 128) int64: numbers of word pieces, 0 behind the last; labels are 0 or 1 (spam)."""
    return lines.read("spam", folder, PLACES)


def write(archive: tarfile.TarFile, folder: Path) -> None:
    """Mails, classes and word pieces of the task, from the npm package."""
    lines.write(taken(mails(archive)), CLASSES, folder, PIECES)


def mails(archive: tarfile.TarFile) -> Iterator[tuple[str, str, str]]:
    """(name, class, raw text) of each mail, in the order of the archive."""
    for member in archive:
        match = MEMBER.fullmatch(member.name)
        file = archive.extractfile(member) if match else None
        if match and file is not None:
            content = json.loads(file.read())
            section = "spam" if match[1] == "spam" else "ham"
            yield f"{content['group']}-{content['id']}", section, content["text"]


def taken(found: Iterable[tuple[str, str, str]]) -> list[Line]:
    """Mails that say something, by name; of copies the first. A source is what one subject is about."""
    kept: dict[str, Line] = {}
    for name, section, raw in sorted(found):
        subject, body = parts_of(raw)
        words = body.split()[:WORDS]
        text = " ".join([*subject.split(), *words])
        if len(text.split()) >= FEWEST:
            topic = re.sub(r"[^a-z]+", " ", subject.lower()).strip()
            line = Line(name, f"{section} {topic or name}", section, text)
            kept.setdefault(" ".join(words[:ALIKE]).lower() or name, line)
    return sorted(kept.values(), key=lambda line: line.name)


def parts_of(raw: str) -> tuple[str, str]:
    """Subject and text of a mail as plain letters; of a mail in HTML what a reader sees.

    >>> parts_of("Subject: Re: [list] Hello\\nFrom: a@b.c\\n\\nsee http://x.y or mail me@b.c\\n")
    ('Hello', 'see link or mail address')
    """
    mail = email.message_from_string(raw)
    subject = " ".join(_decoded(*part) for part in decode_header(str(mail.get("Subject", ""))))
    texts = [part for part in mail.walk() if part.get_content_maintype() == "text"]
    texts.sort(key=lambda part: part.get_content_subtype() != "plain")
    body = ""
    if texts:
        content = texts[0].get_payload(decode=True)
        body = _decoded(content if isinstance(content, bytes) else b"", texts[0].get_content_charset())
        if texts[0].get_content_subtype() == "html":
            body = _seen(body)
    return ANSWER.sub("", plain(TAG.sub(" ", subject))), plain(body)


def plain(text: str) -> str:
    """One line of ASCII letters, without accents, and words in place of links and addresses.

    >>> plain("Caf\u00e9:  <x@y.z>\\n\u4f60")
    'Cafe: address'
    """
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return " ".join(ADDRESS.sub("address", LINK.sub("link", letters)).split())


def _decoded(content: bytes | str, charset: str | None) -> str:
    if isinstance(content, str):
        return content
    try:
        return content.decode(charset or "latin-1", "replace")
    except LookupError:  # a charset that nobody knows
        return content.decode("latin-1")


class _Seen(HTMLParser):
    """Gathers what stands between tags, but for scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.hidden = 0

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.hidden += tag in ("script", "style", "title")

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= self.hidden > 0 and tag in ("script", "style", "title")

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.texts.append(data)


def _seen(html: str) -> str:
    parser = _Seen()
    parser.feed(html)
    parser.close()
    return " ".join(parser.texts)
