"""Background work gives way, also to processes of other sessions."""

import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.jobs import niceness
from engine.jobs.niceness import SESSION
from engine.types import SlimscopeError

SAID = (
    "import os; from engine.jobs import niceness as n; n.give_way(); print(os.nice(0), n.SESSION.read_text())"
)


@pytest.mark.skipif(not SESSION.exists(), reason="this system does not share out time by session")
@pytest.mark.parametrize("leads", [True, False])
def test_a_session_of_background_work_is_as_nice_as_the_work_and_no_other_session_is(
    leads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLIMSCOPE_NICE", "7")
    before = SESSION.read_text().split()
    command = [sys.executable, "-c", SAID]
    said = subprocess.run(command, start_new_session=leads, capture_output=True, text=True, check=True).stdout
    own, *session = said.split()
    assert int(own) >= 7
    assert session[-1:] == (["7"] if leads else before[-1:])  # nothing where the session is none
    assert SESSION.read_text().split() == before


@pytest.mark.skipif(sys.platform != "linux", reason="this system counts niceness by process")
def test_a_thread_gives_way_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMSCOPE_NICE", "7")
    before = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    with ThreadPoolExecutor(1, initializer=niceness.give_way_in_thread) as pool:
        there = pool.submit(lambda: os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).result()
    assert there == max(7, before)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before


@pytest.mark.parametrize("text", ["-1", "20", "much", ""])
def test_what_is_no_niceness_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLIMSCOPE_NICE", text)
    with pytest.raises(
        SlimscopeError, match=f"SLIMSCOPE_NICE is '{text}': allowed is a whole number from 0 to 19"
    ):
        niceness.level()
    monkeypatch.delenv("SLIMSCOPE_NICE")
    assert niceness.level() == 10
