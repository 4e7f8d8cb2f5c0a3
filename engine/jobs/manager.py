"""Background work: jobs with progress, live series, pause and cancel, each alone in a process.

A job runs in a `python -m engine.jobs.tasks` that talks JSON over pipes; a multiprocessing child
would import the parent's `__main__`, which under `streamlit run` is the page script. The
process ends with its parent: the pipe closes. One that is done waits for the next job, for
importing torch takes seconds. A paused job has no process: what it computes keeps its own
place (`engine.jobs.tasks`), so that a pause frees memory and core and outlives the server.
Where a core is free, a second process does the same job as one whose worker calls it
shared; what it finds comes to the first through the store. Nothing here knows what a job computes.
"""

from __future__ import annotations

import atexit
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from engine.data.sets import cache_folder
from engine.jobs import home, store
from engine.types import SlimscopeError

WORKER = (sys.executable, "-m", "engine.jobs.tasks")
GRACE = 0.7  # seconds between the wish to stop, the terminate and the kill
SPARE = 2  # processes that are kept for the next job
HELP_FROM = 2  # rows of a shared job: by then what all of them begin with has been made
KEEP_EVERY = 1.0  # seconds between two writes of a running job's series to the store
MOST_WAITING = 50  # jobs of one owner that wait, run or are paused
MOST_OVER = 100  # jobs of one owner and kind that are over and still listed
LAST = ("result", "failed", "cancelled")  # what a job's last message has
OPEN = ("waiting", "running")
STOPPED = ("paused", "cancelled", "interrupted", "failed")  # and can be resumed
GONE = "the server stopped before it was done"
AGAIN = "the server stopped, and it goes on by itself"  # said of an open job
TWICE = "the server was ended twice while this was at work, which may be the reason: it waits for you"
STATES = (*OPEN, *STOPPED, "done")


@dataclass(frozen=True)
class Job:
    """A snapshot of one job. `remaining` is in seconds, None while nothing can be said.

    `error` is the sentence of a failed or interrupted job; `series` are the rows so far, and
    they stay when a job is stopped. `created` and `updated` are seconds since 1970.
    """

    id: str
    owner: str
    kind: str
    title: str
    payload: Mapping[str, Any]
    state: str = "waiting"
    progress: float = 0.0
    series: tuple[Mapping[str, Any], ...] = ()
    result: Mapping[str, Any] | None = None
    error: str = ""
    remaining: float | None = None
    created: float = field(default_factory=time.time)
    updated: float = field(default_factory=time.time)

    @property
    def open(self) -> bool:
        """Whether it still waits or runs."""
        return self.state in OPEN

    @property
    def over(self) -> bool:
        """Whether nothing more happens to it unasked: it is neither open nor paused."""
        return not self.open and self.state != "paused"


def _row(job: Job, manager: str) -> dict[str, Any]:
    names = ("id", "owner", "kind", "title", "state", "progress", "error", "created", "updated")
    row = {name: getattr(job, name) for name in names}
    row |= {"payload": dict(job.payload), "series": [dict(r) for r in job.series], "manager": manager}
    return row | {"result": None if job.result is None else dict(job.result)}


def _job(row: Mapping[str, Any]) -> Job:
    fields = {name: value for name, value in row.items() if name != "manager"}
    return Job(**{**fields, "series": tuple(row["series"]), "payload": MappingProxyType(row["payload"])})


def _work(job: Job) -> tuple[str, str, Mapping[str, Any]]:
    """What is done for whom."""
    return job.owner, job.kind, job.payload


def workers() -> int:
    """How many jobs run at once: SLIMSCOPE_WORKERS, or the cores that this process may use."""
    text = os.environ.get("SLIMSCOPE_WORKERS", "")
    if text and not (text.isdecimal() and int(text)):
        raise SlimscopeError(f"SLIMSCOPE_WORKERS is {text!r}: allowed is a whole number from 1")
    return int(text) if text else len(os.sched_getaffinity(0))


# ---------------------------------------------------------------- who is alive


def _hold(path: Path) -> IO[str]:
    """Lock `path` as long as this process lives: the sign that its jobs have a manager."""
    with home.said():
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _is_held(path: Path) -> bool:
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


# ---------------------------------------------------------------- the manager


Process = subprocess.Popen[bytes]


@dataclass
class _Run:
    """What the manager knows of a running job, or of its helper, beside its snapshot."""

    thread: threading.Thread | None = None
    process: Process | None = None
    over: bool = False  # its process may be at another job by now
    shared: bool = False  # a helper can find some of its rows
    wish: str = ""  # the state that it was asked to end in
    known: float = 0.0  # progress of the last attempt: what comes up to there may be read, not computed
    started: float = 0.0  # monotonic seconds when the worker passed it
    first: float = 0.0  # progress at that moment
    kept: float = 0.0  # monotonic seconds of the last write


class Manager:
    """Runs jobs, at most `limit` at once; every method may be called from any thread.

    A new manager takes over what the store holds. Jobs whose manager is gone while they waited or
    ran go on by themselves, but for one that ran both times when a server was killed.
    """

    def __init__(self, limit: int | None = None, worker: Sequence[str] = WORKER) -> None:
        self.limit = limit or workers()
        self._worker = tuple(worker)
        self._id = uuid.uuid4().hex
        self._path = cache_folder().absolute() / "managers" / self._id
        self._sign = _hold(self._path)
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._runs: dict[str, _Run] = {}
        self._helpers: dict[str, _Run] = {}
        self._spare: list[Process] = []
        self._closed = False
        self._adopt()
        atexit.register(self.close)

    def _adopt(self) -> None:
        with self._lock, store.locked(self._path.with_name("adopting")):  # no two managers take the same
            for row in store.jobs():
                job = _job(row)
                if job.open and _is_held(self._path.with_name(row["manager"])):
                    continue  # another manager is at it
                self._jobs[job.id] = job
            for job in list(self._jobs.values()):
                if job.open or (job.state, job.error) == ("interrupted", GONE):
                    self._take_up(job)
            self._start_waiting()

    def _take_up(self, job: Job) -> None:
        """Let a job go on whose manager is gone, unless it may be the reason or was asked for anew."""
        later = [other for other in self._jobs.values() if other.created > job.created]
        if any(_work(other) == _work(job) for other in later):
            self._change(job.id, state="cancelled", error="the same was asked for again later")
        elif job.state == "running" and job.error == AGAIN:
            self._change(job.id, state="interrupted", error=TWICE)
        else:
            self._change(job.id, state="waiting", series=(), error=AGAIN)

    def submit(self, owner: str, kind: str, payload: Mapping[str, Any], title: str) -> str:
        """Queue a job and return its id; the same work of the same owner is not queued twice.

        Raises SlimscopeError where the payload is not JSON or too many jobs wait already.
        """
        try:
            plain = json.loads(json.dumps(dict(payload)))
        except (TypeError, ValueError) as error:
            raise SlimscopeError(f"the payload of a {kind} job is not JSON: {error}") from None
        with self._lock:
            mine = [job for job in self._jobs.values() if job.owner == owner and not job.over]
            for job in mine:
                if job.open and job.kind == kind and job.payload == plain:
                    return job.id
            if len(mine) >= MOST_WAITING:
                raise SlimscopeError(f"{len(mine)} jobs wait already: allowed is {MOST_WAITING}; cancel some")
            new = Job(uuid.uuid4().hex, owner, kind, title, MappingProxyType(plain))
            return self._queue(new)

    def _queue(self, job: Job) -> str:
        if self._closed:
            raise SlimscopeError("the server is stopping: no new job is taken")
        self._keep(job)
        self._jobs[job.id] = job
        self._forget(job.owner, job.kind)
        self._start_waiting()
        return job.id

    def list(self, owner: str) -> tuple[Job, ...]:
        """The owner's jobs, newest first."""
        with self._lock:
            mine = [self._seen(job) for job in self._jobs.values() if job.owner == owner]
        return tuple(sorted(mine, key=lambda job: job.created, reverse=True))

    def get(self, owner: str, job_id: str) -> Job:
        """One job. Raises SlimscopeError where it is not the owner's."""
        with self._lock:
            return self._seen(self._own(owner, job_id))

    def cancel(self, owner: str, job_id: str) -> None:
        """Ask a job to stop; one that does not within GRACE seconds is ended. What it has is kept."""
        self._halt(owner, job_id, "cancelled")

    def pause(self, owner: str, job_id: str) -> None:
        """Stop a job as `cancel` does, to be resumed; meanwhile its core is free for the next one."""
        self._halt(owner, job_id, "paused")

    def resume(self, owner: str, job_id: str) -> str:
        """Submit a stopped job again, under the same id unless the same work is queued already.

        What it had finished comes from the store, and a training goes on from its checkpoint; both
        report their rows again. Raises SlimscopeError for a job that is open or done.
        """
        with self._lock:
            job = self._own(owner, job_id)
            if job.state not in STOPPED:
                raise SlimscopeError(f"job {job.title!r} is {job.state}: only a stopped job can be resumed")
            for other in self._jobs.values():
                if other.open and _work(other) == _work(job):
                    return other.id
            again = replace(job, state="waiting", series=(), error="", updated=time.time())
            return self._queue(again)

    def close(self) -> None:
        """End all work; what waits or runs becomes `interrupted`. The manager takes no more jobs."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for job in [job for job in self._jobs.values() if job.open]:
                if job.state == "waiting":
                    self._change(job.id, state="interrupted", error=GONE)
                else:
                    self._stop(job.id, self._runs[job.id].wish or "interrupted")
            threads = [run.thread for run in (*self._runs.values(), *self._helpers.values())]
        for thread in filter(None, threads):
            thread.join(4 * GRACE)
        for process in self._spare:
            _retire(process)
        atexit.unregister(self.close)
        self._path.unlink(missing_ok=True)
        self._sign.close()

    # -------------------------------------------------------- inside, under the lock

    def _own(self, owner: str, job_id: str) -> Job:
        job = self._jobs.get(job_id)
        if job is None or job.owner != owner:
            raise SlimscopeError(f"job {job_id!r} is not among yours")
        return job

    def _seen(self, job: Job) -> Job:
        run = self._runs.get(job.id)
        if run is None or not run.started or job.progress <= run.first:
            return job
        spent = time.monotonic() - run.started
        return replace(job, remaining=spent * (1 - job.progress) / (job.progress - run.first))

    def _keep(self, job: Job) -> None:
        store.put_job(_row(job, self._id))

    def _change(self, job_id: str, **changes: Any) -> None:
        self._jobs[job_id] = replace(self._jobs[job_id], updated=time.time(), **changes)
        self._try_to_keep(self._jobs[job_id])

    def _try_to_keep(self, job: Job) -> None:
        with suppress(home.HomeError):  # on a full disk a job ends all the same
            self._keep(job)

    def _forget(self, owner: str, kind: str) -> None:
        """Drop the owner's oldest jobs of a kind that are over; their results are not theirs, and stay."""
        same = [job for job in self._jobs.values() if (job.owner, job.kind) == (owner, kind)]
        for job in [job for job in same if job.over][:-MOST_OVER]:
            del self._jobs[job.id]
            store.drop_job(job.id)

    def _start_waiting(self) -> None:
        """Start what waits, oldest first, where a core is free and nobody is at the same work already.

        A core that nothing waits for goes to a helper, until something does.
        """
        at_work = [(job.kind, job.payload) for job in map(self._jobs.__getitem__, self._runs)]
        for job in list(self._jobs.values()):
            if self._closed:
                return
            if job.state == "waiting" and (job.kind, job.payload) not in at_work:
                if self._busy():
                    self._wish(next(iter(self._helpers.values()), None), "cancelled")
                    return
                at_work.append((job.kind, job.payload))
                self._change(job.id, state="running")
                self._start(self._runs, job.id, _Run(known=job.progress), self._follow)
        for job_id, run in self._runs.items():
            job = self._jobs[job_id]
            ready = len(job.series) >= HELP_FROM and job.progress < 1 and not run.wish
            if run.shared and ready and job_id not in self._helpers and not self._busy():
                self._start(self._helpers, job_id, _Run(), self._help)

    def _busy(self) -> bool:
        return self._closed or len(self._runs) + len(self._helpers) >= self.limit

    def _start(self, among: dict[str, _Run], job_id: str, run: _Run, way: Callable[[str], None]) -> None:
        among[job_id] = run
        run.thread = threading.Thread(target=way, args=(job_id,), daemon=True)
        run.thread.start()

    def _halt(self, owner: str, job_id: str, state: str) -> None:
        with self._lock:
            job = self._own(owner, job_id)
            if job.state == "running":
                self._stop(job_id, state)
            elif job.state in ("waiting", "paused"):
                self._change(job_id, state=state, error="")

    def _stop(self, job_id: str, wish: str) -> None:
        self._wish(self._runs[job_id], wish)
        self._wish(self._helpers.get(job_id), wish)

    def _wish(self, run: _Run | None, wish: str) -> None:
        if run is not None:
            asked, run.wish = bool(run.wish), wish
            if run.process is not None and not asked:
                self._ask_to_stop(run)

    def _ask_to_stop(self, run: _Run) -> None:
        assert run.process is not None
        _write(run.process, "stop")
        for wait, end in ((GRACE, run.process.terminate), (2 * GRACE, run.process.kill)):
            timer = threading.Timer(wait, self._end, (run, end))
            timer.daemon = True
            timer.start()

    def _end(self, run: _Run, end: Callable[[], None]) -> None:
        with self._lock:
            if not run.over:
                end()

    # -------------------------------------------------------- one thread per process at work

    def _follow(self, job_id: str) -> None:
        """Hand the job to a process, take in what it says, and say how it ended."""
        run = self._runs[job_id]
        last, code = self._talk(job_id, run, lambda message: self._hear(job_id, message))
        with self._lock:
            del self._runs[job_id]
            self._wish(self._helpers.get(job_id), "cancelled")
            self._change(job_id, **_ending(last, code, run))
            surplus = self._release(run, last)
        for process in surplus:
            _retire(process)
        with suppress(home.HomeError):
            store.trim()

    def _help(self, job_id: str) -> None:
        """Have a second process do the job; nobody listens, for what it finds is in the store."""
        helper = self._helpers[job_id]
        last, _ = self._talk(job_id, helper, lambda message: None)
        with self._lock:
            del self._helpers[job_id]
            if "cancelled" not in last and job_id in self._runs:
                self._runs[job_id].shared = False  # there was nothing left to find, or it cannot be done
            surplus = self._release(helper, last)
        for process in surplus:
            _retire(process)

    def _talk(
        self, job_id: str, run: _Run, hear: Callable[[Mapping[str, Any]], None]
    ) -> tuple[dict[str, Any], int]:
        """Hand the job to a process: its last message, and its exit code where it is no more."""
        try:
            last = _listen(self._hand_over(job_id, run), hear)
        except Exception as error:
            last = {"failed": f"{type(error).__name__}: {error}", "broken": True}
        trusted = bool(last) and "broken" not in last
        return last, _retire(run.process) if run.process is not None and not trusted else 0

    def _release(self, run: _Run, last: Mapping[str, Any]) -> Sequence[Process]:
        """Keep the process of a run that is over, start what waits, and give those that are too many."""
        run.over = True
        if run.process is not None and last and "broken" not in last:
            self._spare.append(run.process)
        self._start_waiting()
        surplus = self._spare[SPARE:]
        del self._spare[SPARE:]
        return surplus

    def _hand_over(self, job_id: str, run: _Run) -> Process:
        with self._lock:
            job = self._jobs[job_id]
            run.process = self._process()
            _write(run.process, json.dumps({"kind": job.kind, "payload": dict(job.payload)}))
            if run.wish:
                self._ask_to_stop(run)
            return run.process

    def _process(self) -> Process:
        while self._spare:
            process = self._spare.pop()
            if process.poll() is None:
                return process
            _retire(process)
        return subprocess.Popen(
            self._worker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment()
        )

    def _hear(self, job_id: str, message: Mapping[str, Any]) -> None:
        with self._lock:
            run, job = self._runs[job_id], self._jobs[job_id]
            run.shared |= message.get("shared", False)
            if "progress" in message:
                if not run.started and message["progress"] >= run.known:
                    run.started, run.first = time.monotonic(), message["progress"]
                row = message["row"]
                series = job.series if row is None else (*job.series, MappingProxyType(row))
                changed = replace(job, progress=message["progress"], series=series, updated=time.time())
                self._jobs[job_id] = changed
                if time.monotonic() - run.kept > KEEP_EVERY:
                    run.kept = time.monotonic()
                    self._try_to_keep(changed)
                if run.shared and row is not None and len(series) == HELP_FROM:
                    self._start_waiting()


def _listen(process: Process, hear: Callable[[Mapping[str, Any]], None]) -> dict[str, Any]:
    assert process.stdout is not None
    for line in process.stdout:
        message: dict[str, Any] = json.loads(line)
        if any(name in message for name in LAST):
            return message
        hear(message)
    return {}


def _ending(last: Mapping[str, Any], code: int, run: _Run) -> dict[str, Any]:
    """What becomes of a job whose process said `last` and ended with `code`."""
    if "result" in last:
        result = MappingProxyType(last["result"])
        return {"state": "done", "progress": 1.0, "result": result, "error": ""}
    if "failed" in last:
        return {"state": "failed", "error": last["failed"]}
    if run.wish == "interrupted":
        return {"state": "interrupted", "error": GONE}
    if run.wish:
        return {"state": run.wish, "error": ""}
    if code < 0:
        return {"state": "interrupted", "error": f"its process was ended by signal {-code}"}
    return {"state": "failed", "error": f"its process ended with code {code}; the server's log says why"}


def _environment() -> dict[str, str]:
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


def _retire(process: Process) -> int:
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
