"""The engine's memory: bounded in bytes, each result made once, errors not kept."""

import threading
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch

from engine.memory import LEAST, Memory, size_of


def block(n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.uint8)


def test_what_was_asked_for_longest_ago_goes_first() -> None:
    memory, made = Memory(25_000), []

    def ask(key: str) -> None:
        memory.get(key, lambda: made.append(key) or block(10_000))

    for key in ("a", "b", "a", "c", "a", "b"):
        ask(key)
    assert made == ["a", "b", "c", "b"]  # c took the place of b, and b that of c
    assert (memory.bytes, len(memory)) == (20_000, 2)


def test_a_result_larger_than_the_limit_is_answered_and_not_kept() -> None:
    memory = Memory(5_000)
    assert memory.get("large", lambda: block(10_000)).numel() == 10_000
    assert (memory.bytes, len(memory)) == (0, 0)


def test_small_results_have_a_bound_too() -> None:
    memory = Memory(10 * LEAST)
    for key in range(50):
        memory.get(key, lambda key=key: key)
    assert len(memory) == 10


def test_an_error_is_raised_and_not_kept() -> None:
    memory = Memory()
    with pytest.raises(ZeroDivisionError):
        memory.get("x", lambda: 1 // 0)
    assert memory.get("x", lambda: 3) == 3


def test_one_thread_makes_it_and_the_others_wait() -> None:
    memory, begun, go, made = Memory(), threading.Event(), threading.Event(), []

    def slowly() -> int:
        begun.set()
        go.wait()
        made.append(1)
        return 7

    answers: list[int] = []
    threads = [threading.Thread(target=lambda: answers.append(memory.get("k", slowly))) for _ in range(4)]
    threads[0].start()
    begun.wait()
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join()
    assert (answers, made) == ([7] * 4, [1])


def test_what_is_forgotten_while_it_is_made_is_answered_and_not_counted() -> None:
    memory = Memory()

    def make() -> torch.Tensor:
        memory.clear()
        return block(5_000)

    assert memory.get("x", make).numel() == 5_000
    assert (memory.bytes, len(memory)) == (0, 0)


@dataclass
class Held:
    one: torch.Tensor
    two: torch.Tensor


def test_the_size_counts_each_storage_once() -> None:
    whole = torch.zeros(100)
    assert size_of([whole, whole[:10], whole]) == 400
    assert size_of(np.zeros(5)) == 40
    assert size_of(pd.DataFrame({"a": [1.0, 2.0]}).reset_index(drop=True)) == 16 + 132
    assert size_of(torch.zeros(9, device="meta")) == 0
