"""Topics of Debian's packages: the frozen snapshot, parts that share no source, texts that can be read."""

from __future__ import annotations

import hashlib
import lzma
from pathlib import Path

import pytest
import torch

from engine.data import debian, fetch, lines, sets, topics
from engine.data.debian import TOPICS
from engine.data.lines import Line
from engine.data.pieces import PAD
from engine.data.samples import Samples
from engine.types import SlimscopeError

FOLDER = sets.ASSETS / "data" / "debian-topics"
MOST_BYTES = 700_000


def record(package: str, section: str, text: str, source: str = "") -> str:
    told = f"\nSource: {source} (1.0-2)" if source else ""
    more = f"Description-md5: 00\nTag: a::b,\n c::d\nSection: {section}\n"
    return f"Package: {package}{told}\nDescription: {text}\n{more}"


def test_the_snapshot_is_the_frozen_one() -> None:
    held = sets.load("debian-topics")
    assert [len(part) for part in (held.train, held.validation, held.test)] == [8218, 985, 1638]
    digest = hashlib.sha256(lzma.decompress((FOLDER / "lines.tsv.xz").read_bytes())).hexdigest()
    assert digest in (FOLDER / "SOURCE.md").read_text()
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MOST_BYTES
    assert held.classes == tuple(TOPICS.values())
    assert held.test.texts[:2] == ("cross-distribution packaging system", "Play chess across 3 boards!")
    assert [held.classes[label] for label in held.test.labels[:2]] == ["administration", "games"]


def test_inputs_are_pieces_of_the_texts_and_no_text_is_in_two_parts() -> None:
    held, pieces = sets.load("debian-topics"), lines.vocabulary(FOLDER)
    assert len(pieces) == topics.PIECES
    seen: set[str] = set()
    for part in (held.train, held.validation, held.test):
        assert (part.images.dtype, part.images.shape[1]) == (torch.int64, topics.PLACES)
        assert 0 <= int(part.images.min()) <= int(part.images.max()) < len(pieces)
        assert bool((part.images[:, 0] != PAD).all())
        assert part.labels.unique().tolist() == list(range(topics.CLASSES))
        own = {text.lower() for text in part.texts}
        assert len(own) == len(part)
        assert not own & seen
        seen |= own
        assert part.inputs(slice(3)).tolist() == [
            pieces.padded(text, topics.PLACES) for text in part.texts[:3]
        ]


def test_what_is_taken_keeps_its_texts() -> None:
    part = sets.load("debian-topics").validation
    rows = torch.tensor([4, 2])
    assert part.take(rows).texts == (part.texts[4], part.texts[2])
    assert part.take(slice(1, 3)).texts == part.texts[1:3]
    few = part.stratified(100)
    assert len(few.texts) == 100
    assert all(part.texts.index(text) for text in few.texts[1:])
    assert part.is_text
    assert not part.is_drawable
    assert not Samples(part.images, part.labels).is_text


def test_which_lines_are_taken() -> None:
    text = "\n".join(
        (
            record("joe", "editors", "small  editor"),
            record("joe-data", "editors", "Small editor"),  # the same text
            record("old", "net", "transitional package"),
            record("lib", "libs", "a library"),  # no topic
            record("nodejs", "web", "from elsewhere").replace("Description-md5: 00\n", ""),
            record("zed", "editors", "large editor", "zedsource"),
        )
    )
    assert debian.lines(text) == [
        Line("joe", "joe", "editors", "small editor"),
        Line("zed", "zedsource", "editors", "large editor"),
    ]


def test_packages_of_one_source_are_in_one_part_and_outside_of_training_one_stands_for_all() -> None:
    found = [
        Line(f"{section}{i}-{j}", f"{section}{i}", section, f"{section} {i} {j}")
        for section in TOPICS
        for i in range(25)
        for j in range(3)
    ]
    parts = lines.split(found, TOPICS)
    sources = {part: {line.source for line in own} for part, own in parts.items()}
    assert {part: len(own) for part, own in sources.items()} == {"train": 255, "validation": 45, "test": 75}
    assert sources["train"].isdisjoint(sources["test"] | sources["validation"])
    assert sources["test"].isdisjoint(sources["validation"])
    assert len(parts["train"]) == 3 * 255
    assert [len(parts[part]) for part in ("validation", "test")] == [45, 75]
    assert lines.split(found, TOPICS) == parts


def test_it_is_written_from_what_apt_prints_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [
        record(f"{section}{i}", section, f"{name} number {i}")
        for section, name in TOPICS.items()
        for i in range(10)
    ]
    (tmp_path / "apt.txt").write_text("\n".join(records))
    monkeypatch.setattr(fetch, "ASSETS", tmp_path)
    monkeypatch.setattr("sys.argv", ["fetch", "debian-topics", "--archive", str(tmp_path / "apt.txt")])
    fetch.main()
    folder = tmp_path / "data" / "debian-topics"
    held = topics.read(folder)
    assert [len(part) for part in (held.train, held.validation, held.test)] == [105, 15, 30]
    for text, label in zip(held.test.texts, held.test.labels, strict=True):
        assert text.startswith(held.classes[label])
    said = capsys.readouterr().out
    assert hashlib.sha256(lzma.decompress((folder / "lines.tsv.xz").read_bytes())).hexdigest() in said


def test_without_apt_a_sentence_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian.shutil, "which", lambda name: None)
    with pytest.raises(SlimscopeError, match="apt-cache is missing"):
        debian.available()


@pytest.mark.parametrize(
    ("name", "known", "told"),
    [
        ("debian-topics", 0.7131, "a Naive Bayes of whole words is at {:.1f} %"),
        ("spam", 0.9415, "A Naive Bayes of whole words is right in {:.1f} % of the test mails"),
    ],
)
def test_naive_bayes_of_words_is_as_right_as_the_readme_says(name: str, known: float, told: str) -> None:
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.naive_bayes import MultinomialNB

    held, counter = sets.load(name), CountVectorizer()
    bayes = MultinomialNB(alpha=0.3).fit(counter.fit_transform(held.train.texts), held.train.labels.numpy())
    right = bayes.score(counter.transform(held.test.texts), held.test.labels.numpy())
    assert right == pytest.approx(known, abs=0.002)
    readme = (sets.ASSETS.parent / "README.md").read_text()
    assert told.format(100 * right) in readme
