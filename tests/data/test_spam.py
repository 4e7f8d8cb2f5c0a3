"""Mails that are spam or not: the frozen corpus, what of a mail is kept, and parts that share no subject."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import tarfile
from pathlib import Path

import pytest

from engine.data import lines, sets, spam
from engine.data.pieces import PAD

FOLDER = sets.ASSETS / "data" / "spam"
MOST_BYTES = 800_000
COUNTS = [3543, 368, 615]
PLAIN = "Subject: {subject}\nFrom: a@b.c\n\n{body}\n"


def test_the_corpus_is_the_frozen_one() -> None:
    held = sets.load("spam")
    digest = hashlib.sha256(lzma.decompress((FOLDER / "lines.tsv.xz").read_bytes())).hexdigest()
    assert digest in (FOLDER / "SOURCE.md").read_text()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES
    assert held.classes == ("no spam", "spam")
    assert [len(part) for part in (held.train, held.validation, held.test)] == COUNTS
    for part in (held.train, held.validation, held.test):
        assert part.images.shape[1] == spam.PLACES
        assert bool((part.images[:, 0] != PAD).all())
        assert int(part.images.max()) < len(lines.vocabulary(FOLDER)) == spam.PIECES
        assert part.is_text
        assert 0.2 < float(part.labels.float().mean()) < 0.4


def test_no_mail_is_in_two_parts_and_none_says_where_it_came_from() -> None:
    held = sets.load("spam")
    parts = [set(part.texts) for part in (held.train, held.validation, held.test)]
    assert len(set.union(*parts)) == sum(map(len, parts)) == sum(COUNTS)
    every = " ".join(text for part in parts for text in part)
    assert "http://" not in every
    assert not spam.ADDRESS.search(every)


def test_of_html_what_a_reader_sees_and_of_two_texts_the_plain_one() -> None:
    seen = "<title>x</title><style>b{}</style><p>Buy&nbsp;<b>now</b></p>"
    html = f"Subject: Hi\nContent-Type: text/html\n\n{seen}\n"
    assert spam.parts_of(html) == ("Hi", "Buy now")
    both = (
        "Subject: =?iso-8859-1?Q?Gr=FC=DFe?=\nContent-Type: multipart/alternative; boundary=x\n\n"
        "--x\nContent-Type: text/html\n\n<p>loud</p>\n--x\nContent-Type: text/plain\n\nquiet\n--x--\n"
    )
    assert spam.parts_of(both) == ("Grue", "quiet")
    unknown = "Subject: a\nContent-Type: text/plain; charset=nobodys\n\nold text\n"
    assert spam.parts_of(unknown) == ("a", "old text")


def test_copies_and_mails_that_say_nothing_are_left_out() -> None:
    body = "one two three four five six seven eight nine ten eleven twelve"
    found = [
        ("spam-2", "spam", PLAIN.format(subject="Win 100", body=f"{body} 13")),
        ("spam-1", "spam", PLAIN.format(subject="Win 200", body=body)),
        ("ham-1", "ham", PLAIN.format(subject="Re: [list] Kernel", body="a patch " * 90)),
        ("ham-2", "ham", PLAIN.format(subject="no", body="yes")),
    ]
    ham, first = spam.taken(found)
    assert (first.name, first.source, first.text) == ("spam-1", "spam win", f"Win 200 {body}")
    assert (ham.source, len(ham.text.split())) == ("ham kernel", 1 + spam.WORDS)


def test_it_is_written_from_the_package_and_read_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for section in ("easy-ham", "spam"):
            for i in range(20):
                body = f"{section} says number {i} to you"
                mail = PLAIN.format(subject=f"{section} {chr(97 + i)}", body=body)
                content = json.dumps({"id": f"{i:05}", "group": f"{section}-1", "text": mail}).encode()
                member = tarfile.TarInfo(f"package/data/{section}-1/{i:05}.ab{i}.json")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    packed.seek(0)
    with tarfile.open(fileobj=packed) as archive:
        spam.write(archive, tmp_path)
    held = spam.read(tmp_path)
    assert [len(part) for part in (held.train, held.validation, held.test)] == [28, 4, 8]
    for text, label in zip(held.test.texts, held.test.labels, strict=True):
        assert text.startswith("spam" if label else "easy-ham")
    digest = hashlib.sha256(lzma.decompress((tmp_path / "lines.tsv.xz").read_bytes())).hexdigest()
    assert digest in capsys.readouterr().out
