"""What the store keeps comes back exactly, from several processes at once, whole or not at all."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.pool import QueuePool

from engine.file import packfile
from engine.jobs import as_json, database, models, store
from engine.net import zoo
from engine.tensor.formats import AffineGrid, Dense
from engine.tensor.granularity import per_axis
from engine.types import Basis, Bundle, Figure, Report, SlimscopeError, Step


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path))


def small() -> Bundle:
    return zoo.bundle_of("mlp-32", zoo.seeded("mlp-32", 3).state_dict())


numbers = st.one_of(st.integers(-(2**53), 2**53), st.floats(allow_nan=False), st.text(max_size=5), st.none())


@given(st.dictionaries(st.text(max_size=5), st.lists(numbers, max_size=4), max_size=4))
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_values_come_back_exactly(value):
    store.put("key", value)
    assert store.get("key") == value


def test_a_value_is_replaced_and_dropped():
    store.put("key", 1)
    store.put("key", 2)
    assert store.get("key") == 2
    store.drop("key")
    assert store.get("key") is None


def test_a_bundle_comes_back_bit_for_bit(tmp_path):
    bundle = small()
    codes = torch.randint(-7, 8, bundle.params["fc1.weight"].shape, dtype=torch.int32)
    grid = AffineGrid(codes, torch.rand(32), torch.zeros(32, dtype=torch.int32), 4, per_axis(0))
    mixed = bundle.become({**bundle.params, "fc1.weight": grid})
    models.put_bundle("mixed", mixed)
    back = models.get_bundle("mixed")
    assert back is not None
    assert back.fingerprint == mixed.fingerprint
    assert isinstance(back.params["fc1.weight"], AffineGrid)
    assert [path.name for path in (tmp_path / "nets").iterdir()] == ["mixed.slim"]


def test_a_write_that_fails_leaves_the_old_net_and_no_litter(tmp_path, monkeypatch):
    bundle = small()
    models.put_bundle("net", bundle)

    def fail(_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(packfile, "pack", fail)
        with pytest.raises(OSError, match="disk full"):
            models.put_bundle("net", bundle)
    back = models.get_bundle("net")
    assert back is not None
    assert back.fingerprint == bundle.fingerprint
    assert len(list((tmp_path / "nets").iterdir())) == 1


def test_a_damaged_net_says_which_file(tmp_path):
    path = models.put_bundle("net", small())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(SlimscopeError, match=r"net\.slim is damaged"):
        models.get_bundle("net")


def test_models_are_zoo_names_or_uploads():
    model_id = models.put_model(small())
    assert model_id == f"file-{small().fingerprint}"
    assert models.get_model(model_id).fingerprint == small().fingerprint
    assert models.get_model("mlp-32").fingerprint == zoo.load("mlp-32").fingerprint


def test_a_file_is_bare_until_something_is_said_of_it():
    model_id = models.put_model(zoo.load("mlp-32"))
    assert not models.get_model(model_id, "").arch.runs
    assert models.get_model(model_id, "mnist").arch.name == "mlp-32"
    assert models.get_model("mlp-32", "").arch.runs


def test_a_file_is_deleted_when_the_last_visitor_removes_it():
    model_id = models.put_model(small())
    store.put("files-anna", {model_id: {}})
    models.drop_model(model_id)
    assert models.get_model(model_id).fingerprint == small().fingerprint
    store.put("files-anna", {})
    models.drop_model(model_id)
    with pytest.raises(SlimscopeError, match="is not here"):
        models.get_model(model_id)
    with pytest.raises(SlimscopeError, match="is not an upload"):
        models.drop_model("mlp-32")


@pytest.mark.parametrize("model_id", ["file-0123456789abcdef", "file-../../etc/passwd", "file-", "vgg-99"])
def test_a_model_that_is_not_here_is_refused(model_id):
    with pytest.raises(SlimscopeError, match="is not"):
        models.get_model(model_id)


@pytest.mark.parametrize("key", ["../x", "", "a/b", "A", "x" * 101])
def test_a_key_cannot_leave_the_folder(key):
    with pytest.raises(SlimscopeError, match="is not a name"):
        models.put_bundle(key, small())


def test_reports_come_back_with_tables_types_and_spread():
    table = pd.DataFrame({"layer": ["a", "b"], "n": [1, 2], "x": [0.1, math.nan], "cut": [True, False]})
    report = Report(
        (Figure("accuracy", 0.1 + 0.2, "share", Basis.MEASURED, "run", (0.1, 0.5)),),
        {"layers": table, "none": pd.DataFrame({"x": pd.Series([], dtype="float32")})},
        ("a note",),
        Step("shrink", {"share": 0.3}),
    )
    store.put("report", as_json.report_data(report))
    back = as_json.report_of(store.get("report"))
    assert (back.figures, back.notes, back.step) == (report.figures, report.notes, report.step)
    for name in report.tables:
        pd.testing.assert_frame_equal(back.tables[name], report.tables[name], check_index_type=False)


WRITE = """
import sys
from engine.jobs import store
store.get("open the database")
print("go", flush=True)
for i in range(15):
    store.put(f"{sys.argv[1]}-{i}", [int(sys.argv[1]), i])
    store.put("shared", int(sys.argv[1]))
"""


def test_processes_and_threads_write_at_once():
    command = [sys.executable, "-c", WRITE, "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "go\n"
        threads = [threading.Thread(target=_write, args=(n,)) for n in (1, 2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert writer.wait(60) == 0
    for n in range(3):
        assert [store.get(f"{n}-{i}") for i in range(15)] == [[n, i] for i in range(15)]
    assert store.get("shared") in range(3)


def _write(n: int) -> None:
    for i in range(15):
        store.put(f"{n}-{i}", [n, i])
        store.put("shared", n)


def test_more_threads_than_kept_connections_write_at_once_and_none_stays_open():
    threads = [threading.Thread(target=_write, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n in range(12):
        assert [store.get(f"{n}-{i}") for i in range(15)] == [[n, i] for i in range(15)]
    pool = database.database().pool
    assert isinstance(pool, QueuePool)
    assert pool.checkedout() == 0
    assert 1 <= pool.checkedin() <= pool.size()


def elsewhere(code: str) -> str:
    """What another process that uses the same store says."""
    command = [sys.executable, "-c", f"from engine.jobs import store\n{code}"]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def test_a_connection_that_stays_open_sees_what_others_write_and_they_see_it():
    store.put("mine", 1)
    assert store.get("theirs") is None
    assert elsewhere("store.put('theirs', store.get('mine') + 1); print(store.get('theirs'))") == "2\n"
    assert store.get("theirs") == 2
    store.put("mine", 3)
    assert elsewhere("print(store.get('mine'))") == "3\n"


KILLED = """
for i in range(50):
    store.put(f"key-{i}", i)
import os, signal
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_kept_outlives_a_process_that_is_killed():
    with pytest.raises(subprocess.CalledProcessError):
        elsewhere(KILLED)
    assert [store.get(f"key-{i}") for i in range(50)] == list(range(50))


FORKED = """
import os
store.put("before", 1)
child = os.fork()
if child == 0:
    store.put("child", store.get("before"))
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
store.put("parent", store.get("child"))
"""


def test_a_forked_process_has_connections_of_its_own():
    elsewhere(FORKED)
    assert [store.get(key) for key in ("before", "child", "parent")] == [1, 1, 1]


def test_a_folder_that_was_deleted_is_made_again(tmp_path):
    store.put("old", 1)
    shutil.rmtree(tmp_path)
    assert store.get("old") is None
    store.put("new", 2)
    assert elsewhere("print(store.get('new'))") == "2\n"
    shutil.rmtree(tmp_path)
    elsewhere("store.put('theirs', 3)")  # a new file, made by another
    assert (store.get("new"), store.get("theirs")) == (None, 3)


def test_nothing_of_a_home_stays_open_once_another_is_used(tmp_path, monkeypatch):
    def files() -> int:
        links = [f"/proc/self/fd/{number}" for number in os.listdir("/proc/self/fd")]
        return sum(os.path.lexists(link) and os.readlink(link).startswith(str(first)) for link in links)

    first = tmp_path / "first"
    monkeypatch.setenv("SLIMSCOPE_HOME", str(first))
    store.put("key", 1)
    assert files() > 0
    monkeypatch.setenv("SLIMSCOPE_HOME", str(tmp_path / "second"))
    assert store.get("key") is None
    assert files() == 0
    monkeypatch.setenv("SLIMSCOPE_HOME", str(first))
    assert store.get("key") == 1


def test_work_is_claimed_by_one_and_free_again_when_it_ends_or_fails(tmp_path):
    with store.claimed("row") as mine:
        assert mine
        with store.claimed("row", wait=False) as theirs:
            assert not theirs
        with store.claimed("another", wait=False) as other:
            assert other
        assert elsewhere("with store.claimed('row', wait=False) as mine: print(mine)") == "False\n"
    assert list((tmp_path / "checkpoints").iterdir()) == []
    with suppress(OSError), store.claimed("row"):
        raise OSError("killed")
    with store.claimed("row", wait=False) as mine:
        assert mine


def test_jobs_come_oldest_first_and_the_newest_stay():
    newest = 1e12  # seconds: behind what a job of another file may still write
    row = {"owner": "a", "kind": "k", "title": "t", "payload": {}, "state": "done", "progress": 1.0}
    row |= {"series": [], "result": None, "error": "", "manager": "m", "updated": 0.0}
    for i in range(4):
        store.put_job({**row, "id": str(i), "created": newest + i})
    store.put_job({**row, "id": "2", "created": newest + 2, "state": "failed"})
    assert [(job["id"], job["state"]) for job in store.jobs(3)] == [
        ("1", "done"),
        ("2", "failed"),
        ("3", "done"),
    ]


def test_trim_deletes_what_was_used_longest_ago_and_never_a_visitors_model(tmp_path):
    size = models.put_bundle("a", small()).stat().st_size
    upload = models.put_model(small())
    for age, key in enumerate(("c", "b", "a")):
        path = models.put_bundle(key, small())
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "nets" / f"{upload}.slim", (0, 0))
    models.get_bundle("a")  # used now: the newest of the three
    store.trim(2 * size)
    left = {path.stem for path in (tmp_path / "nets").iterdir()}
    assert left == {"a", "c", upload}
    store.trim(1)
    assert {path.stem for path in (tmp_path / "nets").iterdir()} == {"a", upload}
    for i in range(5):
        store.put(f"key-{i}", i)
    store.put("files-ann", {"file": "name"})
    for i in range(5, 9):
        store.put(f"key-{i}", i)
    store.trim(most_rows={"results": 3, "jobs": 3})
    assert [i for i in range(9) if store.get(f"key-{i}") is not None] == [6, 7, 8]
    assert store.get("files-ann") == {"file": "name"}


def test_a_training_folder_outlives_a_failure_and_not_a_success(tmp_path):
    with suppress(OSError), store.training("t") as folder:
        folder.mkdir()
        (folder / "net.pt").write_text("two epochs")
        raise OSError("killed")
    with store.training("t") as again:
        assert (again / "net.pt").read_text() == "two epochs"
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_dense_values_stay_float32():
    bundle = small()
    models.put_bundle("net", bundle)
    back = models.get_bundle("net")
    assert back is not None
    assert all(isinstance(p, Dense) and p.values.dtype == torch.float32 for p in back.params.values())
