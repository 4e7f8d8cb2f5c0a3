"""A line that takes 300 ms each way, and a browser whose clock is slow or fast: no edit is lost or undone."""

from __future__ import annotations

import pytest
from browsing import PRUNE, SMALL, Tab, exact, move

pytestmark = pytest.mark.browser
KEY = "prune_weights-sparsity"

# Every message of the websocket and every question to /live is 300 ms late, on the true clock.
# All that pages ask of a clock runs TIMES as fast.
LINE = """(() => {
  const later = window.setTimeout.bind(window), TIMES = %s, LATE = 300
  for (const name of ['setTimeout', 'setInterval']) {
    const own = window[name]
    window[name] = (f, ms = 0, ...rest) => own(f, ms / TIMES, ...rest)
  }
  const now = performance.now.bind(performance), date = Date.now
  performance.now = () => now() * TIMES
  Date.now = () => Math.round(date() * TIMES)
  window.WebSocket = class extends WebSocket {
    send(said) { later(() => this.readyState === 1 && super.send(said), LATE) }
    late(hear) { return event => later(() => hear.call(this, event), LATE) }
    set onmessage(hear) { super.onmessage = this.late(hear) }
    addEventListener(kind, hear, ...rest) {
      super.addEventListener(kind, kind === 'message' ? this.late(hear) : hear, ...rest)
    }
  }
  const send = XMLHttpRequest.prototype.send
  XMLHttpRequest.prototype.send = function (...what) { later(() => send.apply(this, what), LATE) }
})()"""


@pytest.fixture(params=[0.1, 10], ids=lambda times: f"clock {times}x")
def slow(tab: Tab, request: pytest.FixtureRequest) -> Tab:
    tab.page.add_init_script(LINE % request.param)
    return tab


def linked(tab: Tab) -> float:
    """The sparsity in the link."""
    ((name, settings),) = tab.recipe
    assert name == "prune_weights"
    assert set(settings) <= {"sparsity"}
    return settings.get("sparsity", 0.9)


def assert_settled(tab: Tab) -> float:
    """Slider, field, link and tile say one value; it is returned."""
    tab.heard()
    value = exact(tab, KEY)
    assert linked(tab) == value
    assert round(float(tab.tiles["sparsity"]), 3) == value
    assert tab.control(KEY).locator("[type=range]").get_attribute("aria-valuetext") == f"{100 * value:.4g} %"
    return value


def handle(tab: Tab) -> tuple[float, float, float]:
    """Where the slider begins, how wide it is, and its middle line, in pixels."""
    box = tab.control(KEY).locator("[type=range]").bounding_box()
    return box["x"], box["width"], box["y"] + box["height"] / 2


def test_no_edit_is_lost_on_a_slow_line(slow: Tab) -> None:
    slow.open("prune", SMALL, PRUNE)
    slider = slow.control(KEY).locator("[type=range]")
    start = int(slider.input_value())
    slider.focus()
    for _ in range(60):
        slow.page.keyboard.press("ArrowLeft")
        slow.page.wait_for_timeout(50)
    assert int(slider.input_value()) == start - 60, "while answers are still on their way"
    after_keys = assert_settled(slow)
    assert int(slider.input_value()) == start - 60

    # Reset is pressed, and a drag begins before its answer is here: the hand has the last word.
    left, width, middle = handle(slow)
    slow.key("reset").locator("button").first.click()
    slow.key("reset-original").locator("button").first.click()
    slow.page.mouse.move(left + width / 2, middle)
    slow.page.mouse.down()
    for step in range(20):
        slow.page.mouse.move(left + width * (0.5 + step / 100), middle)
        slow.page.wait_for_timeout(50)
    held = exact(slow, KEY)
    slow.page.mouse.up()
    assert assert_settled(slow) == held != after_keys

    for turn in ("back", "forward"):
        before = slow.page.url
        slow.page.evaluate(f"history.{turn}()")
        slow.until(lambda before=before: slow.page.url != before)
        slow.until(lambda: exact(slow, KEY) == linked(slow))
        assert assert_settled(slow) == linked(slow)
    assert linked(slow) == held


def test_a_drag_while_a_job_reports_and_another_tab_moves(slow: Tab) -> None:
    slow.open("prune", SMALL, PRUNE)
    other = Tab(slow.page.context.new_page(), slow.url).open("prune", SMALL, PRUNE)
    slow.open_fold("sensitivity")
    slow.key("scan-prune_weights").locator("button").first.click()
    left, width, middle = handle(slow)
    slow.page.mouse.move(left + width / 2, middle)
    slow.page.mouse.down()
    for step in range(20):
        slow.page.mouse.move(left + width * (0.5 - step / 100), middle)
        slow.page.wait_for_timeout(50)
        if step == 10:
            move(other, KEY, 3)
    held = exact(slow, KEY)
    slow.page.mouse.up()
    assert assert_settled(slow) == held
    assert assert_settled(other) == 0.77
    other.assert_well()
