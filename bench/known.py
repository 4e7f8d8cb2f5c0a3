"""A user's ResNet-18 of 11 million weights: time to open it, moves beside a small net's, and memory."""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from bench import resnet
from bench.browser import QUIET, chromium, open_page, serving
from bench.large import held_most, rest
from bench.moves import BITS, LENET, PRUNE, ROUNDS, Hand, link, p95
from bench.sweeps import home
from bench.tensors import row
from engine.data import user
from engine.net import sources
from engine.types import weight_layers

MODEL, DATA = "bench.resnet:model", "bench.resnet:data"
OPENINGS = 5
MOVES = 30


def measure(count: int = MOVES) -> list[dict[str, Any]]:
    with home(), _named(), chromium() as browser:
        rows = [opening()]
        with serving("pages/parts/serve.py") as address:
            rows += [moves(browser, address, shown, count) for shown in (PRUNE, BITS)]
        return [*rows, memory(browser)]


@contextmanager
def _named() -> Iterator[None]:
    user.name(MODEL, DATA)
    try:
        yield
    finally:
        del os.environ[user.VARIABLE]


def opening() -> dict[str, Any]:
    """Calling the factory, checking what it gives and counting the table of layers, over a plain start."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.safetensors"
        save_file(resnet.model().state_dict(), path)
        ways: dict[str, Callable[[], Any]] = {"open": opened, "plain": lambda: plain(path)}
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(OPENINGS):
            for name, way in ways.items():
                start = time.perf_counter()
                way()
                taken[name].append(time.perf_counter() - start)
    spent = {name: statistics.median(times) for name, times in taken.items()}
    baseline = "load_file, construction and one forward pass"
    return row("open a user's 11M weights and count their table", baseline, spent["open"], spent["plain"])


def opened() -> list[tuple[str, int]]:
    """What the server does before the first page of a user's model."""
    sources._nets.clear()
    bundle = sources.load_user()
    assert bundle.fingerprint
    sources.probe(bundle, sources.data(bundle.arch))
    names = weight_layers(bundle).items()
    return [(label, int(bundle.params[name].decode().count_nonzero())) for label, name in names]


@torch.inference_mode()
def plain(path: Path) -> torch.Tensor:
    """The least that anybody does with such a file."""
    net = resnet.ResNet18()
    net.load_state_dict(load_file(path))
    return net.eval()(torch.zeros(1, 3, 32, 32))  # type: ignore[no-any-return]


def moves(browser: Any, address: str, shown: Any, count: int) -> dict[str, Any]:
    """From a key to the exact answer, 95 %, over the same slider with the small net, in turns."""
    name, setting, recipe = shown
    hands, found = {}, {}
    for model in (LENET, ""):
        page = open_page(browser, link(address, name, recipe, model))
        page.wait_for_function(QUIET)
        hands[model], found[model] = (
            Hand(page, f"[data-control={recipe[0][0]}-{setting}]", ("marks", "html")),
            [],
        )
    for _ in range(ROUNDS):
        for model, hand in hands.items():
            found[model] += hand.block(count // ROUNDS)
    spent = {model: p95([move["repaint"] for move in each]) for model, each in found.items()}
    for hand in hands.values():
        hand.page.context.close()
    return {
        "what": f"slider move, {name}: {setting}, a user's model of 11M weights",
        "baseline": f"the same with {LENET}, p95 {spent[LENET]:.1f} ms",
        "p95 ms": round(spent[""], 1),
        "ratio": round(spent[""] / spent[LENET], 2),
        "n": len(found[""]),
    }


def memory(browser: Any) -> dict[str, Any]:
    """What the server takes at most for a visit with moves, above one that was started, over the weights."""
    size = sum(tensor.numel() for tensor in resnet.model().parameters()) * 4e-6
    named = os.environ.pop(user.VARIABLE)
    with serving("pages/parts/serve.py") as address:
        rest(address)
        empty = held_most(address)
    os.environ[user.VARIABLE] = named
    with serving("pages/parts/serve.py") as address:
        for name, setting, recipe in (PRUNE, BITS):
            page = open_page(browser, link(address, name, recipe, ""))
            page.wait_for_function(QUIET)
            Hand(page, f"[data-control={recipe[0][0]}-{setting}]").block(MOVES // ROUNDS)
            page.context.close()
        most = held_most(address)
    return {
        "what": "peak memory with a user's model of 11M weights, two pages with moves",
        "baseline": f"the weights ({size:.0f} MB), above a server that nobody has visited ({empty:.0f} MB)",
        "ratio": round((most - empty) / size, 2),
        "n": MOVES // ROUNDS,
    }
