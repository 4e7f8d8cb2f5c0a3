"""What is worked out unasked ends with the visit: nobody's curve keeps the cores of those who are still here."""

from __future__ import annotations

from streamlit.runtime import Runtime
from streamlit.runtime.scriptrunner import get_script_run_ctx

from engine.jobs.job import Job
from pages.parts import jobs, visitor

_visits: dict[str, set[str]] = {}  # owner -> sessions that something was worked out for unasked


def ensure(kind: str, title: str, subject: str, key: str, **more: object) -> Job | None:
    """As `jobs.ensure`, for a kind of work that nobody presses a button for."""
    context = get_script_run_ctx()
    if context is not None and Runtime.exists():
        _visits.setdefault(visitor.owner(), set()).add(context.session_id)
        _end_for_the_gone(Runtime.instance())
    return jobs.ensure(visitor.owner(), kind, title, subject, key, **more)


def _end_for_the_gone(runtime: Runtime) -> None:
    """Stop the work for visitors none of whose sessions is connected; they may ask again when they come back."""
    for owner, sessions in list(_visits.items()):
        sessions -= {session for session in tuple(sessions) if not runtime.is_active_session(session)}
        if not sessions:
            _visits.pop(owner, None)
            for job in jobs.manager().list(owner):
                if job.open and job.unasked:
                    jobs.manager().supersede(owner, job.id)
