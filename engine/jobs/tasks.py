"""What a job does, by its kind, and `python -m engine.jobs.tasks`: the process that does it.

Each kind is a plain function of a JSON payload and a `Progress`; what it finds is kept in
`engine.jobs.store` under a key that determines it. Nothing here knows who asked, how many jobs
there are, or what a page shows.
"""

from __future__ import annotations

import gc
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from typing import IO, Any

import torch

from engine.jobs import (
    curves,
    evolution,
    extras,
    fronts,
    niceness,
    recipes,
    scans,
    streaming,
    testset,
    timings,
)
from engine.tensor import codes
from engine.types import Cancelled, Progress, SlimscopeError

KINDS: dict[str, Callable[[Mapping[str, Any], Progress], dict[str, Any]]] = {
    "apply": recipes.apply,
    "accuracy": testset.accuracy,
    "sensitivity": scans.sensitivity,
    "sweep": scans.sweeping,
    "curve": curves.curve_job,
    "front": fronts.front_job,
    "point": fronts.point_job,
    "write": streaming.write,
    "latency": extras.time_forms,
    "ledger": extras.ledger,
    "layer_times": timings.time_layers,
    "evolve": evolution.evolve,
}
SHARED = {"sweep"}  # two processes that do the same job at once take half as long
SAY_EVERY = 0.05  # seconds between two messages that hold no row


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
    niceness.give_way()
    threading.Thread(target=codes.warm_up, daemon=True).start()  # a job that writes no file need not wait
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
