"""What a person waits for: the first picture of a visit, and the first accuracy after a slider was let go."""

from __future__ import annotations

import statistics
import time
from typing import Any

from bench.browser import PATIENCE, chromium, open_page, serving
from bench.moves import ROUNDS, Hand, link, p95
from engine.net import zoo

PICTURE = """(() => {
  const look = () => {
    if (document.querySelector(".js-plotly-plot .cartesianlayer .trace")) window.picture = performance.now()
    else requestAnimationFrame(look)
  }
  requestAnimationFrame(look)
})()"""

# When a tile last stopped being worked out, having been so after the key.
TILES = """() => {
  window.stands = {}
  addEventListener("keydown", e => { window.stands = {key: e.timeStamp, busy: {}} }, true)
  new MutationObserver(() => {
    const s = window.stands
    if (!s.key) return
    for (const found of document.querySelectorAll(".st-key-tiles [data-tile]")) {
      const name = found.dataset.tile
      if (found.getAttribute("aria-busy") === "true") { s.busy[name] = true; delete s[name] }
      else if (s.busy[name]) s[name] ??= performance.now()
    }
  }).observe(document.body, {subtree: true, childList: true, attributes: true})
}"""
STAND = "() => stands.Accuracy && stands['Compressed file'] && {...stands}"
NOTE = "document.querySelector('.st-key-tiles [data-tile=Accuracy] .note')?.firstChild.textContent"
WHOLE = f"() => {NOTE} && !{NOTE}.includes('follow')"  # no job is at work any more

HELLO, APP = "bench/hello.py", "pages/parts/serve.py"
COLD, WARM = 5, 15  # visits of each


def measure() -> list[dict[str, Any]]:
    with chromium() as browser:
        return [*pictures(browser), *accuracies(browser)]


# ---------------------------------------------------------------- the first picture


def pictures(browser: Any) -> list[dict[str, Any]]:
    """Until the first Plotly chart of the Prune page is in the page, over an app that only draws one."""
    cold: dict[str, list[float]] = {HELLO: [], APP: []}
    warm: dict[str, list[float]] = {HELLO: [], APP: []}
    for _ in range(COLD):
        for script in cold:
            start = time.time()
            with serving(script) as address:
                cold[script].append(1e3 * (_picture(browser, _page(script, address)) - start))
    with serving(HELLO) as hello, serving(APP) as app:
        for i in range(WARM + 1):
            for script, address in ((HELLO, hello), (APP, app)):
                start = time.time()
                taken = 1e3 * (_picture(browser, _page(script, address)) - start)
                if i:
                    warm[script].append(taken)
    what = "first picture (a Plotly chart of the Prune page)"
    hello_app = "imports torch and streamlit, draws one Plotly chart"
    return [
        _row(f"{what}, from the start of the server's process", hello_app, cold[APP], cold[HELLO]),
        _row(f"{what}, a new visitor at a warm server", hello_app, warm[APP], warm[HELLO]),
    ]


def _page(script: str, address: str) -> str:
    return address if script == HELLO else f"{address}/prune"


def _picture(browser: Any, address: str) -> float:
    """The time (seconds, as `time.time`) at which a browser without a cache saw its first picture."""
    page = browser.new_context(viewport={"width": 1280, "height": 1000}).new_page()
    page.add_init_script(PICTURE)
    page.goto(address, timeout=PATIENCE)
    page.wait_for_function("window.picture", timeout=PATIENCE)
    seen = page.evaluate("performance.timeOrigin + picture")
    page.context.close()
    return float(seen) / 1e3


def _row(what: str, baseline: str, here: list[float], there: list[float]) -> dict[str, Any]:
    own, other = statistics.median(here), statistics.median(there)
    return {
        "what": what,
        "baseline": f"{baseline}: {other:,.0f} ms",
        "p50 ms": round(own),
        "p95 ms": round(p95(here)),
        "ratio": round(own / other, 2),
        "n": len(here),
    }


# ---------------------------------------------------------------- the first accuracy


def accuracies(browser: Any, count: int = 12) -> list[dict[str, Any]]:
    """Until the accuracy tile stands after a slider's key, and (`all`) the file's; every net of the zoo."""
    rows = []
    with serving("bench/serve_floor.py") as below, serving(APP) as address:
        floor = Hand(open_page(browser, below), ".st-key-value", ("tiles",))
        for model in zoo.trained():
            page = open_page(browser, link(address, "prune", [["prune_weights", {"sparsity": 0.3}]], model))
            hand = Hand(page, "[data-control=prune_weights-sparsity]")
            hand.block(1)
            page.evaluate(TILES)
            base, accuracy, file = [], [], []
            for _ in range(ROUNDS):
                page.wait_for_function(WHOLE)
                base += [move["repaint"] for move in floor.block(count // ROUNDS)]
                for _ in range(count // ROUNDS):
                    page.keyboard.press("ArrowRight")
                    seen = page.wait_for_function(STAND).json_value()
                    accuracy.append(seen["Accuracy"] - seen["key"])
                    file.append(seen["Compressed file"] - seen["key"])
                    note = page.evaluate(NOTE)
                    page.wait_for_timeout(500)
            under = p95(base)
            rows.append(
                {
                    "what": f"first accuracy after a slider's key, {model}",
                    "baseline": f"a page with one slider and one number, p95 {under:.0f} ms",
                    "p50 ms": round(statistics.median(accuracy), 1),
                    "p95 ms": round(p95(accuracy), 1),
                    "ratio": round(p95(accuracy) / under, 2),
                    "all p95 ms": round(p95(file), 1),
                    "n": len(accuracy),
                    "note": note,
                }
            )
            page.context.close()
    return rows
