"""`slimscope papers`: published results, and how far our own runs came."""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from engine import papers
from engine.commands import Said
from engine.papers import harness
from engine.papers.harness import Paper
from engine.printing import aligned, bar, interval, number
from engine.types import SlimscopeError


def add(verbs: Any) -> None:
    command = verbs.add_parser("papers", help="published results, and how far our own runs came")
    command.add_argument("name", metavar="NAME", nargs="?", help="one of them; all where it is left out")
    command.add_argument("--run", dest="go", action="store_true", help="run the seeds that are missing")
    command.add_argument("--seed", metavar="N", type=int, help="run this seed alone")
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    chosen = [papers.get(given.name)] if given.name else list(papers.PAPERS.values())
    if given.seed is not None and not given.go:
        raise SlimscopeError(f"--seed {given.seed} says which seed to run: it goes with --run")
    if given.go and not given.name:
        raise SlimscopeError(f"--run needs a NAME: allowed is one of {', '.join(papers.PAPERS)}")
    for paper in chosen if given.go else ():
        for seed in paper.seeds if given.seed is None else (given.seed,):
            try:
                _reproduce(paper, seed)
            except harness.Busy as busy:
                if given.seed is not None:
                    raise
                print(f"{busy}; going on with the next", file=sys.stderr)
    described = [harness.describe(paper) for paper in chosen]
    return described, "\n".join(_text(found) for found in described)


def _reproduce(paper: Paper, seed: int) -> None:
    missing = seed in paper.seeds and seed not in harness.results(paper)
    with bar(f"{paper.name}, seed {seed}", disable=not missing) as progress:
        harness.run(paper, seed, progress)


def _text(found: Mapping[str, Any]) -> str:
    title = ", ".join(filter(None, (f"{found['name']}: {found['status']}", found["start"])))
    return "\n".join([title, f"  {found['claim']}", f"  {found['paper']}", claim_table(found)])


def claim_table(paper: Mapping[str, Any]) -> str:
    """Published figures beside ours as aligned text: median and range over the seeds that are done."""
    done, needed = len(paper["seeds"]["done"]), len(paper["seeds"]["needed"])
    head = ("", "published", f"ours ({done} of {needed} seeds)", "range", "unit", "counted")
    rows = [
        (
            figure["name"],
            "not stated" if figure["published"] is None else number(figure["published"]),
            "" if figure["median"] is None else number(figure["median"]),
            interval(figure["spread"]),
            figure["unit"],
            figure["counted"],
        )
        for figure in paper["figures"]
    ]
    return aligned([head, *rows])
