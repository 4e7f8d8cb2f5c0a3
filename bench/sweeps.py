"""A sweep of 100 recipes: what it adds to the work it can't avoid, and what a second process wins."""

from __future__ import annotations

import copy
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import prune

import engine.techniques  # noqa: F401
from bench.tensors import row
from engine.data.sets import Samples
from engine.figures import measure as measured
from engine.file import packfile
from engine.jobs import keys, models, scans, tasks
from engine.jobs.manager import Manager
from engine.net import zoo
from engine.recipe import run, technique
from engine.tensor.formats import Dense
from engine.types import Bundle, Progress, Recipe, SlimscopeError

MODEL, DATA = "lenet-300-100", "mnist"
RECIPES = 100
ROUNDS = 3  # of the sweep and its baselines, which take turns
FREE = 0.9  # share of two cores' time that must be free while nothing of ours runs


def grid() -> list[float]:
    return [round(0.5 + 0.49 * i / (RECIPES - 1), 5) for i in range(RECIPES)]


@contextmanager
def home() -> Iterator[None]:
    """A store of its own, so that nothing is known already and nothing of the person's is touched."""
    before = os.environ.get("SLIMSCOPE_HOME")
    with tempfile.TemporaryDirectory(prefix="slimscope-bench-") as folder:
        os.environ["SLIMSCOPE_HOME"] = str(Path(folder))
        try:
            yield
        finally:
            os.environ.pop("SLIMSCOPE_HOME") if before is None else os.environ.update(SLIMSCOPE_HOME=before)


def payload(model: str, values: Sequence[float]) -> dict[str, Any]:
    recipe = technique.complete(Recipe((technique.step("prune_weights"),)))
    vary = {"sparsity": list(values)}
    return {"model": model, "recipe": recipe.key, "data": DATA, "step": 1, "vary": vary}


def measure() -> list[dict[str, Any]]:
    return [*one_process(), *two_processes()]


# ---------------------------------------------------------------- one process


def one_process() -> list[dict[str, Any]]:
    bundle, data = zoo.load(MODEL), keys.read_data(DATA)
    assert data is not None
    sample, net = data.validation.stratified(scans.SAMPLES), zoo.build(bundle)
    ways: dict[str, Callable[[], Any]] = {
        "sweep": lambda: swept(bundle),
        "bare": lambda: [bare(bundle, sample, value) for value in grid()],
        "copies": lambda: [copied(net, bundle, sample, value) for value in grid()],
        "forward": lambda: [measured.logits(net, sample, 100).argmax(1) for _ in grid()],
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            way()
            taken[name].append(time.perf_counter() - start)
    spent = {name: statistics.median(times) for name, times in taken.items()}
    what = f"sweep of {RECIPES} recipes, {MODEL}, {len(sample)} samples"
    baselines = {
        "bare": "prune, evaluate, write and read the file; nothing else",
        "copies": "deepcopy, torch.nn.utils.prune, evaluate, write and read the file",
        "forward": "100 forward passes of the sample; no pruning, no file",
    }
    return [row(what, baseline, spent["sweep"], spent[name]) for name, baseline in baselines.items()]


def swept(bundle: Bundle) -> None:
    """As a job does it, with a store that knows nothing yet."""
    with home():
        tasks.perform("sweep", payload(models.put_model(bundle), grid()), Progress())


def bare(bundle: Bundle, sample: Samples, sparsity: float) -> tuple[float, float]:
    """What a row says, and nothing around it: (share right, bytes of the file)."""
    after, _ = run.apply(bundle, technique.step("prune_weights", sparsity=sparsity), None)
    answers = measured.logits(zoo.build(after), sample, 100).argmax(1)
    return _right(answers, sample), packfile.size(after).value


def copied(net: nn.Module, bundle: Bundle, sample: Samples, sparsity: float) -> tuple[float, float]:
    """The same in the usual way, on a copy of the net."""
    own = copy.deepcopy(net)
    layers = [(m, "weight") for m in own.modules() if isinstance(getattr(m, "weight", None), Tensor)]
    prune.global_unstructured(layers, prune.L1Unstructured, amount=sparsity)
    for module, name in layers:
        prune.remove(module, name)
    answers = measured.logits(own, sample, 100).argmax(1)
    after = bundle.become({name: Dense(values.detach()) for name, values in own.state_dict().items()})
    return _right(answers, sample), packfile.size(after).value


def _right(answers: Tensor, sample: Samples) -> float:
    return float((answers == sample.labels).double().mean())


# ---------------------------------------------------------------- two processes


def two_processes() -> list[dict[str, Any]]:
    """The whole sweep as one job of a manager that has one worker, and of one that has two."""
    what, baseline = f"sweep of {RECIPES} recipes as a job, two workers", "the same job, one worker"
    free, cores = idle_share(), len(os.sched_getaffinity(0))
    if cores < 2 or free < FREE:
        why = f"not measured: {cores} cores, {free:.0%} of their time free; two free cores are needed"
        return [{"what": what, "baseline": baseline, "note": why}]
    turns = [(in_jobs(2), in_jobs(1)) for _ in range(ROUNDS)]
    return [row(what, baseline, *(statistics.median(times) for times in zip(*turns, strict=True)))]


def idle_share(seconds: float = 2.0) -> float:
    """Share of all cores' time in which nothing ran, from Linux's own counters; 0 where there are none."""

    def times() -> list[int]:
        return [int(number) for number in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]

    if not Path("/proc/stat").exists():
        return 0.0
    before = times()
    time.sleep(seconds)
    spent = [now - then for now, then in zip(times(), before, strict=True)]
    return (spent[3] + spent[4]) / max(sum(spent), 1)  # idle, and waiting for a disk


def in_jobs(workers: int) -> float:
    """Seconds from handing in to the last row, with as many warm workers."""
    with home():
        model = models.put_model(zoo.load(MODEL))
        manager = Manager(workers)
        try:
            _finish(manager, [payload(model, [0.2 + i / 100]) for i in range(workers)])
            if len(manager._workers.spare) != workers:
                raise SlimscopeError(
                    f"{len(manager._workers.spare)} workers are warm: {workers} are to be compared"
                )
            start = time.perf_counter()
            _finish(manager, [payload(model, grid())])
            return time.perf_counter() - start
        finally:
            manager.close()


def _finish(manager: Manager, payloads: Sequence[dict[str, Any]]) -> None:
    ids = [manager.submit("bench", "sweep", each, "a sweep") for each in payloads]
    while any(manager.get("bench", job).open for job in ids):
        time.sleep(0.005)
    for job in (manager.get("bench", each) for each in ids):
        if job.state != "done":
            raise SlimscopeError(f"a sweep of the benchmark is {job.state}: {job.error}")
