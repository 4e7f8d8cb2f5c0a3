"""A net of 100 million weights in a file of 400 MB, opened by its path: time to its table, and memory."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from bench.browser import QUIET, chromium, open_page, serving
from bench.moves import PRUNE, SIZES, Hand, link, transformer
from bench.sweeps import home
from bench.tensors import row
from engine.file import intake
from engine.jobs import models
from engine.types import weight_layers

SIZE = "100M"
ROUNDS = 5
MOVES = 20


def measure() -> list[dict[str, Any]]:
    with home(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_file(transformer(*SIZES[SIZE]), path)
        return [table(path), memory(path)]


def table(path: Path) -> dict[str, Any]:
    """Opening and checking the file and counting what the table of layers shows, over reading it once."""
    ways: dict[str, Callable[[], Any]] = {"table": lambda: opened(path), "read": path.read_bytes}
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - start)
    spent = {name: statistics.median(times) for name, times in taken.items()}
    return row(
        f"open {SIZE} weights and count their table", "reading the file once", spent["table"], spent["read"]
    )


def opened(path: Path) -> list[tuple[str, tuple[int, ...], int]]:
    """The table's rows: layer, shape, weights that are not zero."""
    bundle, _ = intake.open_file(path)
    models.put_path(bundle, path)  # with the fingerprint: one pass over the bytes
    shown = [(label, bundle.params[name]) for label, name in weight_layers(bundle).items()]
    return [(label, param.shape, int(param.decode().count_nonzero())) for label, param in shown]


def memory(path: Path) -> dict[str, Any]:
    """What the server takes more than one with the smallest net, for two pages and moves, over the file."""
    with chromium() as browser:
        small, large = peak(browser, None, "mlp-32"), peak(browser, path, "")
    size = path.stat().st_size / 1e6
    return {
        "what": f"peak memory with {SIZE} weights, {MOVES} moves on Prune, mapped file included",
        "baseline": f"the file of {size:.0f} MB, above a server with mlp-32 ({small:.0f} MB)",
        "ratio": round((large - small) / size, 2),
        "n": MOVES,
    }


def peak(browser: Any, path: Path | None, model: str) -> float:
    """MB that the server held at most."""
    with serving("pages/parts/serve.py", path) as address:
        open_page(browser, f"{address}/?{f'm={model}' if model else ''}").context.close()
        page = open_page(browser, link(address, PRUNE[0], PRUNE[2], model))
        page.wait_for_function(QUIET)
        Hand(page, "[data-control=prune_weights-sparsity]").block(MOVES)
        page.context.close()
        return held_most(address)


def held_most(address: str) -> float:
    """MB that the server at this address held at most."""
    status = (_process(address.rpartition(":")[2]) / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1e3


def rest(address: str) -> None:
    """Wait until the server at this address does nothing: its warm-up goes on after its first answer."""
    status = _process(address.rpartition(":")[2]) / "stat"
    spent = [0, 100]  # hundredths of a second of processor time, so far
    while spent[-1] > spent[-2] + 1:
        time.sleep(2)
        spent.append(sum(map(int, status.read_text().rpartition(")")[2].split()[11:13])))


def _process(port: str) -> Path:
    """Linux's folder about the server on this port."""
    for folder in Path("/proc").glob("[0-9]*"):
        words = (folder / "cmdline").read_bytes().split(b"\0")
        if b"--server.port" in words and port.encode() in words:
            return folder
    raise RuntimeError(f"no process serves port {port}")
