"""What is worked out unasked: it goes on while its visitor has a page open, and ends after the last one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from streamlit.runtime import Runtime

from engine.jobs.job import Job
from pages.parts import jobs, unasked, visitor

SUBJECT = "mlp-32|mnist"


class Queue:
    """The manager's queue, in which nothing is ever done."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.stopped: list[str] = []

    def list(self, owner: str) -> list[Job]:
        return [job for job in self.jobs if job.owner == owner and job.id not in self.stopped]

    def supersede(self, owner: str, job_id: str) -> None:
        self.stopped.append(job_id)


@pytest.fixture
def queue(monkeypatch: pytest.MonkeyPatch) -> Queue:
    found = Queue()
    monkeypatch.setattr(jobs, "manager", lambda: found)
    monkeypatch.setattr(jobs, "ensure", lambda owner, kind, *_: found.jobs.append(job(owner, kind)))
    monkeypatch.setattr(unasked, "_visits", {})
    return found


def job(owner: str, kind: str) -> Job:
    return Job(f"{kind} of {owner}", owner, kind, "title", {})


def ask(owner: str, session: str, open_ones: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of this session asks for its curve, while these sessions are connected."""
    runtime: Any = SimpleNamespace(is_active_session=open_ones.__contains__)
    monkeypatch.setattr(Runtime, "_instance", runtime)
    monkeypatch.setattr(unasked, "get_script_run_ctx", lambda: SimpleNamespace(session_id=session))
    monkeypatch.setattr(visitor, "owner", lambda: owner)
    unasked.ensure("curve", "title", SUBJECT, "[]")


def test_curves_of_who_left_are_stopped_when_another_asks(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("anna", "first tab", {"first tab"}, monkeypatch)
    ask("anna", "second tab", {"first tab", "second tab"}, monkeypatch)
    queue.jobs.append(job("anna", "sweep"))  # she pressed a button for it
    ask("bert", "his", {"second tab", "his"}, monkeypatch)
    assert queue.stopped == []
    ask("bert", "his", {"his"}, monkeypatch)
    assert set(queue.stopped) == {"curve of anna"}
    assert [each.kind for each in queue.list("anna")] == ["sweep"]


def test_without_a_server_nothing_is_stopped(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Runtime, "_instance", None)
    monkeypatch.setattr(visitor, "owner", lambda: "anna")
    unasked.ensure("curve", "title", SUBJECT, "[]")
    assert [each.id for each in queue.jobs] == ["curve of anna"]
    assert queue.stopped == []
