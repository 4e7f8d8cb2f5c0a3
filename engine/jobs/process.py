"""Processes that do jobs: started, handed a job over pipes, asked to stop, and kept for the next one.

A multiprocessing child would import the parent's `__main__`, which under `streamlit run` is the page
script. A process ends with its parent: the pipe closes. One that is done waits for the next job,
for importing torch takes seconds.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.sets import cache_folder
from engine.jobs import niceness
from engine.types import SlimscopeError

GRACE = 0.7  # seconds between the wish to stop, the terminate and the kill
SPARE = 2  # processes that are kept for the next job
LAST = ("result", "failed", "cancelled")  # what a job's last message has

Process = subprocess.Popen[bytes]
Message = Mapping[str, Any]


@dataclass
class Run:
    """What the manager knows of a running job, or of its helper, beside its snapshot."""

    lock: threading.RLock  # the manager's
    task: Message
    thread: threading.Thread | None = None
    process: Process | None = None
    over: bool = False  # its process may be at another job by now
    shared: bool = False  # a helper can find some of its rows
    wish: str = ""  # the state that it was asked to end in
    known: float = 0.0  # progress of the last attempt: what comes up to there may be read, not computed
    started: float = 0.0  # monotonic seconds when the worker passed it
    first: float = 0.0  # progress at that moment
    kept: float = 0.0  # monotonic seconds of the last write

    def remaining(self, progress: float) -> float | None:
        """Seconds to the end at the present pace; None while nothing can be said."""
        if not self.started or progress <= self.first:
            return None
        return (time.monotonic() - self.started) * (1 - progress) / (progress - self.first)

    def pace(self, progress: float) -> None:
        """Take the time at the first progress that had to be computed."""
        if not self.started and progress >= self.known:
            self.started, self.first = time.monotonic(), progress

    def talk(self, workers: Workers, hear: Callable[[Message], None]) -> tuple[Message, int]:
        """Have a process do the task: its last message, and its exit code where it is no more."""
        try:
            with self.lock:
                self.process = workers.take()
                _write(self.process, json.dumps(self.task))
                if self.wish:
                    self._ask_to_stop(self.process)
            last = _listen(self.process, hear)
        except Exception as error:
            last = {"failed": f"{type(error).__name__}: {error}", "broken": True}
        return last, retire(self.process) if self.process is not None and not trusted(last) else 0

    def stop(self, wish: str) -> None:
        """Ask the process to end in the state `wish`, and end it where it does not; under the lock."""
        asked, self.wish = bool(self.wish), wish
        if self.process is not None and not asked:
            self._ask_to_stop(self.process)

    def _ask_to_stop(self, process: Process) -> None:
        _write(process, "stop")
        for wait, end in ((GRACE, process.terminate), (2 * GRACE, process.kill)):
            timer = threading.Timer(wait, self._end, (end,))
            timer.daemon = True
            timer.start()

    def _end(self, end: Callable[[], None]) -> None:
        with self.lock:
            if not self.over:
                end()


def limit() -> int:
    """How many jobs run at once: SLIMSCOPE_WORKERS, or the cores that this process may use."""
    text = os.environ.get("SLIMSCOPE_WORKERS", "")
    if text and not (text.isdecimal() and int(text)):
        raise SlimscopeError(f"SLIMSCOPE_WORKERS is {text!r}: allowed is a whole number from 1")
    return int(text) if text else len(os.sched_getaffinity(0))


class Workers:
    """Processes that wait for their next job; every method is called under the manager's lock."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)
        self.spare: list[Process] = []

    def take(self) -> Process:
        """A process that waits, or a new one."""
        while self.spare:
            process = self.spare.pop()
            if process.poll() is None:
                return process
            retire(process)
        pipe = subprocess.PIPE
        return subprocess.Popen(
            self._command, stdin=pipe, stdout=pipe, env=_environment(), start_new_session=True
        )

    def surplus(self) -> Sequence[Process]:
        """The processes that are too many: no longer kept, and to be retired without the lock."""
        surplus = self.spare[SPARE:]
        del self.spare[SPARE:]
        return surplus


def trusted(last: Message) -> bool:
    """Whether a process that said this as its last message may do another job.

    >>> [trusted(last) for last in ({"result": {}}, {}, {"failed": "KeyError", "broken": True})]
    [True, False, False]
    """
    return bool(last) and "broken" not in last


def _listen(process: Process, hear: Callable[[Message], None]) -> dict[str, Any]:
    """Pass on what a process says of its job; its last message, empty where it ended without one."""
    assert process.stdout is not None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if any(name in message for name in LAST):
            return message
        hear(message)
    return {}


def _environment() -> dict[str, str]:
    niceness.level()  # said here, where a person may read it, not in the process that can't start
    root = str(Path(__file__).resolve().parent.parent.parent)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "SLIMSCOPE_HOME": str(cache_folder().absolute()),
    }


def _write(process: Process, line: str) -> None:
    # Past Python's buffer: what a dead process left there would be written again on closing.
    assert process.stdin is not None
    with suppress(BrokenPipeError, ValueError):  # whoever listens to its answers learns that it is gone
        os.write(process.stdin.fileno(), line.encode() + b"\n")


def retire(process: Process) -> int:
    """Let a process end, by closing its pipes, and give its exit code; a deaf one is ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    try:
        return process.wait(2 * GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
