"""A server and a real browser for benchmarks and pictures."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SETTLED = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


# The page is at rest, and no tile is being worked out.
QUIET = f"() => document.querySelector('{SETTLED}') && !document.querySelector('[aria-busy=true]')"
PATIENCE = 300_000  # milliseconds: a limit, never a result


@contextmanager
def serving(script: str, weights: Path | None = None) -> Iterator[str]:
    """The address of a server that runs `script`, in a home of its own, until the block ends.

    `weights` is a file that the server opens by its path, as `slimscope app --weights FILE` does.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "streamlit", "run", str(ROOT / script), "--server.port", str(port)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "SLIMSCOPE_HOME": home}
        if weights is not None:
            environment["SLIMSCOPE_WEIGHTS"] = str(weights)
        with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                yield _ready(f"http://127.0.0.1:{port}", process)
            finally:
                process.terminate()
                process.wait(20)


def _ready(address: str, process: subprocess.Popen[bytes]) -> str:
    deadline = time.time() + 180
    while time.time() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/_stcore/health", timeout=5):
                return address
        except OSError:
            time.sleep(0.02)
    raise RuntimeError(f"no server at {address}")


@contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium under playwright."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("chromium is missing: install Debian's package chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


def open_page(
    browser: Any,
    address: str,
    width: int = 1280,
    scheme: str = "light",
    wait: str = ".tile",
    script: str = "",
) -> Any:
    """A fresh visitor's page, drawn to the end; `script` runs in it before its own scripts."""
    page = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme).new_page()
    page.set_default_timeout(PATIENCE)
    page.add_init_script(script)
    page.goto(address)
    page.wait_for_selector(wait)
    page.wait_for_selector(SETTLED)
    page.wait_for_timeout(1500)
    return page
