"""What a job does: training, accuracy on the whole test set, sensitivity scans, sweeps.

Each kind is a plain function of a JSON payload and a `Progress`; what it finds is kept in
`engine.jobs.store` under a key that determines it, so that nothing is computed twice. `python -m
engine.jobs.tasks` is the process that runs jobs for `engine.jobs.manager`. Nothing here knows who
asked, how many jobs there are, or what a page shows.
"""

from __future__ import annotations

import functools
import gc
import hashlib
import json
import math
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import IO, Any

import torch
from torch import Tensor

import engine.techniques  # noqa: F401  (fills the registry)
from engine.data import sets as datasets
from engine.data import user
from engine.data.sets import Data, Samples
from engine.figures import measure
from engine.file import packfile
from engine.jobs import store, streaming
from engine.net import incremental
from engine.recipe import knobs, migrate, run, sweep, technique
from engine.types import Bundle, Cancelled, Progress, Recipe, Report, SlimscopeError, Step, weight_layers

VERSION = 2  # raised when equal recipes would give other numbers than before
SAMPLES = 1000  # validation samples that sweeps and scans look at unless told
PART = 1000  # test samples whose answers are kept at once

ACCURACY_HOW = "share right of n fixed, stratified validation samples; Wilson 95 % interval low..high"
CHANGE_HOW = "accuracy minus that of the start on the same samples; Agresti-Min 95 % interval"
BYTES_HOW = "bytes of the compressed file, written and counted, with header, scales and biases"


# ---------------------------------------------------------------- names of data and results


def data_spec(name: str, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> str:
    """Bundled data as text, with the net's own standardisation where it has one.

    >>> data_spec("mnist", (0.5,), (0.25,))
    'mnist@0.5/0.25'
    """
    if not mean:
        return name
    return f"{name}@{','.join(f'{m:g}' for m in mean)}/{','.join(f'{s:g}' for s in std)}"


def read_data(spec: str) -> Data | None:
    """The data that `data_spec` named; the empty text (weights without a net) has none.

    Raises SlimscopeError for data that is not bundled, or numbers that do not fit its channels.
    """
    if not spec:
        return None
    if spec.startswith("user:"):
        return user.task(spec.removeprefix("user:"))
    name, _, scale = spec.partition("@")
    found = datasets.load(name)
    if not scale:
        return found
    try:
        mean, std = (tuple(float(number) for number in part.split(",")) for part in scale.split("/"))
    except ValueError:
        raise SlimscopeError(f"data {spec!r} is not readable: write name@mean,.../std,...") from None
    channels = found.test.images.shape[1]
    if not len(mean) == len(std) == channels or not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        raise SlimscopeError(
            f"data {spec!r}: {name} needs {channels} means and {channels} positive deviations"
        )
    return found.standardised(mean, std)


def data_key(data: Data | None) -> str:
    """Text that determines what a net sees: the data and its standardisation."""
    return "" if data is None else f"{data.key}-{data.test.mean}-{data.test.std}"


def result_key(kind: str, *what: object) -> str:
    """The key of a result: 40 hex digits of SHA-256 over its kind, what determines it, and versions.

    torch's build (`+cpu`, `+cu130`) is not in it: what was found on one machine serves another.
    """
    release = torch.__version__.partition("+")[0]
    text = json.dumps([kind, VERSION, release, *what], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:40]


def _key(kind: str, model: Bundle, recipe: Recipe, data: Data | None, *more: object) -> str:
    return result_key(kind, model.origin.fingerprint, migrate.kept_as(recipe), data_key(data), *more)


# ---------------------------------------------------------------- recipes with trained steps


@dataclass(frozen=True)
class Missing:
    """A recipe can't be followed before its live step `number` (from 1) is trained.

    `recipe` ends in that step: the payload of an `apply` job.
    """

    number: int
    recipe: Recipe

    @property
    def sentence(self) -> str:
        return f"step {self.number} ({self.recipe.steps[-1].technique}) is not trained yet: run it first"


@contextmanager
def _named(number: int, step: Step) -> Iterator[None]:
    try:
        yield
    except Cancelled:
        raise
    except SlimscopeError as error:
        raise type(error)(f"step {number} ({step.technique}): {error}") from error


def _kept(model: Bundle, recipe: Recipe, data: Data | None) -> tuple[Bundle, Report] | None:
    key = _key("apply", model, recipe, data)
    saved = store.get(key)
    bundle = store.get_bundle(key) if saved else None
    if saved is None or bundle is None:
        return None
    return Bundle(bundle.arch, bundle.params, model.origin, recipe), store.report_of(saved["report"])


def _advance(
    bundle: Bundle, step: Step, data: Data | None, progress: Progress | None
) -> tuple[Bundle, Report] | None:
    """One step further. A trained step comes from the store; with `progress` it is trained and kept there.

    Whoever trains the same step at this moment is waited for; a training that was broken off goes on.
    """
    known = technique.get(step.technique)
    if not known.trains:
        return run.apply(bundle, step, data)
    recipe = bundle.lineage.then(Step(step.technique, known.check(step.settings, bundle)))
    kept = _kept(bundle, recipe, data)
    if kept is not None or progress is None:
        return kept
    key = _key("apply", bundle, recipe, data)
    with store.training(key) as folder:
        kept = _kept(bundle, recipe, data)
        if kept is not None:
            return kept
        after, report = run.apply(bundle, step, data, replace(progress, folder=folder))
        store.put_bundle(key, after)
        store.put(key, {"report": store.report_data(report)})
    return after, report


def trained(model_id: str, recipe: Recipe, data: str) -> tuple[Bundle, Report] | None:
    """What an `apply` job made of this recipe, whose last live step trains; None before it is done."""
    return _kept(store.get_model(model_id, data), technique.complete(recipe.live), read_data(data))


def after(model_id: str, recipe: Recipe, data: str) -> tuple[Bundle, list[Report]] | Missing:
    """All live steps of a recipe: (last bundle, one report for each), or the step that must be trained.

    Trained steps come from the store; nothing is trained here. Raises SlimscopeError with the
    number and name of the step that failed in front.
    """
    bundle, reports, source = store.get_model(model_id, data), [], read_data(data)
    live = technique.complete(recipe.live)
    for number, step in enumerate(live, 1):
        with _named(number, step):
            outcome = _advance(bundle, step, source, None)
        if outcome is None:
            return Missing(number, Recipe(live.steps[:number]))
        bundle, report = outcome
        reports.append(report)
    return bundle, reports


def _numbered(step: int, row: Mapping[str, float]) -> dict[str, float]:
    return {**row, "step": step}


def _untold(row: Mapping[str, float]) -> None:
    return None


def make(
    bundle: Bundle, recipe: Recipe, data: Data | None, progress: Progress, rows: bool = False
) -> tuple[Bundle, list[Report]]:
    """Follow the rest of a complete, live recipe from a bundle on its way; what is missing is trained.

    The bundle's lineage is the beginning of the recipe. With `rows`, the live series of the
    training goes on, each row with the number of its step.
    """
    first, reports = len(bundle.lineage), []
    training = [n for n, s in enumerate(recipe, 1) if n > first and technique.get(s.technique).trains]
    for number, step in enumerate(recipe.steps[first:], first + 1):
        at = sum(n < number for n in training) / max(len(training), 1)
        told = functools.partial(_numbered, number) if rows else _untold
        part = progress.part(at, at + 1 / max(len(training), 1), told)
        part(0.0)
        with _named(number, step):
            outcome = _advance(bundle, step, data, part)
        assert outcome is not None  # with a progress, what is missing is trained
        bundle, report = outcome
        reports.append(report)
    return bundle, reports


# ---------------------------------------------------------------- apply


def apply(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Train a recipe's missing steps, each kept as soon as it is done.

    Payload: model, recipe (key), data (spec). Answers with the complete recipe and the
    figures of its last step; `trained` and `after` give the net.
    """
    recipe = migrate.read(payload["recipe"]).live
    if not any(technique.get(step.technique).trains for step in recipe):
        raise SlimscopeError("no step of this recipe trains: there is nothing to run")
    model = store.get_model(payload["model"], payload["data"])
    _, reports = make(model, recipe, read_data(payload["data"]), progress, rows=True)
    return {"recipe": recipe.key, "figures": [figure.to_dict() for figure in reports[-1].figures]}


# ---------------------------------------------------------------- accuracy


def _asked(
    bundle: Bundle, samples: Samples, progress: Progress, last: incremental.Trace | None = None
) -> Tensor:
    """The bundle's answers to all samples (n,), asking between batches whether to stop."""
    return incremental.logits(bundle, samples, last, progress)[0].argmax(1)


def _needed(data: Data | None) -> Data:
    if data is None:
        raise SlimscopeError("accuracy needs data: these weights have no known architecture")
    return data


def answers(model_id: str, recipe: Recipe, data: str) -> Tensor | None:
    """The class given to each test sample (n,) int64, once an `accuracy` job of this recipe is done.

    The original net's answers are those of the empty recipe. None before.
    """
    live = technique.complete(recipe.live)
    saved = store.get(_key("answers", store.get_model(model_id, data), live, read_data(data)))
    return None if saved is None else torch.tensor(saved, dtype=torch.int64)


def full_accuracy(model_id: str, recipe: Recipe, data: str) -> dict[str, Any] | None:
    """What an `accuracy` job answered, or None before it is done."""
    live = technique.complete(recipe.live)
    saved = store.get(_key("accuracy", store.get_model(model_id, data), live, read_data(data)))
    return None if saved is None else dict(saved)


def _test_answers(bundle: Bundle, data: Data, progress: Progress) -> Tensor:
    key = _key("answers", bundle, bundle.lineage, data)
    saved = store.get(key)
    if saved is None:
        saved, n = store.get(f"{key}-part") or [], len(data.test)
        while len(saved) < n:  # what was broken off goes on with the next part
            part = data.test.take(slice(len(saved), len(saved) + PART))
            begun, ended = len(saved) / n, (len(saved) + len(part)) / n
            saved += _asked(bundle, part, progress.part(begun, ended, _untold)).tolist()
            store.put(f"{key}-part", saved)
        store.put(key, saved)
        store.drop(f"{key}-part")
    return torch.tensor(saved, dtype=torch.int64)


def accuracy(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Accuracy on the whole test set, and the paired difference to the original net.

    Payload: model, recipe (key), data (spec). Answers with both figures as JSON; `answers`
    gives the predictions behind them. The original's own result, that of the empty recipe, is
    kept as well. Raises SlimscopeError before trained steps are trained.
    """
    model_id, recipe = payload["model"], migrate.read(payload["recipe"])
    known = full_accuracy(model_id, recipe, payload["data"])
    if known is not None:
        return known
    source = _needed(read_data(payload["data"]))
    outcome = after(model_id, recipe, payload["data"])
    if isinstance(outcome, Missing):
        raise SlimscopeError(outcome.sentence)
    bundle = outcome[0]
    before = _test_answers(bundle.origin, source, progress.part(0.0, 0.5, _untold))
    now = _test_answers(bundle, source, progress.part(0.5, 1.0, _untold))
    _put_accuracy(bundle.origin, before, before, source)
    return _put_accuracy(bundle, before, now, source)


def _put_accuracy(bundle: Bundle, before: Tensor, now: Tensor, data: Data) -> dict[str, Any]:
    labels = data.test.labels
    figures = [measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)]
    result = {"recipe": bundle.lineage.key, "figures": [figure.to_dict() for figure in figures]}
    store.put(_key("accuracy", bundle, bundle.lineage, data), result)
    return result


# ---------------------------------------------------------------- rows of scans and sweeps


def _sample(data: Data, payload: Mapping[str, Any]) -> Samples:
    count = payload.get("samples", SAMPLES)
    if not isinstance(count, int) or not 1 <= count <= len(data.validation):
        raise SlimscopeError(f"samples is {count!r}: allowed is 1 to {len(data.validation)}")
    return data.validation.stratified(count)


def _row(recipe: Recipe, before: Tensor, now: Tensor, labels: Tensor) -> dict[str, Any]:
    figure, change = measure.accuracy_of(now, labels), measure.paired_difference(before, now, labels)
    assert figure.spread is not None
    assert change.spread is not None
    return {
        "recipe": recipe.key,
        "accuracy": figure.value,
        "low": figure.spread[0],
        "high": figure.spread[1],
        "n": len(labels),
        "change": change.value,
        "change_low": change.spread[0],
        "change_high": change.spread[1],
    }


EMPTY = dict.fromkeys(("accuracy", "low", "high", "n", "change", "change_low", "change_high"))


def _remembered(key: str, recipe: Recipe, compute: Callable[[], dict[str, Any]]) -> dict[str, Any] | None:
    """A row from the store, or computed and kept; a recipe that can't be followed gives its reason.

    None while another process computes it.
    """
    with store.claimed(key, wait=False) as mine:
        if not mine:
            return None
        saved = store.get(key)
        if saved is not None:
            return {**saved, "refused": ""}
        try:
            row = compute()
        except Cancelled:
            raise
        except SlimscopeError as error:
            return {"recipe": recipe.key, **EMPTY, "refused": str(error)}
        store.put(key, row)
        return {**row, "refused": ""}


Attempt = Callable[[int, Progress], dict[str, Any] | None]  # the row of a number, None: another is at it


def _found(count: int, attempt: Attempt, progress: Progress, skip: bool) -> list[dict[str, Any]]:
    """All rows in their order, each reported as it comes.

    One that another process computes is taken from the store when it is there; until then those
    behind it wait, or with `skip` are computed, so that several processes share the work.
    """
    rows: dict[int, dict[str, Any]] = {}
    while left := [i for i in range(count) if i not in rows]:
        part = progress.part(len(rows) / count, (len(rows) + 1) / count, _untold)
        for i in left if skip else left[:1]:
            part(0.0)
            row = attempt(i, part)
            if row is not None:
                rows[i] = row
                progress(len(rows) / count, row)
                break
        else:
            time.sleep(0.005)
    return [rows[i] for i in range(count)]


def sweeping(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Size and accuracy of every recipe in a grid, the original net first; chooses, so it sees validation.

    Payload: model, recipe (key), data (spec), step (from 1), vary {setting: [values]} of one or
    two settings, samples (n). Each row: the settings, recipe, bytes of the real file, accuracy
    low..high of n, paired change to the original, baseline, refused (why, or empty). Rows
    stream as they come; rows in the store are not computed again, and processes that do the
    same sweep at once share its rows.
    """
    source = _needed(read_data(payload["data"]))
    whole, number = migrate.read(payload["recipe"]), payload["step"]
    model, sample = store.get_model(payload["model"], payload["data"]), _sample(source, payload)
    grid = [({}, Recipe()), *sweep.variations(whole, number, payload["vary"])]
    shared = technique.complete(Recipe(whole.steps[: number - 1]).live)
    start = functools.cache(lambda: make(model, shared, source, Progress(cancelled=progress.cancelled))[0])
    before = functools.cache(lambda: _asked(model, sample, Progress(cancelled=progress.cancelled)))

    def attempt(i: int, part: Progress) -> dict[str, Any] | None:
        settings, recipe = grid[i]

        def compute() -> dict[str, Any]:
            bundle = make(start(), recipe.live, source, part)[0] if len(recipe) else model
            now = _asked(bundle, sample, part) if len(recipe) else before()
            return {**_row(recipe.live, before(), now, sample.labels), "bytes": packfile.size(bundle).value}

        row = _remembered(_key("sweep", model, recipe.live, source, len(sample)), recipe, compute)
        if row is None:
            return None
        return {**settings, "bytes": None, **row, "recipe": recipe.key, "baseline": not len(recipe)}

    rows = _found(len(grid), attempt, progress, skip=True)
    return {"rows": rows, "how": {"accuracy": ACCURACY_HOW, "change": CHANGE_HOW, "bytes": BYTES_HOW}}


def sensitivity(payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """How accuracy bears one technique on one layer at a time; chooses, so it sees validation.

    Payload: model, recipe (key, followed first), data (spec), technique, setting, values,
    settings (the others), samples (n), layers (all unless told). One row per layer and value:
    layer, value, accuracy low..high of n, paired change to the start, refused.
    """
    source = _needed(read_data(payload["data"]))
    model, sample = store.get_model(payload["model"], payload["data"]), _sample(source, payload)
    prefix = migrate.read(payload["recipe"]).live
    start = make(model, prefix, source, Progress(cancelled=progress.cancelled))[0]
    first = functools.cache(
        lambda: incremental.logits(start, sample, tell=Progress(cancelled=progress.cancelled))
    )
    todo = scan(start, payload)

    def attempt(i: int, part: Progress) -> dict[str, Any] | None:
        layer, value, step = todo[i]
        recipe = technique.complete(prefix.then(step))

        def compute() -> dict[str, Any]:
            bundle = make(start, recipe, source, part)[0]
            before, trace = first()
            return _row(recipe, before.argmax(1), _asked(bundle, sample, part, trace), sample.labels)

        row = _remembered(_key("sensitivity", model, recipe, source, len(sample)), recipe, compute)
        return None if row is None else {"layer": layer, "value": value, **row}

    rows = _found(len(todo), attempt, progress, skip=False)  # a curve is drawn from its first point on
    return {"rows": rows, "how": {"accuracy": ACCURACY_HOW, "change": CHANGE_HOW}}


def scan(start: Bundle, payload: Mapping[str, Any]) -> list[tuple[str, Any, Step]]:
    """The steps of a sensitivity scan: (layer, value, the step that touches that layer alone)."""
    known, setting = technique.get(payload["technique"]), payload["setting"]
    left_out = [name for name, knob in known.knobs.items() if isinstance(knob, knobs.Layers)]
    if not left_out or setting not in known.knobs:
        lacks = f"setting {setting!r}" if left_out else "a setting for layers that are not touched"
        raise SlimscopeError(f"{known.name} lacks {lacks}: it has {', '.join(known.knobs)}")
    layers = list(weight_layers(start))
    chosen = knobs.Layers(help="").check("layers", payload.get("layers", layers), start)
    todo = []
    for layer in (name for name in layers if name in chosen):
        others = {left_out[0]: [name for name in layers if name != layer]}
        for value in payload["values"]:
            settings = known.check({**payload.get("settings", {}), **others, setting: value})
            todo.append((layer, settings[setting], Step(known.name, settings)))
    return todo


KINDS: dict[str, Callable[[Mapping[str, Any], Progress], dict[str, Any]]] = {
    "apply": apply,
    "accuracy": accuracy,
    "sensitivity": sensitivity,
    "sweep": sweeping,
    "write": streaming.write,
}
SHARED = {"sweep"}  # two processes that do the same job at once take half as long
SAY_EVERY = 0.05  # seconds between two messages that hold no row


# ---------------------------------------------------------------- a process that does jobs


def perform(kind: str, payload: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Do a job here and now. Raises SlimscopeError for a kind that is not in KINDS."""
    if kind not in KINDS:
        raise SlimscopeError(f"job kind {kind!r} is unknown; there are {', '.join(KINDS)}")
    return KINDS[kind](payload, progress)


Work = tuple[Mapping[str, Any], threading.Event]  # a job, and the wish to stop it


def _listen(todo: queue.SimpleQueue[Work]) -> None:
    """Each line of standard input is a job, or `stop` for the latest; its end is the parent's end."""
    stop = threading.Event()
    with open(0, "rb", buffering=0, closefd=False) as lines:  # raw: no lock is held at exit
        for line in lines:
            if line.strip() == b"stop":
                stop.set()
            else:
                stop = threading.Event()
                todo.put((json.loads(line), stop))
    os._exit(0)


def _outcome(job: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    try:
        return {"result": perform(job["kind"], job["payload"], progress)}
    except Cancelled:
        return {"cancelled": True}
    except SlimscopeError as error:
        return {"failed": str(error)}
    except Exception as error:  # the one place where a stranger's mistake becomes a sentence
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}", "broken": True}


def _say(channel: IO[str], message: Mapping[str, Any]) -> None:
    channel.write(json.dumps(message) + "\n")
    channel.flush()


def main() -> None:
    """Do one job after the other, as the manager hands them in: JSON lines on standard input and output.

    Each is answered with `{"ready", "shared"}`, any number of `{"progress", "row"}`, and one of
    `{"result"}`, `{"failed"}`, `{"cancelled"}`. After an error that nobody foresaw the
    process is not to be trusted: it says `broken` and ends.
    """
    channel = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints must not end up among the messages
    torch.set_num_threads(1)
    with suppress(OSError):
        os.nice(5)  # the pages come first
    todo: queue.SimpleQueue[Work] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(todo,), daemon=True).start()
    answer: Mapping[str, Any] = {}
    while "broken" not in answer:
        job, stop = todo.get()
        torch.manual_seed(0)  # as in a fresh process, whatever the last job drew
        _say(channel, {"ready": True, "shared": job["kind"] in SHARED})
        answer = _outcome(job, Progress(_reporter(channel), stop.is_set))
        _say(channel, answer)
        gc.collect()
    sys.stderr.flush()
    os._exit(1)  # without waiting for the thread that listens


def _reporter(channel: IO[str]) -> Callable[[float, Mapping[str, float] | None], None]:
    said = -SAY_EVERY

    def report(share: float, row: Mapping[str, float] | None) -> None:
        nonlocal said
        if row is not None or time.monotonic() - said >= SAY_EVERY:
            said = time.monotonic()
            _say(channel, {"progress": share, "row": row})

    return report


if __name__ == "__main__":
    main()
