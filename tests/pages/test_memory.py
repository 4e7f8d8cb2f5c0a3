"""Looking at nets and moving sliders for a long time leaves memory as it was.

Run as a script, this file is the server's process without its door: it prints what is held along the way.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
HELD = Path("/proc/self/statm")
# Nets whose whole test set is measured at once: others would start jobs, in processes of their own.
MODELS = ("lenet-300-100", "mlp-32", "lenet-5-small", "lstm-32")
SWITCHES, MOVES, FILLED = 80, 8, 40  # switches of the model; moves at each; switches that fill all caches


def test_80_models_and_640_moves_leave_memory_flat() -> None:
    if not HELD.exists() or not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("what a process holds is read from Linux's /proc and glibc's allocator")
    # One arena: with one for each thread, what is free but scattered differs by tens of megabytes.
    environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, __file__],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    held = json.loads(done.stdout.splitlines()[-1])
    assert len(held) == SWITCHES // 10
    after = held[FILLED // 10 - 1 :]
    assert max(after) < 1.05 * after[0], f"megabytes after every ten models and eighty moves: {held}"


# ---------------------------------------------------------------- the other process


def megabytes() -> float:
    """What this process holds: without what Python or the allocator has not given back yet."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return int(HELD.read_text().split()[1]) * 4096 / 1e6


def main() -> None:
    """Choose a net in the page, ask for moves as a browser does, and make one on the page now and then."""
    sys.path.insert(0, str(ROOT))
    import torch
    from streamlit.runtime.pages_manager import PagesManager
    from streamlit.runtime.scriptrunner.script_cache import ScriptCache
    from streamlit.testing.v1 import AppTest, local_script_runner

    sys.path.insert(0, str(ROOT / "tests"))
    from driving import report_edits

    from engine.net import zoo
    from engine.types import weight_layers
    from pages.parts import live

    torch.set_num_threads(1)
    start = PagesManager.__init__

    def without_folder(self: PagesManager, *args: Any, **kwargs: Any) -> None:  # as the fixture `framed`
        start(self, *args, **kwargs)
        PagesManager.uses_pages_directory = False

    PagesManager.__init__ = without_folder  # type: ignore[method-assign]
    compiled = ScriptCache()
    local_script_runner.ScriptCache = lambda: compiled  # type: ignore[assignment, misc]
    page = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    page.query_params["m"], page.query_params["r"] = "mlp-32", '[["prune_weights",{"sparsity":0.5}]]'
    page.switch_page("pages/prune.py").run()
    held = []
    for i in range(SWITCHES):
        model = MODELS[i % len(MODELS)]
        page.selectbox(key="pick").set_value(model).run()
        layer = next(iter(weight_layers(zoo.load(model))))
        question: dict[str, Any] = {"subject": f"{model}|{zoo.entry(model).data}", "layer": layer, "at": 0}
        for j in range(MOVES):
            sparsity = 0.999 * ((MOVES * i + j) * 0.6180339887498949 % 1)
            recipe = [["prune_weights", {"sparsity": sparsity}]]
            answer = live.asked("", json.dumps({**question, "recipe": recipe}).encode())
        if i % 10 == 9:
            for tile in answer["pending"]:
                live.asked("ann", json.dumps({**question, "measured": answer["key"], "tile": tile}).encode())
            report_edits(page, "prune_weights", {"sparsity": (i // 10 + 1) / 25})
            page.run()
            held.append(megabytes())
        assert not page.exception
        assert page.session_state["work"].model == model
    print(json.dumps(held))


if __name__ == "__main__":
    main()
