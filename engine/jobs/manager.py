"""Background work: jobs with progress, live series, pause and cancel, each alone in a process.

A paused job has no process: what it computes keeps its own place (`engine.jobs.recipes`), so that a
pause frees memory and core and outlives the server. Where a core is free, a second process does the
same job as one whose worker calls it shared; what it finds comes to the first through the store.
Nothing here knows what a job computes (`engine.jobs.tasks`).
"""

from __future__ import annotations

import atexit
import json
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from engine.data.sets import cache_folder
from engine.jobs import home, locks, process, store
from engine.jobs.job import AGAIN, GONE, STOPPED, TWICE, Job, ending, job_of, row_of
from engine.jobs.process import GRACE, Process, Run, Workers, retire, trusted
from engine.types import SlimscopeError

WORKER = (sys.executable, "-m", "engine.jobs.tasks")
HELP_FROM = 2  # rows of a shared job: by then what all of them begin with has been made
KEEP_EVERY = 1.0  # seconds between two writes of a running job's series to the store
MOST_WAITING = 50  # jobs of one owner that wait, run or are paused
MOST_OVER = 100  # jobs of one owner and kind that are over and still listed


class Manager:
    """Runs jobs, at most `limit` at once; every method may be called from any thread.

    A new manager takes over what the store holds. Jobs whose manager is gone while they waited or
    ran go on by themselves, but for one that ran both times when a server was killed.
    """

    def __init__(self, limit: int | None = None, worker: Sequence[str] = WORKER) -> None:
        self.limit = limit or process.limit()
        self._workers = Workers(worker)
        self._id = uuid.uuid4().hex
        self._path = cache_folder().absolute() / "managers" / self._id
        self._sign = locks.hold(self._path)
        self._lock = threading.RLock()
        self._jobs: dict[str, Job] = {}
        self._runs: dict[str, Run] = {}
        self._helpers: dict[str, Run] = {}
        self._closed = False
        self._adopt()
        atexit.register(self.close)

    def _adopt(self) -> None:
        with self._lock, locks.locked(self._path.with_name("adopting")):  # no two managers take the same
            for row in store.jobs():
                job = job_of(row)
                if job.open and locks.is_held(self._path.with_name(row["manager"])):
                    continue  # another manager is at it
                self._jobs[job.id] = job
            for job in list(self._jobs.values()):
                if job.open or (job.state, job.error) == ("interrupted", GONE):
                    self._take_up(job)
            self._start_waiting()

    def _take_up(self, job: Job) -> None:
        """Let a job go on whose manager is gone, unless it may be the reason or was asked for anew."""
        later = [other for other in self._jobs.values() if other.created > job.created]
        if any(other.work == job.work for other in later):
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

    def supersede(self, owner: str, job_id: str) -> None:
        """Stop a job as `cancel` does, because its owner waits for another answer now."""
        self._halt(owner, job_id, "replaced")

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
                if other.open and other.work == job.work:
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
        for each in self._workers.spare:
            retire(each)
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
        return job if run is None else replace(job, remaining=run.remaining(job.progress))

    def _keep(self, job: Job) -> None:
        store.put_job(row_of(job, self._id))

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

        What nobody asked for comes last, and gives its core back where another job waits. A core that
        nothing waits for goes to a helper, until something does.
        """
        at_work = [(job.kind, job.payload) for job in map(self._jobs.__getitem__, self._runs)]
        for job in sorted(self._jobs.values(), key=lambda job: job.unasked):
            if self._closed:
                return
            if job.state == "waiting" and (job.kind, job.payload) not in at_work:
                if self._busy():
                    for helper in list(self._helpers)[:1]:
                        self._release_helper(helper)
                    if not (job.unasked or self._helpers):
                        self._put_back()
                    return
                at_work.append((job.kind, job.payload))
                self._change(job.id, state="running", series=())
                self._start(self._runs, job.id, Run(self._lock, job.task, known=job.progress), self._follow)
        for job_id, run in self._runs.items():
            job = self._jobs[job_id]
            ready = len(job.series) >= HELP_FROM and job.progress < 1 and not run.wish
            if run.shared and ready and job_id not in self._helpers and not self._busy():
                self._start(self._helpers, job_id, Run(self._lock, job.task), self._help)

    def _put_back(self) -> None:
        """Let one job that nobody pressed a button for wait again; what it has found is in the store."""
        for job_id in [key for key in self._runs if self._jobs[key].unasked][:1]:
            self._stop(job_id, self._runs[job_id].wish or "waiting")

    def _busy(self) -> bool:
        return self._closed or len(self._runs) + len(self._helpers) >= self.limit

    def _start(self, among: dict[str, Run], job_id: str, run: Run, way: Callable[[str], None]) -> None:
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
        self._runs[job_id].stop(wish)
        self._release_helper(job_id, wish)

    def _release_helper(self, job_id: str, wish: str = "cancelled") -> None:
        if job_id in self._helpers:
            self._helpers[job_id].stop(wish)

    # -------------------------------------------------------- one thread per process at work

    def _follow(self, job_id: str) -> None:
        """Hand the job to a process, take in what it says, and say how it ended."""
        run = self._runs[job_id]
        last, code = run.talk(self._workers, lambda message: self._hear(job_id, message))
        with self._lock:
            del self._runs[job_id]
            self._release_helper(job_id)
            self._change(job_id, **ending(last, code, run.wish))
            surplus = self._release(run, last)
        for each in surplus:
            retire(each)
        with suppress(home.HomeError):
            store.trim()

    def _help(self, job_id: str) -> None:
        """Have a second process do the job; nobody listens, for what it finds is in the store."""
        helper = self._helpers[job_id]
        last, _ = helper.talk(self._workers, lambda message: None)
        with self._lock:
            del self._helpers[job_id]
            if "cancelled" not in last and job_id in self._runs:
                self._runs[job_id].shared = False  # there was nothing left to find, or it cannot be done
            surplus = self._release(helper, last)
        for each in surplus:
            retire(each)

    def _release(self, run: Run, last: Mapping[str, Any]) -> Sequence[Process]:
        """Keep the process of a run that is over, start what waits, and give those that are too many."""
        run.over = True
        if run.process is not None and trusted(last):
            self._workers.spare.append(run.process)
        self._start_waiting()
        return self._workers.surplus()

    def _hear(self, job_id: str, message: Mapping[str, Any]) -> None:
        with self._lock:
            run, job = self._runs[job_id], self._jobs[job_id]
            run.shared |= message.get("shared", False)
            if "progress" in message:
                run.pace(message["progress"])
                row = message["row"]
                series = job.series if row is None else (*job.series, MappingProxyType(row))
                changed = replace(job, progress=message["progress"], series=series, updated=time.time())
                self._jobs[job_id] = changed
                if time.monotonic() - run.kept > KEEP_EVERY:
                    run.kept = time.monotonic()
                    self._try_to_keep(changed)
                if run.shared and row is not None and len(series) == HELP_FROM:
                    self._start_waiting()
