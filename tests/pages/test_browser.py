"""A person's clicks in real Chromium: cold deep links, sliders, models, links, sweeps, files, comparing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from browsing import MODEL, PRUNE, SMALL, STILL, Tab, exact, give, move, points, sweep, visitor
from conftest import Server
from safetensors.torch import save_file

import engine.techniques  # noqa: F401  (fills the registry)
from engine.net import zoo
from pages.parts import menu

pytestmark = pytest.mark.browser

WATCHING = "() => window.slimscopePlaces?.watching"  # places.js is here: a page is at rest before it, too
PAGES = tuple(entry.name for entry in menu.of_files())
# ---------------------------------------------------------------- getting there


@pytest.mark.parametrize("page", ["prune", "tradeoffs"])  # with a workbench and without
def test_a_deep_link_opens_its_page_on_a_server_that_nobody_has_visited(
    page: str, browser: Any, cold_server: Server
) -> None:
    one = visitor(browser, cold_server.url).open(page)
    title = one.page.locator("h2").first.inner_text()
    assert title == next(entry.title for entry in menu.of_files() if entry.name == page)
    assert one.page.locator("[data-testid=stSidebarNavLink]").count() == len(menu.entries())
    assert one.key("pick").count() == 1
    assert float(one.tiles["accuracy"]) > 0.9
    one.assert_well()
    one.page.context.close()
    assert "Traceback" not in cold_server.log.read_text()


def test_a_page_that_speaks_while_another_is_on_its_way_does_not_keep_it_away(tab: Tab) -> None:
    tab.open("prune", SMALL, "[]").page.wait_for_function(
        f"{WATCHING} && window.slimscopeStage?.settle && window.slimscopeCurve?.again"
    )
    tab.page.evaluate(
        """() => {
            document.querySelector('[data-testid=stSidebarNavLink][href*="/quantize"]').click()
            slimscopeStage.settle()
            slimscopeCurve.again(0)
        }"""
    )
    tab.until(lambda: urlsplit(tab.page.url).path == "/quantize")
    tab.drawn().assert_well()
    assert tab.page.evaluate("() => slimscopePlaces.leaving()") is False


# ---------------------------------------------------------------- moving things

SLIDERS = (
    ("prune", "prune_weights-threshold", '[["prune_weights",{"by":"threshold"}]]'),
    ("quantize", "quantize-group", '[["quantize",{"bits":4,"granularity":"group"}]]'),
    ("quantize", "quantize-activation_bits", '[["quantize",{"activations":"dynamic"}]]'),
    ("low_rank", "low_rank-rank", '[["low_rank",{"by":"rank","rank":12}]]'),
)  # some that are seen by choice; a page's main one is moved by the tour


@pytest.mark.parametrize(("page", "key", "recipe"), SLIDERS, ids=[key for _, key, _ in SLIDERS])
def test_a_slider_under_the_arrow_keys_moves_link_and_numbers(
    page: str, key: str, recipe: str, tab: Tab
) -> None:
    tab.open(page, SMALL, recipe)
    before, link = tab.tiles, tab.recipe
    move(tab, key)
    tab.until(lambda: tab.tiles != before)
    tab.until(lambda: tab.recipe != link)
    assert key.rpartition("-")[2] in tab.drawn().recipe[0][1]


FAST = (
    ("prune", "prune_weights-sparsity", PRUNE, 0.74),
    ("quantize", "quantize-bits", '[["quantize",{"bits":12}]]', 6),
)


@pytest.mark.parametrize(
    ("page", "key", "recipe", "last", "pause"),
    [(*FAST[0], 0), (*FAST[1], 30), (*FAST[0], 150)],
    ids=["sparsity-0", "bits-30", "sparsity-150"],
)
def test_keys_pressed_faster_than_answers_come_are_not_undone(
    page: str, key: str, recipe: str, last: float, pause: int, tab: Tab
) -> None:
    tab.open(page, SMALL, recipe)
    slider, name = tab.control(key).locator("input[type=range]"), key.rpartition("-")[2]
    start = int(slider.input_value())
    slider.focus()
    for _ in range(6):
        tab.page.keyboard.press("ArrowLeft", delay=0)
        tab.page.wait_for_timeout(pause)
    tab.until(lambda: tab.recipe[0][1].get(name) == last)
    tab.drawn().page.wait_for_timeout(500)
    assert tab.recipe[0][1][name] == last
    assert int(slider.input_value()) == start - 6
    assert exact(tab, key) == last


def test_each_slider_of_a_training_changes_the_recipe(tab: Tab) -> None:
    tab.open("distill", MODEL, "[]")
    bars, alike = tab.page.inner_text(".bars"), tab.page.locator(".alike").inner_text()
    for key in ("temperature", "alpha", "epochs", "learning_rate", "subset"):
        assert not tab.recipe or key not in tab.recipe[0][1]
        move(tab, f"distill-{key}", 2)
        tab.until(lambda key=key: bool(tab.recipe) and key in tab.recipe[0][1])
        if key == "temperature":
            tab.until(lambda: tab.page.inner_text(".bars") != bars)
            tab.until(lambda: tab.page.locator(".alike").inner_text() != alike)


def test_the_band_over_the_histogram_follows_the_slider(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    band = tab.key("weights").locator("svg.marks rect")
    width = float(band.get_attribute("width"))
    plot = tab.key("weights").locator(".js-plotly-plot").element_handle()
    move(tab, "prune_weights-sparsity", 10)
    tab.until(lambda: float(band.get_attribute("width")) < width - 1)
    assert plot.evaluate("plot => plot.isConnected"), "the chart itself was drawn once"


def thumb(tab: Tab, key: str) -> tuple[float, float]:
    """Where a slider is taken hold of."""
    slider = tab.control(key).locator("input[type=range]")
    box, share = slider.bounding_box(), int(slider.input_value()) / int(slider.get_attribute("max"))
    return box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2


def test_marks_and_map_answer_at_once_and_the_server_confirms(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    label = tab.key("weights").locator("svg.marks text")
    held: list[Any] = []  # questions to the server that it does not get to hear yet
    is_open: list[bool] = []
    tab.page.route("**/live", lambda route: route.continue_() if is_open else held.append(route))
    before = label.text_content()
    at, down = thumb(tab, "prune_weights-sparsity")
    tab.page.mouse.move(at, down)
    tab.page.mouse.down()
    tab.page.mouse.move(at - 30, down)
    tab.until(lambda: label.text_content().startswith("≈ "))
    guess = label.text_content()
    assert guess != before
    assert tab.page.locator("[data-live=map] canvas.now").count() == 1
    assert tab.page.locator(".tile[aria-busy=true]").count() == 4
    tab.until(lambda: bool(held))
    is_open.append(True)
    for route in held:
        route.continue_()
    tab.until(lambda: label.text_content() == guess.removeprefix("≈ "))
    assert tab.page.locator("[data-live=map] canvas").count() == 0
    tab.page.mouse.up()
    tab.drawn()


def test_the_dot_on_a_curve_of_channels_moves_at_once_and_the_server_confirms(tab: Tab) -> None:
    tab.open("channels", "lenet-5", '[["prune_channels",{"removed":0.5}]]')
    label = tab.key("path").locator("svg.marks text")
    assert label.text_content().startswith("10 of 20 channels: ")
    held: list[Any] = []
    is_open: list[bool] = []
    tab.page.route("**/live", lambda route: route.continue_() if is_open else held.append(route))
    move(tab, "prune_channels-removed", 5, "ArrowRight")
    tab.until(lambda: label.text_content() == "≈ 9 of 20 channels")
    is_open.append(True)
    for route in held:
        route.continue_()
    tab.until(lambda: label.text_content() == "9 of 20 channels: 4.73 % off")


HALVED = '[["prune_channels",{"removed":0.5}]]'
ERRORS = """() => ({label: document.querySelector('.st-key-path svg.marks text')?.textContent,
    table: document.querySelector('[data-live=layers]').innerText})"""


def kept_of(request: Any) -> list[float]:
    """The share of channels that a question from the page is about."""
    if "/live" not in request.url:
        return []
    recipe = json.loads(request.post_data).get("recipe")
    return [recipe[0][1]["removed"]] if recipe else []


KNOWN = """() => Promise.all([...window.slimscopeStage?.known ?? []].map(async ([question, answer]) =>
    (await answer).message && JSON.parse(question).recipe[0][1].removed))"""


def test_the_neighbours_of_a_slider_in_focus_are_known_before_it_moves(tab: Tab) -> None:
    tab.open("channels", "lenet-5", HALVED)
    asked: list[float] = []
    tab.page.on("request", lambda request: asked.extend(kept_of(request)))
    tab.control("prune_channels-removed").locator("input[type=range]").focus()
    tab.until(lambda: {0.51, 0.49} <= set(tab.page.evaluate(KNOWN)))
    times = asked.count(0.51)
    tab.page.route(re.compile("/live"), lambda route: None)  # from here on the server hears nothing
    tab.page.keyboard.press("ArrowRight")
    at_once = tab.page.evaluate(ERRORS)
    assert at_once["label"].startswith("10 of 20 channels: "), "exact, without the sign of a guess"
    tab.page.unroute_all()
    tab.until(lambda: tab.recipe[0][1] == {"removed": 0.51})
    assert tab.drawn().page.evaluate(ERRORS) == at_once
    assert asked.count(0.51) == times, "what is known is not asked for"


def test_a_slider_that_has_the_focus_before_the_rest_of_its_page_is_there_is_looked_around(tab: Tab) -> None:
    held: list[Any] = []
    is_open: list[bool] = []
    tab.page.route(
        re.compile("stage.*js"), lambda route: route.continue_() if is_open else held.append(route)
    )
    tab.page.goto(f"{tab.url}/channels?m=lenet-5&r={quote(HALVED)}")
    tab.control("prune_channels-removed").locator("input[type=range]").focus()
    tab.until(lambda: bool(held))
    is_open.append(True)
    for route in held:
        route.continue_()
    tab.drawn().until(lambda: {0.51, 0.49} <= set(tab.page.evaluate(KNOWN)))


class Slow:
    """Between a tab and its server: what the server says waits while `on` is set."""

    def __init__(self, tab: Tab) -> None:
        self.on = False
        self.waiting: list[tuple[Any, Any]] = []
        tab.page.route_web_socket(re.compile("_stcore/stream"), self._between)

    def _between(self, browser: Any) -> None:
        browser.connect_to_server().on_message(lambda said: self._hear(browser, said))

    def _hear(self, browser: Any, said: Any) -> None:
        if self.on:
            self.waiting.append((browser, said))
        else:
            browser.send(said)

    def has_said(self, word: bytes) -> bool:
        return any(word in said for _, said in self.waiting)

    def release(self, count: int | None = None) -> None:
        """Let the first `count` through, or all: then nothing waits any more."""
        self.on = count is not None
        first, self.waiting = self.waiting[:count], self.waiting[len(self.waiting[:count]) :]
        for browser, said in first:
            browser.send(said)


def at_half(tab: Tab) -> None:
    """Channels of LeNet-5 at a half, come there by the slider, with all images measured and no job left."""
    tab.open("channels", "lenet-5", '[["prune_channels",{"removed":0.45}]]')
    move(tab, "prune_channels-removed", 5, "ArrowRight")
    tab.until(lambda: tab.recipe == [["prune_channels", {}]])
    tab.until(lambda: "n = 10,000" in tab.page.inner_text(".tiles"))
    tab.heard()
    tab.drawn()


def test_what_the_server_says_late_of_before_a_move_is_not_shown(tab: Tab) -> None:
    slow = Slow(tab)
    at_half(tab)
    slow.on = True
    tab.control("prune_channels-selection").locator("select").select_option("largest")
    tab.until(lambda: slow.has_said(b"slimscope.panel"))  # the whole page is drawn again
    before = len(slow.waiting)
    move(tab, "prune_channels-removed", 5, "ArrowRight")
    tab.until(lambda: "\t2,250" in tab.page.evaluate(ERRORS)["table"])
    now = tab.page.evaluate(ERRORS)
    slow.release(before)
    tab.page.wait_for_timeout(1000)
    assert tab.page.evaluate(ERRORS) == now
    slow.release()
    tab.until(lambda: tab.recipe[0][1] == {"removed": 0.55, "selection": "largest"})
    assert tab.drawn().page.evaluate(ERRORS) == now


def test_a_stop_there_and_back_leaves_the_link_where_the_slider_is(tab: Tab) -> None:
    for pause in (30, 45, 60):
        tab.open("low_rank", SMALL, '[["low_rank",{"by":"rank","rank":12}]]')
        tab.control("low_rank-rank").locator("input[type=range]").focus()
        tab.page.wait_for_timeout(500)
        tab.page.keyboard.press("ArrowRight")
        tab.page.wait_for_timeout(pause)
        tab.page.keyboard.press("ArrowLeft")
        tab.heard()
        assert tab.drawn().recipe[0][1]["rank"] == 12
        assert exact(tab, "low_rank-rank") == 12


def test_a_slider_of_a_step_that_is_off_switches_it_on(tab: Tab) -> None:
    tab.open("prune", SMALL, '[["prune_weights",{"sparsity":0.9},false],["quantize",{"bits":5}]]')
    shown: list[str] = []
    tab.page.expose_function("seen", lambda value: shown.append(value))
    tab.page.evaluate("""() => {
      const row = document.querySelector(".st-key-tiles")
      const watch = new MutationObserver(() => {
        const tile = row.querySelector("[data-figure=sparsity]")
        if (!tile.matches("[aria-busy=true]")) seen(tile.dataset.value)
      })
      const begin = () => watch.observe(row, {subtree: true, childList: true, attributes: true})
      addEventListener("keydown", begin, {capture: true, once: true})
    }""")
    move(tab, "prune_weights-sparsity", 1)
    tab.until(lambda: tab.recipe[0] == ["prune_weights", {"sparsity": 0.89}])
    tab.drawn().page.wait_for_timeout(2500)
    assert {round(float(value), 2) for value in shown} == {0.89}, (
        "no figure of another recipe, not for a moment"
    )


def test_a_figure_that_comes_after_the_next_move_is_not_shown(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    late: list[Any] = []
    tab.page.route("**/live/measured", lambda route: late.append(route))
    move(tab, "prune_weights-sparsity", 1)
    tab.until(lambda: bool(late))
    tab.page.route(re.compile("/live"), lambda route: None)  # from here on the server hears nothing
    tab.page.keyboard.press("PageUp")
    tab.page.wait_for_selector("[data-tile='Zero weights'][aria-busy=true]")
    with tab.page.expect_response("**/live/measured"):
        late[0].continue_()
    tab.page.wait_for_timeout(100)
    assert tab.page.locator(".st-key-tiles [data-tile=Accuracy][aria-busy=true]").count() == 1


def test_a_scan_tells_what_each_layer_bears_and_a_button_sets_it(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    tab.open_fold("sensitivity")
    tab.key("scan-prune_weights").locator("button").first.click()
    give = tab.key("allocate-prune_weights").locator("button").first
    tab.until(lambda: give.count() == 1)
    before = tab.drawn().tiles
    give.click()
    tab.until(lambda: "per_layer" in tab.recipe[0][1])
    tab.until(lambda: tab.drawn().tiles["sparsity"] != before["sparsity"])
    tab.until(lambda: give.is_disabled())
    tab.key("undo").locator("button").first.click()
    tab.until(lambda: tab.recipe == json.loads(PRUNE))


def test_a_click_on_a_filter_shows_what_must_go_with_it(tab: Tab) -> None:
    tab.open("filters", "lenet-5-small", '[["prune_filters",{"removed":0.25}]]')
    number = tab.key("filter-conv1").locator("input")
    filters = tab.page.locator(".coupled .filters button")
    filters.nth(2).click()
    picked = filters.nth(2).get_attribute("title").split(",")[0].removeprefix("filter ")
    tab.until(lambda: number.input_value() == picked)
    assert tab.page.locator(".coupled .part").all_text_contents() == [
        "conv1: filter, bias, 26 numbers",
        "conv2: input slice, 200 numbers",
    ]
    assert tab.page.locator(".coupled svg path").count() == 2
    filters.nth(2).press("ArrowRight")
    other = filters.nth(3).get_attribute("title").split(",")[0].removeprefix("filter ")
    tab.until(lambda: number.input_value() == other)
    number.fill(picked)
    number.press("Enter")
    tab.until(lambda: filters.nth(2).get_attribute("aria-checked") == "true")
    tab.page.get_by_text(f"226 numbers in 3 tensors go with filter {picked}").wait_for()
    filters.nth(2).click()  # it is picked already
    number.fill(other)
    number.press("Enter")
    tab.until(lambda: filters.nth(3).get_attribute("aria-checked") == "true")
    tab.drawn()


def test_a_filter_taken_out_by_hand_goes_and_comes_back(tab: Tab) -> None:
    before = tab.open("filters", "lenet-5-small", '[["prune_filters",{"removed":0.25}]]').tiles
    button = tab.page.get_by_role("button", name="Take it out")
    button.click()
    tab.until(lambda: "by_hand" in tab.recipe[0][1])
    tab.until(lambda: tab.drawn().tiles["parameters"] != before["parameters"])
    move(tab, "prune_filters-removed", 5)
    tab.until(lambda: "removed" in tab.recipe[0][1] and tab.recipe[0][1]["removed"] < 0.25)
    tab.drawn()
    tab.page.get_by_role("button", name="Put it back").click()
    tab.until(lambda: "by_hand" not in tab.recipe[0][1])
    tab.key("undo").locator("button").first.click()
    tab.until(lambda: "by_hand" in tab.recipe[0][1])
    tab.until(lambda: tab.page.get_by_role("button", name="Put it back").count() == 1)


def test_what_can_be_taken_away_is_downloaded(tab: Tab, tmp_path: Path) -> None:
    tab.open("prune", SMALL, PRUNE)
    tab.page.get_by_role("tab", name="Ship it").click()
    for name in ("Packed file (.slim)", "Dense weights (.safetensors)", "Script (.py)"):
        with tab.page.expect_download() as download:
            tab.page.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        assert path.suffix in name
        assert path.stat().st_size > 500


@pytest.mark.parametrize("status", [403, 404])  # it refuses to answer; there is nobody
def test_a_page_without_the_short_way_is_answered_by_its_own_run(tab: Tab, status: int) -> None:
    tab.page.route(re.compile("/live"), lambda route: route.fulfill(status=status))
    before = tab.open("prune", SMALL, PRUNE).tiles
    move(tab, "prune_weights-sparsity", 1)
    tab.until(lambda: tab.tiles["accuracy"] != before["accuracy"])
    tab.until(lambda: tab.drawn().tiles["sparsity"] != before["sparsity"])
    tab.wrong = [said for said in tab.wrong if f"status of {status}" not in said]


def test_each_model_keeps_its_own_recipe(tab: Tab) -> None:
    tab.open("quantize", MODEL, PRUNE)
    for name, parameters in ((SMALL, 784 * 32 + 32 + 330), (MODEL, 266_610)):
        tab.offered().filter(has_text=zoo.entry(name).title).first.click()
        tab.until(lambda name=name: f"m={name}&" in tab.page.url)
        tab.until(lambda parameters=parameters: tab.drawn().tiles["parameters"] == str(parameters))
        assert (tab.kept == json.loads(PRUNE)) is (name == MODEL)


def test_undo_takes_back_a_move(tab: Tab) -> None:
    before = tab.open("prune", SMALL, PRUNE).tiles
    move(tab, "prune_weights-sparsity", 1)
    tab.until(lambda: tab.tiles != before)
    tab.key("undo").locator("button").first.click()
    tab.until(lambda: tab.tiles == before)
    assert tab.recipe == json.loads(PRUNE)


def test_back_and_forward_go_through_the_links_and_the_controls_follow(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    for sparsity in (0.79, 0.78):
        move(tab, "prune_weights-sparsity", 1)
        tab.until(lambda sparsity=sparsity: tab.recipe[0][1] == {"sparsity": sparsity})
        tab.heard()
    for turn, sparsity in (("back", 0.79), ("back", 0.8), ("forward", 0.79)):
        tab.page.evaluate(f"history.{turn}()")
        tab.until(lambda sparsity=sparsity: exact(tab, "prune_weights-sparsity") == sparsity)
        tab.until(lambda sparsity=sparsity: round(float(tab.drawn().tiles["sparsity"]), 2) == sparsity)
        assert tab.recipe[0][1] == {"sparsity": sparsity}


@pytest.mark.parametrize("first", ["prune", "tradeoffs"])
def test_one_step_back_from_another_page_is_the_page_before_with_its_link(first: str, tab: Tab) -> None:
    others = [
        next(entry for entry in menu.entries() if entry.name == name) for name in ("quantize", "low_rank")
    ]
    tab.open(first, SMALL, PRUNE).page.wait_for_function(WATCHING)
    heading = tab.page.locator("h2").first.inner_text()
    places = [tab.page.url, *(tab.go(entry).page.url for entry in others)]
    for place in places[1::-1]:
        tab.page.evaluate("history.back()")
        tab.until(lambda place=place: tab.page.url == place)
        tab.drawn()
    tab.until(lambda: tab.page.locator("h2").first.inner_text() == heading)
    assert tab.drawn().kept == json.loads(PRUNE)


def test_an_address_without_a_link_is_no_place_to_go_back_to(tab: Tab) -> None:
    """Streamlit may write a new page's address before its link."""
    tab.open("prune", SMALL, PRUNE).page.wait_for_function(WATCHING)
    places = tab.page.evaluate(
        """() => {
            const link = location.search, before = history.length
            history.pushState(null, "", "/quantize")
            history.pushState(null, "", "/quantize" + link)
            return [history.length - before, location.pathname + location.search === "/quantize" + link]
        }"""
    )
    assert places == [1, True]


def test_a_value_is_typed_in_the_unit_that_is_shown_and_a_double_click_sets_the_default(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    field = tab.control("prune_weights-sparsity").locator(".exact")
    field.fill("93.4")
    field.press("Enter")
    tab.until(lambda: tab.recipe[0][1] == {"sparsity": 0.934})
    field.fill("a lot")
    field.press("Enter")
    tab.until(lambda: field.input_value() == "93.4 %")
    slider = tab.control("prune_weights-sparsity").locator("input[type=range]")
    assert slider.get_attribute("aria-valuetext") == "93.4 %"
    slider.dblclick()
    tab.until(lambda: tab.recipe == [["prune_weights", {}]])
    assert exact(tab, "prune_weights-sparsity") == 0.9


def test_a_preset_and_a_choice_show_what_they_set(tab: Tab) -> None:
    tab.open("prune", SMALL, PRUNE)
    tab.page.locator("[data-preset=extreme]").first.click()
    tab.until(lambda: tab.recipe[0][1] == {"sparsity": 0.98})
    assert exact(tab, "prune_weights-sparsity") == 0.98
    tab.control("prune_weights-by").locator("select").select_option("threshold")
    tab.until(lambda: tab.control("prune_weights-threshold").is_visible())
    assert not tab.control("prune_weights-sparsity").is_visible()
    tab.until(lambda: tab.recipe[0][1] == {"by": "threshold", "sparsity": 0.98})


@pytest.mark.parametrize("pause", [0, 300])
def test_keep_right_after_a_move_keeps_what_the_slider_says(pause: int, tab: Tab) -> None:
    tab.open("prune", SMALL, '[["prune_weights",{"sparsity":0.98}]]')
    move(tab, "prune_weights-sparsity", 1)
    tab.until(lambda: tab.key("keep-prune_weights").locator("button").first.is_enabled())
    move(tab, "prune_weights-sparsity", 4)
    wanted = exact(tab, "prune_weights-sparsity")
    tab.page.wait_for_timeout(pause)
    tab.key("keep-prune_weights").locator("button").first.click()
    tab.until(lambda: tab.kept == [["prune_weights", {"sparsity": wanted}]])
    tab.heard()
    assert tab.drawn().kept == tab.recipe == [["prune_weights", {"sparsity": wanted}]]


def test_a_step_is_switched_off_from_its_menu(tab: Tab) -> None:
    before = tab.open("quantize", SMALL, '[["prune_weights",{"sparsity":0.8}],["quantize",{"bits":5}]]').tiles
    tab.key("step-0").locator("button").first.click()
    tab.key("step-0-toggle").locator("button").click()
    tab.until(lambda: tab.tiles != before)
    assert tab.drawn().tiles["sparsity"] != before["sparsity"]
    tab.until(lambda: tab.kept[0] == ["prune_weights", {"sparsity": 0.8}, False])


def test_holding_the_button_shows_the_original(tab: Tab) -> None:
    tab.open("overview", SMALL, "[]")
    original = tab.page.inner_text(".tile[data-figure=accuracy] .value")
    tab.open("prune", SMALL, '[["prune_weights",{"sparsity":0.95}]]')
    value = tab.page.locator(".tile[data-figure=accuracy] .value")
    compressed, button = value.inner_text(), tab.key("hold").locator("button")
    assert compressed != original
    button.scroll_into_view_if_needed()
    button.hover()
    tab.page.mouse.down()
    tab.until(lambda: value.inner_text() == original)
    tab.page.mouse.up()
    tab.until(lambda: value.inner_text() == compressed)
    button.focus()
    tab.page.keyboard.down("Space")
    tab.until(lambda: value.inner_text() == original)
    tab.page.keyboard.up("Space")
    tab.until(lambda: value.inner_text() == compressed)


# ---------------------------------------------------------------- links


def test_a_copied_link_shows_the_same_in_another_browser(tab: Tab, browser: Any) -> None:
    tab.open("quantize", SMALL, '[["prune_weights",{"sparsity":0.6}],["quantize",{"bits":6}]]')
    before = tab.tiles
    move(tab, "quantize-bits", 2)
    tab.until(lambda: tab.tiles != before)
    mine = tab.drawn().tiles
    other = visitor(browser, tab.url)
    other.page.goto(tab.page.url)
    assert other.drawn().tiles == mine
    assert (other.recipe, other.kept) == (tab.recipe, tab.kept)
    other.page.reload()
    assert other.drawn().tiles == mine
    other.assert_well()
    other.page.context.close()


def test_a_damaged_link_is_said_and_the_page_lives_on(tab: Tab) -> None:
    tab.open("prune", SMALL, '[["prune_weights",{"sparsity":0.')
    assert "could not be read" in tab.page.inner_text("[data-testid=stMain]")
    assert tab.kept == []
    before = tab.tiles
    move(tab, "prune_weights-sparsity", 1)
    tab.until(lambda: tab.tiles != before)


# ---------------------------------------------------------------- sweeps


def test_a_sweep_runs_to_its_end_and_only_its_owner_sees_it(tab: Tab, browser: Any) -> None:
    tab.open("tradeoffs", SMALL, PRUNE)
    sweep(tab, 3)
    tab.until(lambda: "CSV" in tab.page.inner_text("[data-testid=stMain]") and points(tab) >= 3)
    tab.until(lambda: tab.page.locator("button:has-text('Cancel')").count() == 0)
    with tab.page.expect_download() as download:
        tab.key("get-csv").locator("button").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 1 + 1 + 3, "a head, the original and three recipes"
    assert "accuracy" in lines[0]
    other = visitor(browser, tab.url).open("tradeoffs", SMALL, PRUNE)
    other.open_fold("vary")
    other.key("run-sweep").wait_for()
    assert "Nothing has been swept yet" in other.page.inner_text("[data-testid=stMain]")
    other.assert_well()
    other.page.context.close()


def test_a_sweep_survives_a_reload_and_is_cancelled(tab: Tab) -> None:
    tab.open("tradeoffs", "resnet-8", PRUNE)  # slow enough to be still at work after a reload
    sweep(tab, 40)
    cancel = tab.page.locator("[data-testid=stMain] button:has-text('Cancel')")
    cancel.first.wait_for()
    tab.until(lambda: points(tab) > 0)
    tab.page.reload()
    cancel.first.wait_for()
    cancel.first.click()
    tab.until(lambda: "was cancelled" in tab.page.inner_text("[data-testid=stMain]"))
    assert 0 < points(tab) < 41
    tab.page.wait_for_selector(STILL, state="attached")
    assert not tab.key("run-sweep").locator("button").is_disabled()


# ---------------------------------------------------------------- files


def test_own_weights_are_read_and_measured(tab: Tab, tmp_path: Path) -> None:
    before = tab.open("overview", SMALL, "[]").tiles
    path = tmp_path / "mine.safetensors"
    save_file({f"module.{name}": tensor for name, tensor in zoo.load(SMALL).state().items()}, path)
    give(tab, path)
    tab.until(lambda: "m=file-" in tab.page.url)
    tab.page.wait_for_selector(".st-key-proposal")
    assert tab.drawn().page.locator(".tile[data-figure=accuracy]").count() == 0
    tab.key("proposal-yes").locator("button").click()
    tab.page.wait_for_selector(".tile[data-figure=accuracy]")
    assert tab.drawn().tiles == before
    assert tab.recipe == []
    assert "d=mnist" in tab.page.url
    tab.page.reload()
    tab.page.wait_for_selector(".tile[data-figure=accuracy]")
    assert tab.drawn().tiles == before


def test_a_bad_file_is_refused_and_nothing_is_lost(tab: Tab, tmp_path: Path) -> None:
    tab.open("prune", SMALL, PRUNE)
    before, link = tab.tiles, tab.page.url
    path = tmp_path / "broken.safetensors"
    path.write_bytes(b"this is no file of weights")
    give(tab, path)
    tab.until(lambda: "broken.safetensors is damaged" in tab.page.inner_text("[data-testid=stSidebar]"))
    assert tab.drawn().tiles == before
    assert tab.page.url == link
