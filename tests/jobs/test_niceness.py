"""Background work gives way, also to processes of other sessions."""

import subprocess
import sys

import pytest

from engine.jobs.niceness import NICE, SESSION

SAID = (
    "import os; from engine.jobs import niceness as n; n.give_way(); print(os.nice(0), n.SESSION.read_text())"
)


@pytest.mark.skipif(not SESSION.exists(), reason="this system does not share out time by session")
@pytest.mark.parametrize("leads", [True, False])
def test_a_session_of_background_work_is_as_nice_as_the_work_and_no_other_session_is(leads: bool) -> None:
    before = SESSION.read_text().split()
    command = [sys.executable, "-c", SAID]
    said = subprocess.run(command, start_new_session=leads, capture_output=True, text=True, check=True).stdout
    own, *session = said.split()
    assert int(own) >= NICE
    assert int(session[-1]) == (NICE if leads else int(before[-1]))
    assert SESSION.read_text().split() == before
