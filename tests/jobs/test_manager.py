"""Jobs in their own processes: live, cancellable, one's own, and not lost with a process or a server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import job_worker
import pytest

from engine.data import sets
from engine.jobs import manager as managing
from engine.jobs import process, recipes, store, tasks
from engine.jobs.job import AGAIN, GONE, TWICE, Job, row_of
from engine.jobs.manager import Manager
from engine.net import zoo
from engine.recipe import run, technique
from engine.types import Progress, Recipe, SlimscopeError, Step

WORKER = (sys.executable, job_worker.__file__)
FOREVER = {"rows": 2, "wait": True}
STOPS_WITHIN = 5.0  # seconds: the requirement is 1, the rest is for a machine that does other things
LEARN = Recipe((Step("learn", {"epochs": 4}),))
TRAIN = {"model": "mlp-32", "recipe": LEARN.key, "data": "mnist"}


@pytest.fixture(autouse=True, scope="module")
def _home(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMSCOPE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setattr(process, "SPARE", 2)
        yield


@pytest.fixture(scope="module")
def manager(_home):
    made = Manager(limit=2, worker=WORKER)
    yield made
    made.close()


def until(manager: Manager, job_id: str, true, owner: str = "ann", limit: float = 120.0) -> Job:
    """The job as soon as something is true of it; the time is a limit, never a result."""
    deadline = time.monotonic() + limit
    while not true(job := manager.get(owner, job_id)):
        assert time.monotonic() < deadline, job
        time.sleep(0.01)
    return job


def over(job: Job) -> bool:
    return job.over


def talks(job: Job) -> bool:
    return bool(job.series) or not job.open


def pid_of(job: Job) -> int:
    assert job.state == "running", job
    return int(job.series[0]["pid"])


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_job_runs_to_done_on_one_thread_and_the_same_work_is_not_queued_twice(manager):
    job_id = manager.submit("ann", "count", {"rows": 3}, "three rows")
    assert manager.submit("ann", "count", {"rows": 3}, "the same") == job_id
    assert manager.submit("ben", "count", {"rows": 3}, "another's") != job_id
    job = until(manager, job_id, over)
    assert (job.state, job.error, job.progress) == ("done", "", 1.0)
    assert [row["i"] for row in job.series] == [0, 1, 2]
    assert job.result == {"threads": 1, "omp": "1"}
    assert job.series[0]["pid"] != os.getpid()
    assert [j.title for j in manager.list("ann")] == ["three rows"]
    assert manager.submit("ann", "count", {"rows": 3}, "again") != job_id


def test_nobody_sees_or_stops_the_job_of_another(manager):
    job_id = manager.list("ann")[0].id
    for touch in (manager.get, manager.pause, manager.cancel, manager.resume):
        with pytest.raises(SlimscopeError, match="is not among yours"):
            touch("eve", job_id)
    assert manager.list("eve") == ()
    assert {job.owner for job in manager.list("ben")} == {"ben"}


def test_failures_are_sentences(manager):
    refused = manager.submit("ann", "refuse", {}, "out of range")
    unknown = manager.submit("ann", "dance", {}, "no such kind")
    assert until(manager, refused, over).error == "sparsity is 2: allowed is 0 to 1"
    assert until(manager, unknown, over).error.startswith("job kind 'dance' is unknown")
    assert {manager.get("ann", j).state for j in (refused, unknown)} == {"failed"}


def test_cancel_ends_running_and_waiting_jobs_and_keeps_the_rows(manager):
    running = manager.submit("ann", "count", FOREVER, "runs on")
    stubborn = manager.submit("ann", "deaf", {}, "does not listen")
    waiting = manager.submit("ann", "count", {"rows": 1}, "waits its turn")
    pids = [pid_of(until(manager, job_id, talks)) for job_id in (running, stubborn)]
    assert until(manager, running, lambda job: len(job.series) == 2).remaining is not None
    assert manager.get("ann", waiting).state == "waiting"
    for job_id in (waiting, running, stubborn):
        manager.cancel("ann", job_id)
    assert manager.get("ann", waiting).state == "cancelled"
    for job_id in (running, stubborn):
        job = until(manager, job_id, over, limit=STOPS_WITHIN)
        assert (job.state, job.error, job.remaining) == ("cancelled", "", None)
        assert job.series
    assert is_gone(pids[1])
    manager.cancel("ann", running)  # once more does nothing
    assert manager.get("ann", running).state == "cancelled"
    after = until(manager, manager.submit("ann", "count", {"rows": 1, "after": 0}, "after it"), over)
    assert (after.state, after.series[0]["pid"]) == ("done", pids[0])  # free for the next


def test_a_killed_worker_is_interrupted_and_resumes(manager):
    job_id = manager.submit("ann", "count", {"rows": 4, "wait": True}, "killed")
    os.kill(pid_of(until(manager, job_id, talks)), signal.SIGKILL)
    job = until(manager, job_id, over)
    assert (job.state, job.error) == ("interrupted", "its process was ended by signal 9")
    assert manager.resume("ann", job_id) == job_id
    again = until(manager, job_id, lambda job: len(job.series) == 4)
    assert (again.state, again.error) == ("running", "")
    with pytest.raises(SlimscopeError, match="is running: only a stopped job can be resumed"):
        manager.resume("ann", job_id)
    manager.cancel("ann", job_id)
    assert until(manager, job_id, over).state == "cancelled"


def test_a_paused_job_frees_its_core_goes_on_when_asked_and_can_be_cancelled():
    alone = Manager(limit=1, worker=WORKER)
    job_id = alone.submit("pam", "count", {"rows": 3, "wait": True}, "paused")
    behind = alone.submit("pam", "count", {"rows": 1, "behind": True}, "behind it")
    until(alone, job_id, lambda job: len(job.series) == 3, owner="pam")
    alone.pause("pam", job_id)
    job = until(alone, job_id, lambda job: job.state == "paused", owner="pam", limit=STOPS_WITHIN)
    assert (job.open, job.over, len(job.series), job.progress) == (False, False, 3, 0.5)
    assert until(alone, behind, over, owner="pam").state == "done"
    alone.close()
    after = Manager(limit=1, worker=WORKER)
    assert after.get("pam", job_id).state == "paused"  # a pause outlives the server
    assert after.resume("pam", job_id) == job_id
    again = until(after, job_id, lambda job: len(job.series) == 3, owner="pam")
    assert again.state == "running"
    after.pause("pam", job_id)
    after.cancel("pam", job_id)  # while it is being paused
    assert until(after, job_id, over, owner="pam", limit=STOPS_WITHIN).state == "cancelled"
    after.resume("pam", job_id)
    after.pause("pam", job_id)
    until(after, job_id, lambda job: job.state == "paused", owner="pam", limit=STOPS_WITHIN)
    after.cancel("pam", job_id)
    assert after.get("pam", job_id).state == "cancelled"
    after.close()


def test_the_same_work_of_two_owners_is_done_one_after_the_other(manager):
    first = manager.submit("ann", "count", FOREVER, "mine")
    second = manager.submit("ben", "count", FOREVER, "the same")
    other = manager.submit("ben", "count", {"rows": 1, "other": True}, "something else")
    assert until(manager, other, over, owner="ben").state == "done"
    assert manager.get("ann", first).open
    assert manager.get("ben", second).state == "waiting"
    manager.cancel("ann", first)
    assert until(manager, second, talks, owner="ben").state == "running"
    manager.cancel("ben", second)
    assert until(manager, second, over, owner="ben").state == "cancelled"


# ---------------------------------------------------------------- two processes at one job


def until_there(count: int, folder: str) -> list[int]:
    """The processes that are at a `meet` job, as soon as there are as many."""
    deadline = time.monotonic() + 120
    while len(pids := [int(path.name) for path in (sets.cache_folder() / folder).glob("*")]) < count:
        assert time.monotonic() < deadline, pids
        time.sleep(0.01)
    return pids


def test_a_free_core_helps_a_job_that_can_be_shared(manager):
    job_id = manager.submit("ann", "meet", {"folder": "two", "of": 2}, "shared")
    job = until(manager, job_id, over)
    assert (job.state, job.error, len(job.series)) == ("done", "", 2)  # the helper's rows are not told twice
    assert len(job.result["there"]) == 2
    assert str(job.series[0]["pid"]) in job.result["there"]


def test_a_helper_gives_way_to_a_job_that_waits_and_comes_back(manager):
    folder = sets.cache_folder() / "way"
    job_id = manager.submit("ann", "meet", {"folder": "way", "of": 4}, "shared")
    until_there(2, "way")
    behind = manager.submit("ben", "count", {"rows": 1, "way": True}, "needs the core")
    assert until(manager, behind, over, owner="ben").state == "done"
    assert manager.get("ann", job_id).state == "running"
    first = pid_of(manager.get("ann", job_id))
    for path in folder.iterdir():
        if path.name != str(first):
            path.unlink()
    until_there(2, "way")
    for name in ("1", "2"):
        (folder / name).touch()
    assert until(manager, job_id, over).state == "done"


def test_a_helper_that_is_killed_takes_nothing_along_and_a_cancel_ends_both(manager):
    job_id = manager.submit("ann", "meet", {"folder": "kill", "of": 3}, "shared")
    both = until_there(2, "kill")
    first = pid_of(until(manager, job_id, talks))
    os.kill(next(pid for pid in both if pid != first), signal.SIGKILL)
    (sets.cache_folder() / "kill" / "1").touch()
    assert until(manager, job_id, over).state == "done"
    job_id = manager.submit("ann", "meet", {"folder": "cancel", "of": 3}, "shared")
    both = until_there(2, "cancel")
    manager.cancel("ann", job_id)
    assert until(manager, job_id, over, limit=STOPS_WITHIN).state == "cancelled"
    jobs_now = [manager.submit("ann", "count", FOREVER | {"n": n}, "takes a core") for n in range(2)]
    pids = {pid_of(until(manager, each, talks)) for each in jobs_now}
    assert pids == set(both)  # both are free for what comes next
    for each in jobs_now:
        manager.cancel("ann", each)
        until(manager, each, over)


def test_one_worker_gets_no_helper():
    alone = Manager(limit=1, worker=WORKER)
    job_id = alone.submit("sam", "meet", {"folder": "alone", "of": 2}, "shared")
    until(alone, job_id, lambda job: len(job.series) == 2, owner="sam")
    assert alone._helpers == {}
    (sets.cache_folder() / "alone" / "1").touch()
    assert until(alone, job_id, over, owner="sam").state == "done"
    alone.close()


def test_a_sweep_of_two_workers_is_that_of_one(manager, monkeypatch, tmp_path):
    vary = {"share": [0.22, 0.32, 0.42, 0.52, 0.62]}
    recipe = Recipe((Step("shrink"),))
    payload = {
        "model": "mlp-32",
        "recipe": recipe.key,
        "data": "mnist",
        "step": 1,
        "samples": 100,
        "vary": vary,
    }
    job = until(manager, manager.submit("ann", "sweep", payload, "a sweep"), over)
    assert (job.state, job.error, len(job.series)) == ("done", "", 6)
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    with job_worker.registered():
        assert job.result == tasks.perform("sweep", payload, Progress())


# ---------------------------------------------------------------- trainings


@pytest.fixture
def hold():
    """Holds trainings in their third epoch; gone when the test ends, or earlier."""
    path = sets.cache_folder() / "hold"
    path.write_text("3")
    yield path
    path.unlink(missing_ok=True)


def held(job: Job) -> bool:
    """Whether the third epoch's last report is there: two are on disk whole."""
    return bool(job.series) and job.series[-1]["epoch"] > 2.7


def test_a_killed_training_goes_on_from_its_checkpoint_for_whoever_asks(manager, hold):
    job_id = manager.submit("ann", "apply", TRAIN, "training")
    until(manager, job_id, held)
    os.kill(worker_of(manager, job_id), signal.SIGKILL)
    assert until(manager, job_id, over).state == "interrupted"
    hold.unlink()
    other = manager.submit("ben", "apply", TRAIN, "the same training")
    job = until(manager, other, over, owner="ben")
    assert (job.state, job.error) == ("done", "")
    assert_goes_on(job)
    manager.resume("ann", job_id)
    found = until(manager, job_id, over)
    assert (found.state, found.series) == ("done", ())  # nothing is trained twice
    assert found.result == job.result


def worker_of(manager: Manager, job_id: str) -> int:
    process = manager._runs[job_id].process
    assert process is not None
    return process.pid


def assert_goes_on(job: Job) -> None:
    """Its rows are those of two epochs read from disk and of two trained; its net is that of one go."""
    epochs = [row["epoch"] for row in job.series]
    assert epochs[:2] == [1.0, 2.0]
    assert all(epoch > 2 for epoch in epochs[2:])
    assert epochs[-1] == 4.0
    recipe = Recipe.from_key(job.payload["recipe"])
    with job_worker.registered():
        bundle, _ = recipes.after("mlp-32", recipe, "mnist")
        unbroken, _ = run.run(zoo.load("mlp-32"), technique.complete(recipe), sets.load("mnist"))
    assert bundle.fingerprint == unbroken.fingerprint


def test_an_idle_process_takes_the_next_job_and_a_broken_one_does_not(manager):
    first, second = (
        until(manager, manager.submit("ann", "count", {"rows": 1, "again": i}, "quick"), over) for i in (1, 2)
    )
    assert first.series[0]["pid"] == second.series[0]["pid"]
    stumbled = until(manager, manager.submit("ann", "stumble", {}, "a mistake"), over)
    assert (stumbled.state, stumbled.error) == ("failed", "KeyError: 'lost'")
    third = until(manager, manager.submit("ann", "count", {"rows": 1, "again": 3}, "quick"), over)
    assert third.state == "done"
    assert third.series[0]["pid"] != first.series[0]["pid"]
    assert is_gone(int(first.series[0]["pid"]))


SERVER = """
import json, sys, time
from engine.jobs import manager as module
module.KEEP_EVERY = 0.0  # every row is on disk when this process is killed
manager = module.Manager(limit=1, worker=sys.argv[2:])
def add(kind, payload):
    return manager.submit("zoe", kind, payload, kind)
done, running = add("count", {"rows": 1, "zoe": True}), add("apply", json.loads(sys.argv[1]))
waiting = add("count", {"rows": 1})
def row():
    return (manager.get("zoe", running).series or [{"epoch": 0}])[-1]
while row()["epoch"] < 2.7:
    time.sleep(0.01)
print(done, running, waiting, manager._runs[running].process.pid, flush=True)
time.sleep(600)
"""


def test_a_killed_server_takes_its_worker_along_and_the_next_one_goes_on(manager, hold):
    root = Path(managing.__file__).parent.parent.parent
    payload = {**TRAIN, "recipe": Recipe((Step("shrink"), *LEARN)).key}
    command = [sys.executable, "-c", SERVER, json.dumps(payload), *WORKER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as server:
        assert server.stdout is not None
        try:
            done, running, waiting, pid = server.stdout.readline().split()
            beside = Manager(limit=1, worker=WORKER)
            assert {job.id for job in beside.list("zoe")} == {done}  # the others have a living manager
            assert beside.list("ann") == manager.list("ann")
            beside.close()
        finally:
            server.kill()
    deadline = time.monotonic() + 20
    while not is_gone(int(pid)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_gone(int(pid))
    hold.unlink()
    after = Manager(limit=1, worker=WORKER)
    finished = after.get("zoe", done)
    assert (finished.state, finished.result) == ("done", {"threads": 1, "omp": "1"})
    job = after.get("zoe", running)
    assert (job.state, job.error) == ("running", AGAIN)
    assert 0.5 < job.progress < 1
    assert after.get("zoe", waiting).state == "waiting"
    assert_goes_on(until(after, running, over, owner="zoe"))
    assert until(after, waiting, over, owner="zoe").state == "done"
    after.close()
    with pytest.raises(SlimscopeError, match="the server is stopping"):
        after.submit("zoe", "count", {}, "too late")


# ---------------------------------------------------------------- without a process


@pytest.fixture
def idle(monkeypatch):
    """A manager whose jobs never start, so that only the queue is looked at."""
    monkeypatch.setattr(Manager, "_start_waiting", lambda self: None)
    made = Manager(limit=1, worker=WORKER)
    yield made
    made.close()


def test_a_full_queue_and_a_payload_that_is_not_json_are_refused(idle):
    for i in range(managing.MOST_WAITING):
        idle.submit("max", "count", {"rows": i}, "one of many")
    with pytest.raises(SlimscopeError, match="50 jobs wait already: allowed is 50"):
        idle.submit("max", "count", {"rows": -1}, "one too many")
    assert idle.submit("max", "count", {"rows": 7}, "one of them") in {job.id for job in idle.list("max")}
    with pytest.raises(SlimscopeError, match="payload of a count job is not JSON"):
        idle.submit("nil", "count", {"rows": object()}, "no JSON")


def test_the_same_payload_submitted_by_many_threads_is_one_job(idle):
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(idle.submit("tim", "count", {"b": 1, "a": 2}, "t")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 8
    assert len(set(ids)) == 1
    assert idle.submit("tim", "count", {"a": 2, "b": 1}, "in another order") == ids[0]


def test_a_queue_that_is_closed_leaves_its_jobs_to_be_resumed(idle):
    job_id = idle.submit("kim", "count", {"rows": 1}, "never begun")
    paused = idle.submit("kim", "count", {"rows": 2}, "set aside")
    idle.pause("kim", paused)
    idle.close()
    assert (idle.get("kim", job_id).state, idle.get("kim", paused).state) == ("interrupted", "paused")


ENDS = {  # how a job was left -> what it is under the next server
    ("waiting", ""): ("waiting", AGAIN),
    ("running", ""): ("waiting", AGAIN),
    ("interrupted", GONE): ("waiting", AGAIN),  # that server was stopped, not killed
    ("waiting", AGAIN): ("waiting", AGAIN),
    ("running", AGAIN): ("interrupted", TWICE),
    ("interrupted", TWICE): ("interrupted", TWICE),
    ("interrupted", "its process was killed"): (
        "interrupted",
        "its process was killed",
    ),
    ("cancelled", ""): ("cancelled", ""),
    ("paused", ""): ("paused", ""),
    ("failed", "no"): ("failed", "no"),
    ("done", ""): ("done", ""),
}


@pytest.mark.parametrize("left", list(ENDS))
def test_what_a_server_left_goes_on_where_nobody_stopped_it(left, monkeypatch, tmp_path):
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(Manager, "_start_waiting", lambda self: None)
    state, error = left
    job = Job("1", "ivy", "count", "left", {"rows": 1}, state, 0.4, ({"i": 0},), error=error)
    store.put_job(row_of(job, "gone"))
    after = Manager(limit=1, worker=WORKER)
    found = after.get("ivy", "1")
    assert (found.state, found.error) == ENDS[left]
    assert found.progress == 0.4
    if ENDS[left][1] == TWICE:
        after.resume("ivy", "1")
        assert (after.get("ivy", "1").state, after.get("ivy", "1").error) == ("waiting", "")
    after.close()


def test_of_work_that_was_asked_for_twice_the_later_goes_on(monkeypatch, tmp_path):
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))
    monkeypatch.setattr(Manager, "_start_waiting", lambda self: None)
    for number, (state, error) in enumerate((("interrupted", GONE), ("done", ""))):
        job = Job(str(number), "ivy", "count", "left", {"rows": 1}, state, error=error, created=float(number))
        store.put_job(row_of(job, "gone"))
    after = Manager(limit=1, worker=WORKER)
    assert [(job.id, job.state) for job in after.list("ivy")] == [("1", "done"), ("0", "cancelled")]
    after.close()


def test_of_the_jobs_that_are_over_only_the_newest_stay_listed(idle, monkeypatch):
    monkeypatch.setattr(managing, "MOST_OVER", 3)
    kept = idle.submit("lea", "dance", {}, "of another kind")
    idle.cancel("lea", kept)
    for i in range(6):
        job_id = idle.submit("lea", "count", {"rows": i}, str(i))
        (idle.pause if i == 0 else idle.cancel)("lea", job_id)
    titles = [job.title for job in idle.list("lea")]
    assert titles == ["5", "4", "3", "2", "0", "of another kind"]
    assert sum(row["owner"] == "lea" for row in store.jobs()) == len(titles)


def test_snapshots_are_frozen_and_kept_as_they_are(idle):
    job_id = idle.submit("sue", "count", {"rows": 1}, "kept")
    job = idle.get("sue", job_id)
    with pytest.raises(TypeError):
        job.payload["rows"] = 2  # type: ignore[index]
    row = next(row for row in store.jobs() if row["id"] == job_id)
    assert (row["owner"], row["payload"], row["state"]) == ("sue", {"rows": 1}, "waiting")


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5"])
def test_the_number_of_workers_is_a_checked_setting(monkeypatch, text):
    monkeypatch.setenv("SLIMSCOPE_WORKERS", "3")
    assert process.limit() == 3
    monkeypatch.delenv("SLIMSCOPE_WORKERS")
    assert process.limit() == len(os.sched_getaffinity(0))
    monkeypatch.setenv("SLIMSCOPE_WORKERS", text)
    with pytest.raises(SlimscopeError, match=f"SLIMSCOPE_WORKERS is '{text}'"):
        process.limit()


@pytest.fixture
def narrow(monkeypatch):
    """A queue with one core, in which nobody asks for `count`."""
    monkeypatch.setattr("engine.jobs.job.UNASKED", ("count",))
    made = Manager(limit=1, worker=WORKER)
    yield made
    made.close()


def test_what_nobody_asked_for_gives_its_core_to_whoever_waits_and_goes_on_after_it(narrow):
    aside = narrow.submit("ann", "count", FOREVER, "a curve")
    until(narrow, aside, lambda job: len(job.series) == 2)
    asked = narrow.submit("ben", "meet", {"folder": "alone", "of": 1}, "asked for")
    assert until(narrow, asked, over, owner="ben").state == "done"
    again = until(narrow, aside, lambda job: job.state == "running" and len(job.series) == 2)
    assert [row["i"] for row in again.series] == [0, 1]
    narrow.cancel("ann", aside)
    assert until(narrow, aside, over).state == "cancelled"


def test_what_nobody_asked_for_waits_until_nothing_else_does(narrow):
    running = narrow.submit("ann", "deaf", {}, "asked for")
    until(narrow, running, talks)
    aside = narrow.submit("ann", "count", {"rows": 1}, "a curve")
    asked = narrow.submit("ben", "meet", {"folder": "second", "of": 1}, "asked for later")
    narrow.cancel("ann", running)
    until(narrow, asked, over, owner="ben")
    assert until(narrow, aside, over).created < narrow.get("ben", asked).created
    assert narrow.get("ann", aside).updated >= narrow.get("ben", asked).updated
