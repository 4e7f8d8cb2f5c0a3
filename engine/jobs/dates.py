"""The day on which the stored curves of a model were measured last: a small file beside them."""

from __future__ import annotations

import time
from pathlib import Path

from engine.jobs.curves import FOLDER

NAME = "measured.tsv"  # in the folder of the curves: a model and its day in each line


def stored(model_id: str, folder: Path | None = None) -> str:
    """The day (YYYY-MM-DD, UTC) of a model's stored points; empty without any."""
    return _read(folder or FOLDER).get(model_id, "")


def _read(folder: Path) -> dict[str, str]:
    path = folder / NAME
    lines = path.read_text().splitlines() if path.is_file() else []
    return dict(line.split("\t") for line in lines)


def note(model_id: str, folder: Path) -> None:
    """Write down today for a model."""
    today = time.strftime("%Y-%m-%d", time.gmtime())
    dates = {**_read(folder), model_id: today}
    (folder / NAME).write_text("".join(f"{name}\t{day}\n" for name, day in sorted(dates.items())))
