"""What all tests share: one thread, a home of their own, the real server, a real browser."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch
os.environ["SLIMSCOPE_NICE"] = "0"  # several tests at once leave no time that nice jobs could have

import io
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest
import torch
from hypothesis import settings

from engine.data.sets import Data
from engine.recipe.run import apply
from engine.types import Bundle, Cancelled, Progress, Step

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 120.0  # seconds until a server must answer: a limit, never a result
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--disable-sync",
)

# The longest first: then processes that are dealt whole files end together.
LONGEST = (
    "test_pages.py",
    "test_browser.py",
    "test_browser_own.py",
    "test_first_screen.py",
    "test_files_on_pages.py",
    "test_slow_line.py",
    "test_memory.py",
    "test_recipe_on_pages.py",
    "test_tour.py",
    "test_manager.py",
    "test_large_model.py",
    "test_large_browser.py",
    "test_contract.py",
    "test_own_model.py",
    "test_story_browser.py",
    "test_isolation.py",
    "test_sources.py",
    "test_script.py",
    "test_notebook.py",
)

pytest.register_assert_rewrite("browsing", "visiting")
torch.set_num_threads(1)
settings.register_profile("slimscope", deadline=None, max_examples=60)  # tests do not time anything
settings.load_profile("slimscope")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(place)))


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Jobs, results and uploads of tests never meet the person's own, nor those of another file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMSCOPE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


# ---------------------------------------------------------------- trainings that are broken off


def assert_resumes_exactly(
    bundle: Bundle, step: Step, data: Data, stop: int, folder: Path
) -> list[dict[str, float]]:
    """A training stopped at its report number `stop` and resumed ends as the unbroken one does, bit for bit.

    Returns the rows that the resumed run says again.
    """
    whole, report = apply(bundle, step, data)
    seen: list[float] = []
    broken = Progress(lambda share, row: seen.append(share), lambda: len(seen) >= stop, folder)
    with pytest.raises(Cancelled):
        apply(bundle, step, data, broken)
    again: list[tuple[float, dict[str, float]]] = []
    resumed = Progress(lambda share, row: again.append((share, dict(row or {}))), folder=folder)
    after, said = apply(bundle, step, data, resumed)
    assert after.fingerprint == whole.fingerprint
    assert said.figures == report.figures
    pd.testing.assert_frame_equal(said.tables["curve"], report.tables["curve"], check_exact=True)
    return [row for share, row in again if share <= seen[-1]]


# ---------------------------------------------------------------- the command line in this process


@pytest.fixture
def decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """`slimscope compress` reads its file back by the same command, in this process: a start costs seconds.

    That the file is enough for another process is asserted where that is the claim.
    """
    from engine import cli
    from engine.commands import compress

    def run(command: Sequence[str], **_: Any) -> subprocess.CompletedProcess[str]:
        said, wrong, code = io.StringIO(), io.StringIO(), 0
        with redirect_stdout(said), redirect_stderr(wrong):
            try:
                cli.main(command[3:])  # behind `python -m engine.cli`
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess(command, code, said.getvalue(), wrong.getvalue())

    monkeypatch.setattr(compress, "subprocess", SimpleNamespace(run=run))


# ---------------------------------------------------------------- the real server


@dataclass(frozen=True)
class Server:
    """A running slimscope: its address, and the file that holds all that it said."""

    url: str
    log: Path


START = ("-m", "streamlit", "run", "pages/parts/serve.py", "--server.port={port}")


@contextmanager
def serving(folder: Path, start: Sequence[str] = START) -> Iterator[Server]:
    """The real app in its own process with its own home; `/ready` has answered, no page was asked for."""
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        port = door.getsockname()[1]
    server = Server(f"http://127.0.0.1:{port}", folder / "server.log")
    command = [sys.executable, *(word.format(port=port) for word in start)]
    environment = {**os.environ, "SLIMSCOPE_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    with server.log.open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_until_ready(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(30)


def _wait_until_ready(server: Server, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LIMIT
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"{server.url}/ready") as answer:
                assert answer.read() == b"ready"
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the server did not start:\n{server.log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One running slimscope for the tests that do not need a fresh one."""
    with serving(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def cold_server(tmp_path: Path) -> Iterator[Server]:
    """A slimscope that nobody has visited yet."""
    with serving(tmp_path) as running:
        yield running


# ---------------------------------------------------------------- the real browser


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium; where there is none the test is skipped, except in CI, where that is a failure."""
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        absent: Callable[[str], Any] = pytest.fail if os.environ.get("CI") else pytest.skip
        absent("no chromium on this machine: `apt-get install chromium` brings one")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def seat(browser: Any) -> Iterator[Any]:
    """Where one visitor comes after another (`browsing.newcomer`)."""
    from browsing import window

    context = window(browser)
    context.new_page()
    yield context
    context.close()


@pytest.fixture
def tab(seat: Any, server: Server) -> Iterator[Any]:
    """A `browsing.Tab` of a new visitor of the running slimscope; its pages must stay without an error."""
    from browsing import newcomer

    with newcomer(seat, server.url) as one:
        yield one


# ---------------------------------------------------------------- pages without a browser


@pytest.fixture(scope="session")
def compiled() -> Any:
    """Scripts that are compiled once, as by a server."""
    from streamlit.runtime.scriptrunner.script_cache import ScriptCache

    return ScriptCache()


@pytest.fixture
def framed(monkeypatch: pytest.MonkeyPatch, compiled: Any) -> None:
    """AppTest from the entry point in every run: it would take a pages/ folder beside app.py for pages of
    the old kind, and run them alone from the second run on. It would also compile scripts, and look for
    components in all that is installed (there are none), for each visitor anew."""
    from streamlit.components.v2 import manifest_scanner
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.testing.v1 import app_test, local_script_runner

    start = PagesManager.__init__

    def without_folder(self: PagesManager, *args: Any, **kwargs: Any) -> None:
        start(self, *args, **kwargs)
        PagesManager.uses_pages_directory = False

    monkeypatch.setattr(PagesManager, "__init__", without_folder)
    for module in (app_test, local_script_runner):
        monkeypatch.setattr(module, "ScriptCache", lambda: compiled)
    monkeypatch.setattr(manifest_scanner, "scan_component_manifests", list)


@pytest.fixture
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job measures the whole test set behind a test: its figure would replace the first at any time."""
    from pages.parts import jobs

    monkeypatch.setattr(jobs, "measure_all", lambda *args: None)


# ---------------------------------------------------------------- runs of papers


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Data:
    """A few of the digits, which everybody loads from now on, whatever they ask for."""
    from engine.data import sets

    whole = sets.load("mnist")
    parts = (p.stratified(n) for p, n in ((whole.train, 300), (whole.validation, 100), (whole.test, 100)))
    found = Data(whole.name, *parts, whole.classes)
    for name in ("load", "load_full"):
        monkeypatch.setattr(sets, name, lambda _: found)
    return found
