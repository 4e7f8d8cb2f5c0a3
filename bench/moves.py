"""Committed slider moves in a real browser: key down to repaint, over the floor page."""

from __future__ import annotations

import json
import statistics
from typing import Any
from urllib.parse import quote

from bench.browser import SETTLED, chromium, open_page, serving

WATCH = """() => {
  window.seen = {}
  addEventListener("keydown", e => { window.seen = {key: e.timeStamp} }, true)
  new MutationObserver(list => {
    const now = performance.now(), s = window.seen
    for (const m of list) for (const n of [m.target, ...m.addedNodes]) {
      const at = n.nodeType === 3 ? n.parentElement : n
      if (!at?.closest) continue
      if (at.closest(".tiles")) { s.tiles ??= now; s.last = now }
      if (at.closest("svg.marks") || at.querySelector("svg.marks")) s.marks ??= now
      if (at.closest("[data-live=layers]")) s.html ??= now // the browser alone can't know this table
    }
  }).observe(document.body, {subtree: true, childList: true, attributes: true, characterData: true})
}"""

WARM = 3  # moves that are not counted
PARTS = ("tiles", "marks", "html")
# Page, setting, and a recipe that leaves room to the right; two steps, so that later steps have to follow.
QUANTIZED: Any = ["quantize", {"bits": 5, "granularity": "channel"}]
PAGES: tuple[tuple[str, str, Any], ...] = (
    ("prune", "sparsity", [["prune_weights", {"sparsity": 0.3}], QUANTIZED]),
    ("quantize", "group", [["quantize", {"bits": 4, "granularity": "group", "group": 8}]]),
    ("quantize", "bits", [["quantize", {"bits": 1, "granularity": "channel"}]]),
    ("low_rank", "energy", [["low_rank", {"energy": 0.55}], QUANTIZED]),
)


def moves(page: Any, slider: str, count: int, parts: tuple[str, ...] = PARTS) -> list[dict[str, float]]:
    """Press ArrowRight `count` times, each after the page is still: each value is a new one to the server.

    `repaint` is when the server's exact answer began to be painted (marks, tables and tiles change in
    one go), `local` when the browser's own came, `all` when the tiles changed for the last time;
    milliseconds from the key.
    """
    page.evaluate(WATCH)
    handle = page.locator(f"{slider} [role=slider], {slider} input[type=range]").first
    handle.focus()
    found = []
    for i in range(count + WARM):
        page.keyboard.press("ArrowRight")
        page.wait_for_timeout(150)
        page.wait_for_selector(SETTLED, timeout=60_000)
        page.wait_for_timeout(350)
        seen = page.evaluate("window.seen")
        moved = [seen[part] - seen["key"] for part in parts if part in seen]
        if i >= WARM and len(moved) == len(parts):
            local = seen.get("marks", seen["tiles"]) - seen["key"]
            found.append({"repaint": max(moved), "local": local, "all": seen["last"] - seen["key"]})
    return found


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def measure(count: int = 30) -> list[dict[str, Any]]:
    """One row per page: repaint and everything, p50 and p95, as ratios to the floor's p95."""
    with chromium() as browser:
        with serving("bench/serve_floor.py") as address:
            floor = moves(open_page(browser, address), ".st-key-value", count, ("tiles",))
        base = p95([m["repaint"] for m in floor])
        rows = [_row("floor: one slider, one number", floor, base)]
        with serving("pages/parts/serve.py") as address:
            for name, setting, recipe in PAGES:
                link = f"{address}/{name}?m=lenet-300-100&r={quote(json.dumps(recipe))}"
                page = open_page(browser, link)
                slider = f".st-key-{recipe[0][0]}-{setting}"
                rows.append(_row(f"{name}: {setting}", moves(page, slider, count), base))
                page.context.close()
    return rows


def _row(name: str, found: list[dict[str, float]], base: float) -> dict[str, Any]:
    repaint, local, whole = ([m[k] for m in found] for k in ("repaint", "local", "all"))
    return {
        "what": f"slider move, {name}",
        "baseline": f"the floor page's p95, {base:.0f} ms",
        "p50 ms": round(statistics.median(repaint), 1),
        "p95 ms": round(p95(repaint), 1),
        "ratio": round(p95(repaint) / base, 2),
        "local p95 ms": round(p95(local), 1),
        "all p95 ms": round(p95(whole), 1),
        "n": len(found),
    }
