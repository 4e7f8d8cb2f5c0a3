"""Who is right about a panel's settings: the server's half, then both halves over a slow, lossy line."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import engine.techniques  # noqa: F401
from engine.recipe import technique
from engine.types import Recipe
from pages.parts import draft
from pages.parts.draft import Draft, Trial, Work

HERE = Path(__file__).parent
RUNS = 20_000  # interleavings
NAMES = ("bits", "scheme", "group")
START = {"bits": 0, "scheme": 0, "group": 0}


def edits(seq: int, base: str = "me", **changed: list[Any]) -> dict[str, Any]:
    return {"base": base, "seq": seq, "set": changed}


def test_edits_count_once_and_in_any_order() -> None:
    first = Draft("me", START).take(edits(2, bits=[5, 1], scheme=[1, 2]))
    assert first.settings == {"bits": 5, "scheme": 1, "group": 0}
    assert first.take(edits(1, bits=[7, 1])) is first, "it was overtaken"
    assert first.take(edits(3, bits=[5, 1], scheme=[1, 2], group=[4, 3])).settings["group"] == 4


def test_a_button_wins_over_what_was_edited_before_it_and_loses_to_what_is_edited_after() -> None:
    pressed = Draft("me", START).take(edits(1, bits=[5, 1])).press({**START, "group": 9})
    assert (pressed.settings, pressed.version) == ({**START, "group": 9}, 1)
    assert pressed.take(edits(1, bits=[5, 1])) is pressed
    after = pressed.take(edits(2, bits=[5, 1], scheme=[3, 2]))
    assert after.settings == {"bits": 0, "scheme": 3, "group": 9}


@pytest.mark.parametrize(
    "said",
    [
        None,
        {},
        "edits",
        edits(1, base="another", bits=[5, 1]),
        {"base": "me", "seq": "1", "set": {}},
        {"base": "me"},
    ],
)
def test_what_is_no_edit_of_this_session_changes_nothing(said: object) -> None:
    known = Draft("me", START)
    assert known.take(said) is known


@pytest.mark.parametrize(
    "said", [{"nothing": [5, 1]}, {"bits": [5]}, {"bits": 5}, {"bits": [5, "1"]}, {"bits": [5, 2]}]
)
def test_what_is_no_setting_or_has_no_number_is_left_out(said: dict[str, Any]) -> None:
    assert Draft("me", START).take({"base": "me", "seq": 1, "set": said}).settings == START


STEPS = st.lists(st.sampled_from(["prune_weights", "quantize", "low_rank", "finetune"]), max_size=5)


@given(STEPS, st.integers(1, 16))
def test_a_trial_in_the_recipe_stands_there_once_and_the_rest_keeps_its_order(
    names: list[str], bits: int
) -> None:
    before = technique.complete(Recipe(tuple(technique.step(name) for name in names)))
    after, place = draft.placed(before, Trial(technique.step("quantize", bits=bits), True))
    assert after.steps[place].settings["bits"] == bits
    assert len(after) == len(before) + ("quantize" not in names)
    rest = [step for i, step in enumerate(after) if i != place]
    there = draft.find(before, "quantize")
    assert rest == [step for i, step in enumerate(before) if i != there]


def test_a_trial_is_seen_alone_or_at_the_place_that_it_stands_for() -> None:
    step = technique.step("quantize", bits=3)
    before = Recipe((technique.step("quantize", bits=8), technique.step("quantize", bits=6)))
    assert draft.seen(before, Trial(step)) == (Recipe((step,)), 0)
    assert draft.seen(before, Trial(step, True, 0)) == (Recipe((step, before.steps[1])), 0)
    assert draft.seen(before, Trial(step, True)) == (Recipe((before.steps[0], step)), 1)
    assert draft.seen(before, Trial(step, True, 9)) == (Recipe((before.steps[0], step)), 1)  # it is gone


def test_what_is_kept_and_tried_belongs_to_its_model() -> None:
    recipe, trial = Recipe((technique.step("quantize"),)), Trial(technique.step("prune_weights"))
    work = Work("a").keep(recipe).attempt(trial)
    other = replace(work, model="b")
    assert (work.recipes.get("a"), work.trials.get(("a", "prune_weights"))) == (recipe, trial)
    assert (other.recipes.get("b"), other.trials.get(("b", "prune_weights"))) == (None, None)


def test_a_trial_stays_with_its_step_when_the_recipe_is_rearranged() -> None:
    first, second = (
        technique.step("prune_weights", sparsity=0.5),
        technique.step("prune_weights", sparsity=0.9),
    )
    work = Work("a").keep(Recipe((first, second))).attempt(Trial(first, True, 0))
    key = ("a", "prune_weights")
    assert work.moved([1, 0]).trials[key] == Trial(first, True, 1)
    assert work.moved([0]).trials[key] == Trial(first, True, 0)
    assert key not in work.moved([1]).trials
    other = replace(work, model="b")
    assert other.moved([]).trials == work.trials


# ---------------------------------------------------------------- both halves

BROWSER = """
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
const source = readFileSync(process.argv[2], "utf8")
const panel = await import("data:text/javascript," + encodeURIComponent(source))
let mine = null
const acts = {
  begin: () => { mine = { seq: 0, sent: 0, set: {} }; return null },
  hear: data => { panel.hear(mine, data); return [mine.settings, Object.keys(panel.pending(mine))] },
  edit: changed => { panel.edit(mine, changed); return mine.settings },
  send: () => panel.outgoing(mine),
  shown: () => mine.settings,
}
for await (const line of createInterface({ input: process.stdin })) {
  const [act, what] = JSON.parse(line)
  process.stdout.write(JSON.stringify(acts[act](what)) + "\\n")
}
"""


class Browser:
    """`panel.js` itself, under node: one question, one answer."""

    def __init__(self, folder: Path) -> None:
        script = folder / "browser.mjs"
        script.write_text(BROWSER)
        panel = HERE.parent.parent / "pages" / "parts" / "browser" / "panel.js"
        self.process = subprocess.Popen(
            ["node", str(script), str(panel)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def __call__(self, act: str, what: Any = None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([act, what]) + "\n")
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def panel_js(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if shutil.which("node") is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no node on this machine")
    browser = Browser(tmp_path_factory.mktemp("node"))
    with browser.process:
        yield browser
        browser.process.kill()


class Line:
    """A session: the browser, the server, and messages between them that are late, merged or lost."""

    def __init__(self, browser: Browser, chance: random.Random) -> None:
        self.browser, self.chance = browser, chance
        self.draft = Draft("me", dict(START))
        # The widget's state, and what a button sets.
        self.up: list[tuple[dict[str, Any] | None, dict[str, int] | None]] = []
        self.down: list[dict[str, Any]] = []
        self.truth = dict(START)  # what was asked for, in the order in which the person did it
        self.held: dict[str, Any] | None = None  # the widget's state: every message carries it
        self.value = 0
        browser("begin")
        browser("hear", self.said())

    def said(self) -> dict[str, Any]:
        known = self.draft
        numbers = {"base": known.base, "version": known.version, "acknowledged": known.acknowledged}
        return {**numbers, "settings": dict(known.settings)}

    def flush(self) -> bool:
        edits = self.browser("send")
        self.held = edits or self.held
        return edits is not None

    def act(self) -> None:
        match self.chance.randrange(7):
            case 0 | 1:
                self.value += 1
                changed = dict.fromkeys(self.chance.sample(NAMES, self.chance.randint(1, 2)), self.value)
                self.truth |= changed
                shown = self.browser("edit", changed)
                assert changed.items() <= shown.items(), "an edit is seen at once"
            case 2:
                if self.flush():
                    self.up.append((self.held, None))
            case 3:
                self.value += 1
                self.flush()  # a press outside of the panel sends what was edited before it
                wanted = dict.fromkeys(NAMES, self.value)
                self.truth = dict(wanted)
                self.up.append((self.held, wanted))
            case 4 | 5:
                self.serve()
            case _:
                self.deliver()

    def serve(self) -> None:
        """The server runs once; of requests without a button it may see the newest alone, and be cut off."""
        if len(self.up) > 1 and self.up[0][1] is None and self.chance.random() < 0.5:
            self.up.pop(0)
        if not self.up:
            return
        edits, wanted = self.up.pop(0)
        self.draft = self.draft.take(edits)
        if wanted is not None:
            self.draft = self.draft.press(wanted)
        if self.up and self.chance.random() < 0.3:
            return  # cut off by the next request: nothing of this run is said
        self.down.append(self.said())

    def deliver(self) -> None:
        if not self.down:
            return
        if len(self.down) > 1 and self.chance.random() < 0.3:
            self.down.pop(0)  # a newer word for the same element replaced it
        before = self.shown()
        shown, pending = self.browser("hear", self.down.pop(0))
        for name in pending:
            assert shown[name] == before[name], "what the server has not heard of stays"

    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.browser("shown")
        return shown

    def settle(self) -> None:
        """Everything arrives."""
        if self.flush():
            self.up.append((self.held, None))
        while self.up or self.down:
            self.serve()
            self.deliver()


@pytest.mark.parametrize("part", range(4))
def test_no_edit_is_lost_or_undone_however_messages_fall(part: int, panel_js: Browser) -> None:
    for seed in range(part * RUNS // 4, (part + 1) * RUNS // 4):
        line = Line(panel_js, random.Random(seed))
        for _ in range(12):
            line.act()
        line.settle()
        assert line.draft.settings == line.truth, f"seed {seed}: the server"
        assert line.shown() == line.truth, f"seed {seed}: the browser"
