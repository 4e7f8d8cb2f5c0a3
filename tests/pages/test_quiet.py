"""What must be measured is worked out in threads of its own."""

import threading

import pytest

from engine.types import SlimscopeError
from pages.parts import quiet


def test_work_is_done_in_another_thread_and_its_value_comes_back() -> None:
    name = quiet.done(lambda: threading.current_thread().name)
    assert name.startswith("measuring")
    assert name != threading.current_thread().name


def test_what_can_not_be_measured_says_so_where_it_is_asked_for() -> None:
    def refused() -> None:
        raise SlimscopeError("no such layer")

    with pytest.raises(SlimscopeError, match="no such layer"):
        quiet.done(refused)
    assert quiet.done(lambda: 3) == 3
