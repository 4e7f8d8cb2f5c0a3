"""The slimscope command: list the zoo, compress a net, inspect a file, run papers again, start the app.

Mistakes give one line on stderr and exit code 2. Numbers come with unit, basis and how they
were obtained; `--json` gives the same as data.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from typing import NoReturn

import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.commands import (
    app,
    catalogue,
    compress,
    curves,
    decode,
    export,
    inspect,
    latency,
    reproduce,
    starts,
    stored,
    story,
    sweep,
)
from engine.printing import json_text
from engine.types import SlimscopeError


class Parser(argparse.ArgumentParser):
    """argparse that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(words: Sequence[str] | None = None) -> None:
    """Run one command; exits with 2 and one line on stderr where the person can mend it."""
    torch.set_num_threads(1)
    given = _parser().parse_args(words)
    try:
        with redirect_stdout(sys.stderr):  # what a user's code prints must not end up in the answer
            said = given.run(given)
        if said:
            data, text = said
            print(json_text(data) if given.json else text)
    except (SlimscopeError, OSError) as error:
        print(f"slimscope: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def _parser() -> Parser:
    parser = Parser(prog="slimscope", description="Compression of neural networks, explored.")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="COMMAND", parser_class=Parser)
    for command in (
        catalogue,
        compress,
        inspect,
        decode,
        export,
        reproduce,
        sweep,
        curves,
        latency,
        starts,
        stored,
        story,
    ):
        command.add(verbs)
    for listed in verbs.choices.values():
        listed.add_argument("--json", action="store_true", help="print JSON")
    app.add(verbs)
    return parser


if __name__ == "__main__":
    main()
