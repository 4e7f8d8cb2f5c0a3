"""From a notebook: compress a net of this process, or open the pages on it."""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from torch import nn

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import user, user_parts
from engine.data.sets import Data, cache_folder
from engine.figures import count, measure
from engine.file import packfile
from engine.net import sources, zoo
from engine.recipe import migrate, run, technique
from engine.types import Bundle, Figure, Recipe, SlimscopeError

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "pages" / "parts" / "serve.py"
START = 120.0  # seconds that a server may take to start


def compress(model: nn.Module, recipe: Any, parts: Any, metric: Any) -> tuple[nn.Module, tuple[Figure, ...]]:
    """See `engine.compress`."""
    steps = technique.complete(recipe_of(recipe))
    original, data, _, _ = _adopted(model, parts, metric)
    bundle = run.run(original, steps, data)[0]
    figures = [packfile.size(bundle), count.parameters(bundle), count.sparsity(bundle)]
    if data is not None:
        figures += judged(original, bundle, data)
    return zoo.fork(bundle).eval(), tuple(figures)


def recipe_of(recipe: Any) -> Recipe:
    """A recipe given as such, as JSON text, or as a list of [technique, settings]."""
    if isinstance(recipe, Recipe):
        return recipe
    try:
        return migrate.read(recipe if isinstance(recipe, str) else json.dumps(recipe))
    except TypeError as error:
        raise SlimscopeError(f"a recipe is a list of [technique, settings]: {error}") from None


def judged(original: Bundle, bundle: Bundle, data: Data) -> list[Figure]:
    """Accuracy and its paired change on the test data, and what a metric of the user's says."""
    figures = []
    if data.test.is_labelled:
        before, now = (measure.predictions(net, data.test) for net in (original, bundle))
        labels = data.test.labels
        figures += [measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)]
    if data.metric is not None:
        figures.append(measure.judged(bundle, data.test, data.metric))
    return figures


def _adopted(model: nn.Module, parts: Any, metric: Any) -> tuple[Bundle, Data | None, dict[str, Any], str]:
    if not isinstance(model, nn.Module):
        raise SlimscopeError(f"model is a {type(model).__name__}: allowed is an nn.Module with its weights")
    missing = [name for name, part in zip(user_parts.PARTS, parts, strict=True) if part is None]
    if 0 < len(missing) < len(parts):
        raise SlimscopeError(f"{', '.join(missing)} is missing: give train, validation and test, or none")
    task = None if missing else user_parts.task_of(parts, "the data", metric)
    bundle, objects, digest = sources.adopt(model, task)
    data = None if task is None else sources.data(bundle.arch)
    if data is not None:
        sources.probe(bundle, data)
    return bundle, data, objects, digest


# ---------------------------------------------------------------- the pages


def explore(model: nn.Module, parts: Any, metric: Any, port: int) -> str:
    """See `engine.explore`."""
    if not PAGE.is_file():
        raise SlimscopeError(f"{PAGE} is missing: start from a checkout of slimscope")
    _, data, objects, digest = _adopted(model, parts, metric)
    if data is None or not data.test.is_labelled:
        raise SlimscopeError("the pages need train, validation and test with targets that number classes")
    folder = cache_folder().absolute() / "given"
    path = user.hand_over(objects, digest, folder)
    port = port or _free_port()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment[user.VARIABLE] = user.told_of(path, digest)
    with (folder / f"{digest}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", str(PAGE), f"--server.port={port}"],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    atexit.register(_end, process)
    return _ready(f"http://127.0.0.1:{port}", process, Path(log.name))


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def _ready(address: str, process: subprocess.Popen[bytes], log: Path) -> str:
    """The address, as soon as the server answers there. Raises SlimscopeError where it does not."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with opener.open(f"{address}/ready", timeout=5) as answer:
                if answer.status == 200:
                    return address
        except OSError:
            time.sleep(0.1)
    _end(process)
    raise SlimscopeError(f"the server at {address} did not start: {log.read_text()[-500:]}")
