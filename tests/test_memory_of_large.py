"""What a large model needs beside its weights, in bytes and imports: no clock, no page."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from engine.net import zoo
from engine.tensor.clip_curve import clip_curve
from engine.tensor.histogram import HistogramIndex
from engine.tensor.sorted_index import SortedIndex
from engine.types import Arch

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = 1 << 22


def peak(work: Callable[[], object]) -> float:
    """What work takes at most, over the bytes of the weights; it is alive at its end."""
    tracemalloc.start()
    try:
        made = work()
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert made is not None
    return most / (4 * WEIGHTS)


def test_an_index_is_made_beside_little_else() -> None:
    weights = torch.randn(WEIGHTS, generator=torch.Generator().manual_seed(0))
    assert peak(lambda: SortedIndex(weights)) < 1.3  # 1.125 stay
    assert peak(lambda: HistogramIndex([weights])) < 0.7
    index = SortedIndex(weights)
    assert peak(lambda: (clip_curve(index, 4, True), clip_curve(index, 8, False))) < 0.5


@pytest.mark.parametrize("name", ["resnet-20", "lstm-mnist"])
def test_a_blank_model_has_no_memory_for_its_numbers(name: str) -> None:
    net = zoo.blank(Arch(name))
    parameters = list(net.parameters())
    own = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in parameters}
    assert len(own) == len(parameters)  # they can be told from each other
    assert sum(own.values()) == 4 * len(parameters)


def run(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_the_picture_and_the_multiply_adds_of_a_model_import_no_compiler() -> None:
    """torch's compiler and sympy are 100 MB and seconds, of which nothing is used."""
    code = """
import sys
from engine.net import anatomy, kinds, zoo
for name in ("resnet-8", "lstm-32"):
    assert kinds.layer_macs(zoo.load(name))["macs"].sum() and anatomy.of(zoo.load(name)).edges
print([name for name in ("torch._dynamo", "sympy") if name in sys.modules])
"""
    assert run(code).strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from Linux's /proc")
def test_what_is_free_between_blocks_in_use_goes_back() -> None:
    """Ten blocks of 10 MB, one after the other, with something small behind each that stays."""
    code = """
import numpy as np
from engine import memory

def held():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

{}
np.ones(3_700_000)  # glibc keeps blocks of up to 30 MB from here on
small, before = [], held()
for i in range(10):
    large = np.ones(1_250_000 + 1000 * i)
    small.append(np.ones(10_000))
    del large
print(held() - before)
"""
    kept = [float(run(code.format(first))) for first in ("", "memory.hold_little()")]
    assert kept[1] < 3 < kept[0]


@pytest.mark.skipif(sys.platform != "linux", reason="what a process holds is read from Linux's /proc")
def test_what_a_training_frees_is_there_for_its_next_batch_and_goes_back_after_it() -> None:
    """New pages that the system hands out, of 4,096 bytes or more, and the memory in use."""
    code = """
import resource
import numpy as np
from engine import memory

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def batch():
    blocks = [np.empty(5_000_000) for _ in range(5)]
    for block in blocks:
        block.fill(1.0)

def megabytes():
    status = open("/proc/self/status").read()
    return int(status.split("VmRSS:")[1].split()[0]) / 1000

batch()
before = megabytes()
with memory.held():
    batch()
    first = pages()
    batch()
    new = pages() - first
print(new, megabytes() - before)
"""
    new, more = map(float, run(code).split())
    assert new < 1000  # 200 MB have 49,000
    assert more < 20
