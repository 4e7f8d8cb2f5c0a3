"""Committed slider moves in a real browser: key down to repaint, over the floor page."""

from __future__ import annotations

import statistics
from typing import Any

from bench.browser import SETTLED, chromium, open_page, serving

WATCH = """() => {
  window.seen = {first: 0, moving: 0, last: 0, key: 0}
  addEventListener("keydown", e => { window.seen = {first: 0, moving: 0, last: 0, key: e.timeStamp} }, true)
  const inside = (n, css) => n.nodeType === 1 && (n.closest(css) || n.querySelector(css))
  new MutationObserver(list => {
    const now = performance.now(), s = window.seen
    for (const m of list) for (const n of [m.target, ...m.addedNodes]) {
      const at = n.nodeType === 3 ? n.parentElement : n
      if (!at || at.nodeType !== 1) continue
      if (inside(at, ".tiles")) { if (!s.first) s.first = now; s.last = now }
      if (at.closest("svg.marks, [class*='st-key-moving-']") || at.querySelector("svg.marks")) s.moving = now
    }
  }).observe(document.body, {subtree: true, childList: true, characterData: true, attributes: false})
}"""


def moves(page: Any, slider: str, count: int) -> list[dict[str, float]]:
    """Press ArrowRight `count` times, each after the page is still; milliseconds from the key."""
    page.evaluate(WATCH)
    handle = page.locator(f"{slider} [role=slider], {slider} input[type=range]").first
    handle.focus()
    found = []
    for i in range(count + 3):
        page.keyboard.press("ArrowRight" if (i // 12) % 2 == 0 else "ArrowLeft")
        page.wait_for_timeout(150)
        page.wait_for_selector(SETTLED, timeout=60_000)
        page.wait_for_timeout(350)
        seen = page.evaluate("window.seen")
        repaint = max(seen["first"], seen["moving"]) - seen["key"]
        if i >= 3 and seen["first"]:
            found.append({"repaint": repaint, "all": seen["last"] - seen["key"]})
    return found


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def measure(count: int = 30) -> list[dict[str, Any]]:
    """One row per page: repaint and everything, p50 and p95, as ratios to the floor's p95."""
    with chromium() as browser:
        with serving("bench/serve_floor.py") as address:
            floor = moves(open_page(browser, address), ".st-key-value", count)
        base = p95([m["repaint"] for m in floor])
        rows = [_row("floor: one slider, one number", floor, base)]
        with serving("pages/parts/serve.py") as address:
            for name, slider in (
                ("prune", ".st-key-prune_weights-sparsity"),
                ("quantize", ".st-key-quantize-bits"),
                ("low_rank", ".st-key-low_rank-energy"),
            ):
                page = open_page(browser, f"{address}/{name}")
                rows.append(_row(f"{name}: {slider.rpartition('-')[2]}", moves(page, slider, count), base))
                page.context.close()
    return rows


def _row(name: str, found: list[dict[str, float]], base: float) -> dict[str, Any]:
    repaint, whole = ([m[k] for m in found] for k in ("repaint", "all"))
    return {
        "what": f"slider move, {name}",
        "baseline": f"the floor page's p95, {base:.0f} ms",
        "p50 ms": round(statistics.median(repaint), 1),
        "p95 ms": round(p95(repaint), 1),
        "ratio": round(p95(repaint) / base, 2),
        "all p95 ms": round(p95(whole), 1),
        "n": len(found),
    }
