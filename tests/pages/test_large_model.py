"""A user's model of 11 million weights: nothing is refused for its size, jobs bring what takes long."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from driving import report_edits
from streamlit.testing.v1 import AppTest

from engine.data import user
from engine.figures import count, measure
from engine.file import packfile
from engine.jobs import recipes
from engine.net import sources
from engine.recipe import technique
from engine.types import Bundle, Recipe
from pages.parts import cached, jobs, menu

ROOT = Path(__file__).resolve().parent.parent.parent
MODEL, DATA = "bench.resnet:model", "bench.resnet:data"
PRUNED = technique.complete(Recipe.from_key('[["prune_weights",{"sparsity":0.5}]]')).key
HALVED = technique.complete(Recipe.from_key('[["prune_filters",{"removed":0.5}]]')).key
CACHES = (cached.given, cached.original, cached.is_large, cached.seen, cached.images, cached.states._from_job)
PAGES = tuple(entry.name for entry in menu.of_files())
pytestmark = pytest.mark.usefixtures("framed")


@pytest.fixture(scope="module", autouse=True)
def named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The model is named, as a command line does it, in a home of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLIMSCOPE_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv(user.VARIABLE, "")
        patch.setattr(sys, "path", list(sys.path))
        patch.chdir(ROOT)
        user.name(MODEL, DATA)
        _forget()
        yield f"user-{sources.load_user().fingerprint}"
        jobs.manager().close()
        _forget()
        sources._nets.clear()
        user.forget()


def _forget() -> None:
    for memory in CACHES:
        memory.clear()
    jobs.manager.clear()


def opened(page: str, recipe: str = "[]") -> AppTest:
    at = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    at.query_params["r"] = recipe
    return run(at.switch_page(f"pages/{page}.py"))


def run(at: AppTest) -> AppTest:
    at.run()
    assert [f"{e.message}\n{''.join(e.stack_trace)}" for e in at.exception] == []
    return at


def when_done(at: AppTest) -> AppTest:
    """The page after all its jobs."""
    owner, end = str(at.session_state["owner"]), time.monotonic() + 300
    while any(job.open for job in jobs.manager().list(owner)) and time.monotonic() < end:
        time.sleep(0.05)
    assert {job.state for job in jobs.manager().list(owner)} <= {"done", "replaced"}
    return run(at)


def html_of(at: AppTest) -> str:
    return "\n".join(part.proto.body for part in at.html)


def words(at: AppTest) -> str:
    return "\n".join(each.value for kind in (at.info, at.error, at.warning, at.caption) for each in kind)


def tiles(at: AppTest) -> dict[str, float]:
    """The figures of the header that are shown and not pending."""
    pattern = r'data-figure="([^"]*)" data-value="([^"]*)" aria-busy="false"'
    header = next(body for body in html_of(at).split("\n") if body.startswith('<div class="tiles"'))
    return {name: float(value) for name, value in re.findall(pattern, header)}


def after(recipe: str, named: str) -> Bundle:
    found = recipes.after(named, Recipe.from_key(recipe), sources.task(sources.load_user().arch))
    assert not isinstance(found, recipes.Missing)
    return found[0]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_and_refuses_nothing_for_its_size(
    page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "ensure", lambda *wanted, **more: None)  # other tests would wait for these
    at = opened(page)
    assert "known architecture" not in html_of(at) + words(at)


def test_a_moved_slider_ends_in_measured_tiles(named: str) -> None:
    at = opened("prune", PRUNED)
    assert 'aria-busy="true"' in html_of(at)  # pending, not refused
    report_edits(at, "prune_weights", {"sparsity": 0.6})
    at = when_done(run(at))
    tried = at.session_state["work"].trials[named, "prune_weights"].step
    whole = after(Recipe((tried,)).key, named)
    sample = sources.data(whole.origin.arch).test
    assert tiles(at) == {
        "accuracy": measure.accuracy(whole, sample).value,
        "file size": len(packfile.pack(whole)),
        "sparsity": count.sparsity(whole).value,
        "parameters": count.parameters(whole).value,
    }
    assert count.sparsity(whole).value == pytest.approx(0.6, abs=1e-6)
    at.button("keep-prune_weights").click()
    run(at)
    run(at.switch_page("pages/overview.py"))
    assert "Being measured" not in words(at)


@pytest.mark.parametrize("tab", ["What changed", "Ship it"])
def test_every_tab_below_the_pictures_opens(tab: str) -> None:
    at = opened("prune", PRUNED)
    at = when_done(at)
    at.session_state["footer"] = tab
    at = run(at)
    if tab == "Ship it":
        at.button("measure").click()
        at = when_done(run(at))
        assert html_of(at).count('data-figure="latency"') >= 4
        assert "Huffman" in html_of(when_done(at))
    assert "known architecture" not in html_of(at) + words(at)


def test_what_acts_on_the_model_as_a_whole_is_a_job(named: str) -> None:
    at = opened("filters", HALVED)
    assert "works on the whole model" in "".join(each.value for each in at.markdown)
    at = when_done(at)
    whole = after(HALVED, named)
    assert tiles(at)["parameters"] == count.parameters(whole).value < 11e6
    assert "Filters, smallest first" in "".join(each.value for each in at.subheader)
