"""`slimscope app`: start the explorer in a browser."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

from engine.commands import options
from engine.data import user
from engine.data.sets import ASSETS
from engine.file import intake
from engine.jobs import home
from engine.net import sources
from engine.types import SlimscopeError

ROOT = ASSETS.parent


def add(verbs: Any) -> None:
    command = verbs.add_parser("app", help="start the explorer in a browser")
    command.add_argument("--port", type=int, default=8501)
    command.add_argument("--address", default="127.0.0.1")
    command.add_argument("--weights", metavar="FILE", help="open this file; it is read where it lies")
    most = intake.LIMIT // 10**6
    command.add_argument("--limit", metavar="MB", type=int, default=most, help="largest weights file")
    options.add_code(command)
    command.set_defaults(run=run, json=False)


def run(given: Namespace) -> None:
    page = ROOT / "pages" / "parts" / "serve.py"
    if not page.is_file():
        raise SlimscopeError(f"{page} is missing: start the app from a checkout of slimscope")
    home.check()
    command = app_command(page, given.port, given.address)
    # Threads are bound before Python starts: Streamlit runs scripts in threads of its own.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLIMSCOPE_LIMIT": str(given.limit * 10**6)}
    environment["STREAMLIT_SERVER_MAX_UPLOAD_SIZE"] = str(given.limit)
    if given.own:
        _check_code(given)
        environment[user.VARIABLE] = os.environ[user.VARIABLE]
    if given.weights:
        path = Path(given.weights).absolute()
        intake.open_file(path, given.limit * 10**6)  # what is wrong with it is said here
        environment["SLIMSCOPE_WEIGHTS"] = str(path)
    os.chdir(ROOT)
    os.execve(command[0], command, environment)


def _check_code(given: Namespace) -> None:
    """Check all of what the app is to open, so that what is wrong with it is said at the start."""
    if not given.own_data:
        raise SlimscopeError(f"--model needs --data: {options.CODE} returns (train, validation, test)")
    given.model = ""
    _, bundle, _ = options.model_of(given)
    if not sources.data(bundle.arch).test.is_labelled:
        raise SlimscopeError(
            "the pages need targets that are numbers of classes; `slimscope compress --metric` takes any"
        )


def app_command(page: Path, port: int, address: str) -> list[str]:
    """The command line that serves the app."""
    server = [f"--server.port={port}", f"--server.address={address}"]
    return [sys.executable, "-m", "streamlit", "run", str(page), *server]
