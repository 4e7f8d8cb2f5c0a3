"""`slimscope story`: measure the chapters of the guided story, one file for each model of the zoo."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from engine.commands import Said
from engine.jobs import story
from engine.printing import aligned, bar

MODELS = ("lenet-300-100", "lenet-5")


def add(verbs: Any) -> None:
    command = verbs.add_parser("story", help="measure the guided story of models of the zoo, and keep it")
    command.add_argument("models", metavar="MODEL", nargs="*", help=f"{' and '.join(MODELS)} unless told")
    text = "where the files are written; those of slimscope itself unless told"
    command.add_argument("--out", metavar="FOLDER", type=Path, default=story.FOLDER, help=text)
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    """Write the story of each model, and print its chapters."""
    told: list[dict[str, Any]] = []
    table: list[tuple[str, ...]] = [("model", "chapter", "bytes", "validation", "test")]
    for model in given.models or MODELS:
        with bar(model) as progress:
            found = story.tell(model, progress)
        given.out.mkdir(parents=True, exist_ok=True)
        story.path(model, given.out).write_text(json.dumps(found, indent=1) + "\n")
        told.append(found)
        table += [_line(model, row) for row in found["rows"]]
    return told, aligned(table)


def _line(model: str, row: story.Row) -> tuple[str, ...]:
    chapter = f"{row['chapter']} {row['sparsity']:.0%}" if "sparsity" in row else row["chapter"]
    shares = (f"{100 * row[part]['value']:.2f} %" for part in ("validation", "test"))
    return model, chapter, f"{row['bytes']:,}", *shares
