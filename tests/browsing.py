"""A person at a browser: opens pages, moves sliders, gives files, and reads what is on the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from pages.parts import menu

MODEL, SMALL = "lenet-300-100", "mlp-32"
STILL = "[data-testid=stApp][data-test-connection-state=CONNECTED][data-test-script-state=notRunning]"
WINDOW = {"width": 1280, "height": 900}
# What is animated without an end is drawn anew sixty times a second: on a processor, a third of all work.
CALM = """(() => {
    const style = document.createElement('style')
    style.textContent = `*, *::before, *::after {
        animation-duration: 0s !important; animation-iteration-count: 1 !important
    }`
    const add = () => document.documentElement ? document.documentElement.append(style) : setTimeout(add)
    add()
})()"""
PATIENCE = 180_000  # milliseconds: a limit, never a result; jobs come after all that asks for the processor
# Whether the server has heard of all that was edited, and the page shows what it says.
HEARD = """() => Object.values(window.slimscopePanels).every(panel => !Object.keys(panel.set).length)
    && window.slimscopeStage.server === window.slimscopeStage.key"""
VALUES = "() => Object.fromEntries([...document.querySelector('.tiles')?.querySelectorAll('.tile') ?? []]\
.map(t => [t.dataset.figure, t.dataset.value]))"
PRUNE = '[["prune_weights",{"sparsity":0.8}]]'


class Tab:
    """One tab of one visitor: goes to pages, waits until they are drawn, reads the header."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.wrong: list[str] = []
        page.set_default_timeout(PATIENCE)
        page.on("console", self._heard)
        page.on("pageerror", lambda error: self.wrong.append(f"page error: {error}"))

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.wrong.append(f"{message.text} ({message.location.get('url')})")

    def open(self, page: str, model: str = MODEL, recipe: str | None = None) -> Tab:
        query = "" if recipe is None else f"?m={model}&r={quote(recipe)}"
        self.page.goto(f"{self.url}/{'' if page == 'overview' else page}{query}")
        return self.drawn()

    def drawn(self) -> Tab:
        """Wait until the page is at rest: the script is over and no figure is being worked out."""
        self.page.wait_for_selector(".tiles", state="attached")
        self.page.wait_for_selector(STILL, state="attached")
        self.page.wait_for_function("() => !document.querySelector('[aria-busy=true]')")
        return self

    def go(self, entry: menu.Entry) -> Tab:
        """To another page by its line of the menu: what is read next is that page's."""
        self.page.get_by_test_id("stSidebarNav").get_by_role("link", name=entry.title, exact=True).click()
        path = f"/{'' if entry.name == 'overview' else entry.name}"
        self.until(lambda: urlsplit(self.page.url).path == path)
        return self.drawn()

    def offered(self) -> Any:
        """The lines of the list of models, open. A run that ends under the press closes it again."""
        lines = self.page.locator("[data-testid=stSelectboxVirtualDropdown] [role=option]")

        def is_open() -> bool:
            if not lines.count():
                self.key("pick").locator("input").click()
                self.page.wait_for_timeout(2000)
            return bool(lines.count())

        self.until(is_open)
        return lines

    def heard(self) -> Tab:
        """Wait until the server has heard of every edit and the page shows what it says of them."""
        self.page.wait_for_function(HEARD)
        return self.drawn()

    @property
    def tiles(self) -> dict[str, str]:
        return self.page.evaluate(VALUES)

    @property
    def recipe(self) -> list[Any]:
        """What the page tries, as the link says it; the recipe where it tries nothing."""
        return self.linked("t") or self.linked("r")

    @property
    def kept(self) -> list[Any]:
        return self.linked("r")

    def linked(self, name: str) -> list[Any]:
        return json.loads(parse_qs(urlsplit(self.page.url).query).get(name, ["[]"])[0])

    def open_fold(self, name: str) -> None:
        """Open a part of the page that is worked out when it is opened."""
        self.key(f"fold-{name}").locator("summary").click()

    def key(self, name: str) -> Any:
        """The part of the page with this widget key."""
        return self.page.locator(f".st-key-{name}")

    def control(self, name: str) -> Any:
        """A control of a technique's panel: technique-setting."""
        return self.page.locator(f"[data-control={name}]")

    def until(self, true: Callable[[], bool], seen: Callable[[], object] = lambda: None) -> None:
        """Wait for something on the page; the time is a limit, and where it ends, what is seen is told."""
        for _ in range(PATIENCE // 100):
            if true():
                return
            self.page.wait_for_timeout(100)
        text = self.page.inner_text("[data-testid=stMain]")[:1500]
        pytest.fail(f"waited in vain, {seen()}; the page says: {text}")

    def assert_well(self) -> None:
        """No exception box and nothing on the console."""
        assert [box.inner_text() for box in self.page.locator("[data-testid=stException]").all()] == []
        assert self.wrong == []


def window(browser: Any) -> Any:
    """A browser's context without cookie, history or any file of the app; nothing in it is animated."""
    context = browser.new_context(viewport=WINDOW)
    context.add_init_script(CALM)
    return context


def visitor(browser: Any, url: str) -> Tab:
    """A browser of one's own."""
    return Tab(window(browser).new_page(), url)


@contextmanager
def newcomer(seat: Any, url: str) -> Iterator[Tab]:
    """Whom the server has not met, where others sat before: nothing of a visit is left after it.

    All are windows of one page, thus of one process, which loads and compiles the app's code once: that takes
    the processor three times as long as all that a page does. Nothing wrong may have happened on the page.
    """
    opener, *_ = seat.pages
    if not opener.url.startswith("http"):
        opener.goto(f"{url}/ready")
    with seat.expect_page() as opened:
        opener.evaluate("() => { window.open('about:blank') }")
    one = Tab(opened.value, url)
    try:
        yield one
        one.assert_well()
    finally:
        with suppress(Exception):  # a page that never came has no storage
            one.page.evaluate("() => localStorage.clear()")
        for page in seat.pages:
            if page is not opener:
                page.close()
        seat.clear_cookies()


def move(tab: Tab, key: str, steps: int = 4, press: str = "ArrowLeft") -> None:
    slider = tab.control(key).locator("input[type=range]")
    slider.focus()
    for _ in range(steps):
        slider.press(press)


def exact(tab: Tab, key: str) -> float:
    """The number in a slider's field; per cent as a share."""
    text = tab.control(key).locator(".exact").input_value()
    return round(float(text.removesuffix(" %")) / 100, 10) if text.endswith("%") else float(text)


def sweep(tab: Tab, count: int) -> None:
    if not tab.key("run-sweep").count():
        tab.open_fold("vary")
    box = tab.key("count-prune_weights-sparsity").locator("input")
    box.fill(str(count))
    box.press("Enter")
    run = tab.key("run-sweep").locator("button")
    tab.until(lambda: run.inner_text().strip().endswith(f"Run {count} recipes"))
    run.click()


def points(tab: Tab) -> int:
    """How many recipes the chart shows."""
    return tab.page.evaluate(
        """() => { const plot = document.querySelector('.st-key-tradeoff .js-plotly-plot')
        return plot ? Math.max(...plot.data.map(t => (t.customdata || []).length)) : 0 }"""
    )


def give(tab: Tab, path: Path) -> None:
    tab.page.locator("[data-testid=stSidebar] summary:has-text('Your own weights')").click()
    tab.page.locator("[data-testid=stSidebar] input[type=file]").set_input_files(path)
