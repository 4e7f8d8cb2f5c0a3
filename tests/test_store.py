"""What the store keeps comes back exactly, from several processes at once, whole or not at all."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from contextlib import suppress

import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine import packfile, store, zoo
from engine.types import Basis, Bundle, Dense, Figure, Grid, Report, SlimscopeError, Step


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
    grid = Grid(codes, torch.rand(32), torch.zeros(32, dtype=torch.int32), 4, axis=0)
    mixed = bundle.become({**bundle.params, "fc1.weight": grid})
    store.put_bundle("mixed", mixed)
    back = store.get_bundle("mixed")
    assert back is not None
    assert back.fingerprint == mixed.fingerprint
    assert isinstance(back.params["fc1.weight"], Grid)
    assert [path.name for path in (tmp_path / "nets").iterdir()] == ["mixed.slim"]


def test_a_write_that_fails_leaves_the_old_net_and_no_litter(tmp_path, monkeypatch):
    bundle = small()
    store.put_bundle("net", bundle)

    def fail(_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(packfile, "pack", fail)
        with pytest.raises(OSError, match="disk full"):
            store.put_bundle("net", bundle)
    back = store.get_bundle("net")
    assert back is not None
    assert back.fingerprint == bundle.fingerprint
    assert len(list((tmp_path / "nets").iterdir())) == 1


def test_a_damaged_net_says_which_file(tmp_path):
    path = store.put_bundle("net", small())
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(SlimscopeError, match=r"net\.slim is damaged"):
        store.get_bundle("net")


def test_models_are_zoo_names_or_uploads():
    model_id = store.put_model(small())
    assert model_id == f"file-{small().fingerprint}"
    assert store.get_model(model_id).fingerprint == small().fingerprint
    assert store.get_model("mlp-32").fingerprint == zoo.load("mlp-32").fingerprint


@pytest.mark.parametrize("model_id", ["file-0123456789abcdef", "file-../../etc/passwd", "file-", "vgg-99"])
def test_a_model_that_is_not_here_is_refused(model_id):
    with pytest.raises(SlimscopeError, match="is not"):
        store.get_model(model_id)


@pytest.mark.parametrize("key", ["../x", "", "a/b", "A", "x" * 101])
def test_a_key_cannot_leave_the_folder(key):
    with pytest.raises(SlimscopeError, match="is not a name"):
        store.put_bundle(key, small())


def test_reports_come_back_with_tables_types_and_spread():
    table = pd.DataFrame({"layer": ["a", "b"], "n": [1, 2], "x": [0.1, math.nan], "cut": [True, False]})
    report = Report(
        (Figure("accuracy", 0.1 + 0.2, "share", Basis.MEASURED, "run", (0.1, 0.5)),),
        {"layers": table, "none": pd.DataFrame({"x": pd.Series([], dtype="float32")})},
        ("a note",),
        Step("shrink", {"share": 0.3}),
    )
    store.put("report", store.report_data(report))
    back = store.report_of(store.get("report"))
    assert (back.figures, back.notes, back.step) == (report.figures, report.notes, report.step)
    for name in report.tables:
        pd.testing.assert_frame_equal(back.tables[name], report.tables[name], check_index_type=False)


WRITE = """
import sys
from engine import store
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


def test_jobs_come_oldest_first_and_the_newest_stay():
    row = {"owner": "a", "kind": "k", "title": "t", "payload": {}, "state": "done", "progress": 1.0}
    row |= {"series": [], "result": None, "error": "", "manager": "m", "updated": 0.0}
    for i in range(4):
        store.put_job({**row, "id": str(i), "created": float(i)})
    store.put_job({**row, "id": "2", "created": 2.0, "state": "failed"})
    assert [(job["id"], job["state"]) for job in store.jobs(3)] == [
        ("1", "done"),
        ("2", "failed"),
        ("3", "done"),
    ]


def test_trim_deletes_what_was_used_longest_ago_and_never_a_visitors_model(tmp_path):
    size = store.put_bundle("a", small()).stat().st_size
    upload = store.put_model(small())
    for age, key in enumerate(("c", "b", "a")):
        path = store.put_bundle(key, small())
        os.utime(path, (1e9 - age, 1e9 - age))
    os.utime(tmp_path / "nets" / f"{upload}.slim", (0, 0))
    store.get_bundle("a")  # used now: the newest of the three
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
    store.put_bundle("net", bundle)
    back = store.get_bundle("net")
    assert back is not None
    assert all(isinstance(p, Dense) and p.values.dtype == torch.float32 for p in back.params.values())
