"""The guided story on Start: bytes add up, guesses stand beside answers, keys and links lead through it."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from visiting import MODEL, SMALL, Visit

from engine.jobs import story as stories
from engine.papers import ingredients
from engine.recipe import technique
from pages.parts import cached
from pages.parts.story import chapters, facts, pictures, place, record, waterfall
from pages.parts.story.place import ASKING, CHAPTERS, Place
from pages.parts.story.told import PLAIN, SHOWN
from pages.parts.story.waterfall import Bar

pytestmark = pytest.mark.usefixtures("framed")
RIGHT = {"value": 0.9, "low": 0.89, "high": 0.91, "n": 1000}


# ---------------------------------------------------------------- the waterfall


def test_bars_float_from_the_file_before_to_the_file_after() -> None:
    assert waterfall.spans([1000, -200, -700, 50, -100]) == [
        (0, 1000),
        (800, 1000),
        (100, 800),
        (100, 150),
        (50, 150),
    ]


@given(some.lists(some.integers(0, 10**9), min_size=1))
def test_every_bar_ends_at_the_size_after_its_step(sizes: list[int]) -> None:
    changes = [change for _, change in stories.waterfall([(str(i), size) for i, size in enumerate(sizes)])]
    for before, after, (low, high) in zip([0, *sizes], sizes, waterfall.spans(changes), strict=False):
        assert {low, high} == {before, after}


def test_the_table_shows_what_is_told_and_only_names_the_rest() -> None:
    bars = [Bar("a", "first", 1000, RIGHT), Bar("b", "second", -250, RIGHT), Bar("c", "third", 50, RIGHT)]
    found = waterfall.html(bars, {"a", "b"}, {"b"})
    assert re.findall(r'data-change="([^"]*)"', found) == ["1000", "-250"]
    assert re.findall(r'data-size="([^"]*)"', found) == ["1000", "750"]
    assert "left:75.000%;width:max(2px,25.000%)" in found  # the second bar, of 1,000 bytes
    assert "third" in found
    assert "+50" not in found
    assert re.findall(r'<tr class="here"><th scope="row">([^<]*)', found) == ["second"]


def told() -> facts.Facts:
    found = facts.find(cached.subject(MODEL, "mnist"))
    assert found is not None
    return found


def test_the_parts_of_the_story_add_up_to_the_last_byte() -> None:
    found = told().told
    bars = found.bars(chapters.STEPS)
    assert [bar.step for bar in bars] == list(chapters.STEPS) == list(SHOWN)
    assert sum(bar.change for bar in bars) == found.last == found.row("rounded")["bytes"]
    assert bars[0].change == cached.dense_bytes(cached.subject(MODEL, "mnist")).value
    assert [bar.change for bar in bars[1:]] == [
        after - before for (_, before), (_, after) in zip(found.steps, found.steps[1:], strict=False)
    ]
    assert found.goal <= found.times < found.goal + 10


def test_the_story_is_the_one_that_its_sentences_tell() -> None:
    found = told().told
    at = {row["sparsity"]: row["value"] for row in found.along()}
    held, fallen = at[0.0] - at[stories.TUNED], at[stories.TUNED] - at[chapters.BROKEN]
    assert fallen > 3 * held  # a cliff
    assert found.size("tuned") == pytest.approx(found.size("pruned"), rel=0.02)  # its zeros stay
    after = found.accuracy("tuned")
    assert found.accuracy("pruned")["high"] < after["low"]  # it wins back
    assert after["low"] <= found.accuracy("rounded")["value"] <= after["high"]  # 4 bits cost hardly anything


# ---------------------------------------------------------------- pictures


def test_levels_are_evenly_spaced_and_hold_every_rounded_value() -> None:
    before, after = told().neuron()
    stairs = pictures.levels(after)
    assert len(stairs) <= 2**stories.BITS
    assert np.abs(after[:, None] - stairs).min(1).max() < 1e-6
    assert np.abs(before - after).max() <= np.diff(stairs).max() / 2 + 1e-6  # to the nearest stair


def test_the_answer_is_in_no_picture_before_the_guess() -> None:
    found, last = told(), told().told.accuracy("pruned", chapters.BROKEN)
    for name, answer in (("guess", last["value"]), ("tune", found.told.accuracy("tuned")["value"])):
        asked, answered = (chapters.tell(name, found, guess).picture for guess in (None, 0.5))
        assert isinstance(asked, dict)
        assert isinstance(answered, dict)
        values = [[y for trace in each["data"] for y in trace["y"]] for each in (asked, answered)]
        assert answer not in values[0]
        assert {answer, 0.5} <= set(values[1])


def test_squares_are_to_scale() -> None:
    assert re.findall(r"width:([\d.]+)%", pictures.squares(1600, 100)) == ["100", "25.000"]


# ---------------------------------------------------------------- where one is


@given(some.text("nb", max_size=30))
def test_keys_that_arrive_twice_or_late_count_once(keys: str) -> None:
    standing = dict.fromkeys(ASKING, 0.5)
    here, heard = Place(), 0
    for end in range(len(keys) + 1):  # every message says all keys again, as if no answer ever came
        for _ in range(2):
            message = {"base": "me", "start": 0, "keys": keys[:end]}
            here, heard = place.hear(here, heard, message, standing, "me")
    assert (here, heard) == (Place().follow(keys, standing), len(keys))
    assert place.hear(here, heard, {"base": "other", "start": 0, "keys": keys + "n"}, standing, "me") == (
        here,
        heard,
    )


@given(some.sampled_from(CHAPTERS), some.booleans())
def test_a_link_restores_chapter_and_presentation(chapter: str, presented: bool) -> None:
    here = Place(chapter, presented=presented)
    assert place.read(*here.written()) == (here, "")


# ---------------------------------------------------------------- on the page


def changes(visit: Visit) -> list[int]:
    return [int(found) for found in re.findall(r'data-change="([^"]*)"', visit.html)]


def press(visit: Visit, keys: str) -> Visit:
    """The browser says which keys were pressed since the last answer."""
    state = visit.at.session_state
    start = state["story-heard"]
    state["story-keys"] = {"pressed": {"base": state["base"], "start": start, "keys": keys}}
    return visit.run()


def test_the_button_leads_through_all_chapters_and_guesses() -> None:
    visit, sizes = Visit(), [size for _, size in told().told.steps]
    seen = []
    for _ in range(len(CHAPTERS) + len(ASKING)):
        here = visit.at.session_state["story"]
        seen.append((here.chapter, here.asks))
        if here.chapter == "record":
            assert sum(changes(visit)) == record.find(MODEL, sizes[0]).size
        else:
            assert sum(changes(visit)) == sizes[len(changes(visit)) - 1]
        assert "Trap:" in visit.words or here.asks
        if here.asks:
            visit.at.slider(key=f"guess-{here.chapter}").set_value(97.0)
        visit.click("story-next") if here.chapter != CHAPTERS[-1] else None
        if here.asks:
            answer = chapters.asked(told().told)[here.chapter].answer
            assert f"You guessed **97 %**. It is **{100 * answer['value']:.2f} %**" in visit.words
    assert seen == [
        (name, asks) for name in CHAPTERS for asks in ((True, False) if name in ASKING else (False,))
    ]
    assert visit.at.button(key="story-next").disabled
    assert visit.click("story-back").link["s"] == CHAPTERS[-2]


def test_an_ingredient_of_the_record_is_switched_off_and_the_parts_still_add_up() -> None:
    visit, found = Visit(s="record"), told().record
    assert sum(changes(visit)) == found.size == found.files(ingredients.OWN)[-1]["bytes"]
    pills = visit.at.button_group(key="story-ingredients")
    assert pills.value == list(ingredients.OWN)
    for chosen in (["grid", "trim"], list(ingredients.ALL), []):
        pills.set_value(chosen)
        visit.run()
        last = ingredients.files(found.made, chosen)[-1]
        assert sum(changes(visit)) == last["bytes"]
        assert f"your choice: {last['bytes']:,} B" in json.dumps(picture(visit), ensure_ascii=False)
        pills = visit.at.button_group(key="story-ingredients")


def picture(visit: Visit) -> dict[str, object]:
    return json.loads(next(c.proto.spec for c in visit.at.get("plotly_chart") if "story-" in c.proto.id))


def test_presented_the_page_holds_the_story_alone_and_a_link_restores_it() -> None:
    visit = Visit(m=MODEL, s="quantize", p="1")
    assert '<table class="waterfall"' in visit.html
    assert 'class="tiles"' not in visit.html
    assert len(changes(visit)) == len(SHOWN)
    assert (visit.link["s"], visit.link["p"]) == ("quantize", "1")
    press(visit, "bx")
    assert 'class="tiles"' in visit.html
    assert visit.link["s"] == "tune"
    assert "p" not in visit.link
    assert "s" not in visit.open("prune").link  # a link of another page has nothing of it
    assert visit.open("overview").link["s"] == "tune"


@pytest.mark.parametrize(
    ("query", "said"), [({"s": "<b>"}, "has no chapter '<b>'"), ({"p": "yes"}, "not 'yes'")]
)
def test_a_link_to_no_chapter_falls_back_and_says_so(query: dict[str, str], said: str) -> None:
    visit = Visit(m=MODEL, **query)
    assert said in visit.words
    assert visit.at.session_state["story"] == Place()


def test_a_chapter_is_opened_on_its_page() -> None:
    visit = Visit(m=MODEL, r="[]", s="guess").click("story-open")
    assert visit.at.session_state["focus"] == "prune_weights"
    assert json.loads(visit.link["t"]) == [["prune_weights", {"sparsity": chapters.BROKEN}]]
    assert len(visit.recipe) == 0  # nothing was kept
    visit = Visit(m=MODEL, r="[]", s="quantize", p="1").click("story-open")
    assert visit.at.session_state["focus"] == "quantize"
    assert visit.recipe == technique.complete(stories.rounded()) == visit.view
    assert visit.click("undo").recipe.key == "[]"


def test_a_model_without_a_story_offers_the_one_that_has_it() -> None:
    visit = Visit(m=SMALL, r="[]", p="1")
    assert "A guided story is told on LeNet-300-100" in visit.words
    assert '<table class="waterfall"' not in visit.html
    assert 'class="tiles"' in visit.html
    visit.click("story-model")
    assert visit.link["m"] == MODEL
    assert '<table class="waterfall"' in visit.html


def test_every_step_names_the_chapter_that_tells_it() -> None:
    assert set(SHOWN.values()) <= set(CHAPTERS)
    assert PLAIN in SHOWN
    assert list(chapters.TITLES) == list(CHAPTERS)
