"""How background work lets pages, and the browser that shows them, go first."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

from engine.types import SlimscopeError

MOST = 19
SESSION = Path("/proc/self/autogroup")  # Linux: the niceness of all processes of this one's session


def level() -> int:
    """How nice jobs are: SLIMSCOPE_NICE, or 10. Raises SlimscopeError where that is no niceness."""
    text = os.environ.get("SLIMSCOPE_NICE", "10")
    if not text.isdecimal() or int(text) > MOST:
        raise SlimscopeError(f"SLIMSCOPE_NICE is {text!r}: allowed is a whole number from 0 to {MOST}")
    return int(text)


def give_way() -> None:
    """Make this process nice, and its session where it leads one.

    Where Linux shares out processor time by session (autogroup), a niceness counts within its session alone:
    the browser, which is of another one, would get no more than a job does.
    """
    with suppress(OSError):
        os.nice(level())
    if os.getsid(0) == os.getpid():
        with suppress(OSError):
            SESSION.write_text(str(level()))


def give_way_in_thread() -> None:
    """Make this thread nice, where the system counts niceness by thread, as Linux does."""
    if sys.platform == "linux":
        with suppress(OSError, SlimscopeError):  # whoever starts a job is told what is wrong with the setting
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), max(level(), os.nice(0)))
