"""Slider moves in a real browser, by keys and under the finger, over the floor page, for three sizes."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from safetensors.torch import save_file

from bench.browser import QUIET, SETTLED, chromium, open_page, serving

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

# Hears of a slider's new value before the panel does. Local marks say "≈"; a frame
# counts as painted one turn of the event loop after its animation callbacks.
DRAGGED = """(() => {
  const d = window.dragged = {frames: 0, pointer: 0, changes: [], answers: []}
  const frame = () => { d.frames++; requestAnimationFrame(frame) }
  requestAnimationFrame(frame)
  addEventListener("pointermove", e => { d.pointer = e.timeStamp }, true)
  new PerformanceObserver(list => {
    for (const e of list.getEntries())
      if (e.name.endsWith("/live") && e.responseStatus === 200) d.answers.push(e.responseEnd)
  }).observe({type: "resource"})
  let last = null
  addEventListener("input", e => {
    if (e.composedPath()[0].matches("input[type=range]"))
      d.changes.push(last = {pointer: d.pointer, at: performance.now(), frame: d.frames})
  }, true)
  new MutationObserver(list => {
    for (const m of list) {
      for (const n of m.addedNodes)
        if (last && !last.drawn && n.matches?.("svg.marks") && n.textContent.includes("≈")) {
          const mine = last, painted = new MessageChannel()
          mine.drawn = performance.now()
          painted.port1.onmessage = () => { mine.painted = d.frames - mine.frame }
          requestAnimationFrame(() => painted.port2.postMessage(0))
        }
    }
  }).observe(document, {subtree: true, childList: true})
})()"""

LENET = "lenet-300-100"
# Page, setting, and a recipe that leaves room to the right; two steps, so that later steps have to follow.
QUANTIZED: Any = ["quantize", {"bits": 5, "granularity": "channel"}]
PRUNE: Any = ("prune", "sparsity", [["prune_weights", {"sparsity": 0.3}], QUANTIZED])
BITS: Any = ("quantize", "bits", [["quantize", {"bits": 1, "granularity": "channel"}]])
PAGES: tuple[tuple[str, str, Any], ...] = (
    PRUNE,
    ("quantize", "group", [["quantize", {"bits": 4, "granularity": "group", "group": 8}]]),
    BITS,
    ("low_rank", "energy", [["low_rank", {"energy": 0.55}], QUANTIZED]),
    ("share", "entries", [["share_weights", {"entries": 64}]]),  # to 256
)
# Pages that cut channels or ask for the curvature have to run the net: one with convolutions.
CUT: tuple[tuple[str, str, Any], ...] = (
    ("filters", "removed", [["prune_filters", {"removed": 0.3}]]),
    ("channels", "removed", [["prune_channels", {"removed": 0.6}]]),
    ("damage", "sparsity", [["optimal_brain_damage", {"sparsity": 0.3}]]),
)
CONVOLUTIONS = "lenet-5"
# Weights of a transformer: name -> words, width, blocks.
SIZES = {"11M": (1024, 384, 6), "100M": (20_000, 768, 12)}
PARTS = ("tiles", "marks", "html")  # what has to change with a move
ROUNDS = 3  # of the floor and a page, which take turns


class Hand:
    """Presses a key on the slider of a page: each value is a new one.

    ArrowRight goes to the next stop, which the browser has asked for ahead; PageUp jumps to one ten stops
    away, of which neither it nor the server has heard. The page is still before each key; `pause` is the
    least number of seconds from key to key.
    """

    def __init__(
        self,
        page: Any,
        slider: str,
        parts: tuple[str, ...] = PARTS,
        pause: float = 0.0,
        key: str = "ArrowRight",
    ) -> None:
        self.page, self.parts, self.pause, self.key = page, parts, pause, key
        self.handle = page.locator(f"{slider} [role=slider], {slider} input[type=range]").first
        page.evaluate(WATCH)

    def block(self, count: int) -> list[dict[str, float]]:
        """`count` moves after one that is not counted; then the page is left until nothing is at work.

        `repaint` is when the server's exact answer began to be painted (marks, tables and tiles change in
        one go), `local` when the browser's own came, `all` when the tiles changed for the last time before
        the next key; milliseconds from the key. A move that brought no change is left out.
        """
        self.handle.focus()
        found = [self._press() for _ in range(count + 1)][1:]
        self.page.wait_for_function(QUIET)
        return [move for move in found if move]

    def _press(self) -> dict[str, float]:
        self.page.keyboard.press(self.key)
        self.page.wait_for_timeout(max(150, 1e3 * self.pause - 350))
        self.page.wait_for_selector(SETTLED)
        self.page.wait_for_timeout(350)
        seen = self.page.evaluate("window.seen")
        if not all(part in seen for part in self.parts):
            return {}
        moved, first = max(seen[part] for part in self.parts), seen.get("marks", seen["tiles"])
        return {
            "repaint": moved - seen["key"],
            "local": first - seen["key"],
            "all": seen["last"] - seen["key"],
        }


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def link(address: str, page: str, recipe: Any, model: str) -> str:
    """A link to a page; without a model it shows the weights that the server was started with."""
    return f"{address}/{page}?{f'm={model}&' if model else ''}r={quote(json.dumps(recipe))}"


# ---------------------------------------------------------------- nets of three sizes


def transformer(words: int, width: int, blocks: int) -> dict[str, torch.Tensor]:
    """Weights in the shapes of a small GPT, normal with deviation 0.02, always the same."""
    seeded = torch.Generator().manual_seed(0)
    shapes = {"embed.weight": (words, width)}
    for i in range(blocks):
        shapes |= {
            f"blocks.{i}.attention.qkv.weight": (3 * width, width),
            f"blocks.{i}.attention.out.weight": (width, width),
            f"blocks.{i}.mlp.up.weight": (4 * width, width),
            f"blocks.{i}.mlp.down.weight": (width, 4 * width),
        }
    return {name: 0.02 * torch.randn(shape, generator=seeded) for name, shape in shapes.items()}


@contextmanager
def served(size: str) -> Iterator[str]:
    """The address of a server that shows a net of this size, opened by the path of its file."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        path = Path(folder) / f"{size}.safetensors"
        save_file(transformer(*SIZES[size]), path)
        yield stack.enter_context(serving("pages/parts/serve.py", path))


# ---------------------------------------------------------------- rows


def measure(count: int = 30) -> list[dict[str, Any]]:
    """Moves on every page with a small net and on two with each larger one, over the floor; drags."""
    with ExitStack() as stack:
        browser = stack.enter_context(chromium())
        address = stack.enter_context(serving("bench/serve_floor.py"))
        floor = Hand(open_page(browser, address), ".st-key-value", ("tiles",))
        with serving("pages/parts/serve.py") as address:
            rows = [_committed(browser, floor, address, LENET, LENET, page, count) for page in PAGES]
            rows += [
                _committed(
                    browser, floor, address, CONVOLUTIONS, CONVOLUTIONS, page, count, ("tiles", "html")
                )
                for page in CUT
            ]
            rows += [_jumps(browser, floor, address, LENET, PRUNE, count)]
            rows += [_jumps(browser, floor, address, CONVOLUTIONS, page, count) for page in CUT]
            rows += _drag(browser, address, LENET, LENET)
        for size in SIZES:
            with served(size) as address:
                rows += [_committed(browser, floor, address, "", size, page, count) for page in (PRUNE, BITS)]
                rows += _drag(browser, address, "", size)
    return rows


def _committed(
    browser: Any,
    floor: Hand,
    address: str,
    model: str,
    size: str,
    shown: Any,
    count: int,
    parts: tuple[str, ...] = PARTS,
) -> dict[str, Any]:
    name, setting, recipe = shown
    page = open_page(browser, link(address, name, recipe, model))
    page.wait_for_function(QUIET)
    hand = Hand(page, f"[data-control={recipe[0][0]}-{setting}]", parts)
    base, found = [], []
    for _ in range(ROUNDS):
        base += floor.block(count // ROUNDS)
        found += hand.block(count // ROUNDS)
    page.context.close()
    return _told(f"slider move, {name}: {setting}, {size}", base, found)


def _jumps(browser: Any, floor: Hand, address: str, model: str, shown: Any, count: int) -> dict[str, Any]:
    """Ten stops at once; each round begins three stops further on: no place and no neighbour comes twice."""
    name, setting, [(technique, settings), *rest] = shown
    base, found = [], []
    for number in range(ROUNDS):
        start = {**settings, setting: round(settings[setting] + 0.03 * number, 2)}
        page = open_page(browser, link(address, name, [[technique, start], *rest], model))
        page.wait_for_function(QUIET)
        base += floor.block(count // ROUNDS)
        hand = Hand(page, f"[data-control={technique}-{setting}]", ("tiles", "html"), key="PageUp")
        found += hand.block(min(count // ROUNDS, 4))
        page.context.close()
    return _told(f"slider jump, {name}: {setting}, {model}", base, found)


def _told(what: str, base: list[dict[str, float]], found: list[dict[str, float]]) -> dict[str, Any]:
    repaint, local, whole = ([move[k] for move in found] for k in ("repaint", "local", "all"))
    below = p95([move["repaint"] for move in base])
    return {
        "what": what,
        "baseline": f"a page with one slider and one number, p95 {below:.0f} ms",
        "p50 ms": round(statistics.median(repaint), 1),
        "p95 ms": round(p95(repaint), 1),
        "ratio": round(p95(repaint) / below, 2),
        "local p95 ms": round(p95(local), 1),
        "all p95 ms": round(p95(whole), 1),
        "n": len(found),
    }


def _drag(browser: Any, address: str, model: str, size: str, seconds: float = 4.0) -> list[dict[str, Any]]:
    """The mouse pulls the sparsity slider to the right without a stop."""
    page = open_page(browser, link(address, *PRUNE[::2], model), script=DRAGGED)
    page.wait_for_function(QUIET)
    slider = page.locator("[data-control=prune_weights-sparsity] input[type=range]")
    slider.scroll_into_view_if_needed()
    box, share = slider.bounding_box(), int(slider.input_value()) / int(slider.get_attribute("max"))
    x, y = box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2
    end = box["x"] + box["width"] - 8
    page.mouse.move(x, y)
    page.mouse.down()
    start = page.evaluate("performance.now()")
    while (share := (page.evaluate("performance.now()") - start) / (1e3 * seconds)) < 1:
        page.mouse.move(x + share * (end - x), y)
        page.wait_for_timeout(8)
    seen = page.evaluate("dragged")
    page.mouse.up()
    page.wait_for_function(QUIET)
    page.context.close()
    moved = [move for move in seen["changes"] if "painted" in move]
    drawn = p95([move["drawn"] - move["at"] for move in moved])
    hand = p95([move["drawn"] - move["pointer"] for move in moved])
    first, last = seen["changes"][0]["at"], seen["changes"][-1]["at"]
    answers = sum(first <= at <= last for at in seen["answers"])
    within = sum(move["painted"] <= 2 for move in moved) / len(moved)
    return [
        {
            "what": f"slider drag, prune: sparsity, {size}: value to local marks, p95 over 8 ms",
            "baseline": "8 ms",
            "p95 ms": round(drawn, 2),
            "ratio": round(drawn / 8, 2),
            "n": len(moved),
            "note": f"of {len(seen['changes'])} values; from the pointer {hand:.1f} ms; "
            f"{within:.0%} painted within two frames",
        },
        {
            "what": f"slider drag, prune: sparsity, {size}: exact answers a second",
            "baseline": "10 a second",
            "ratio": round(1e3 * answers / (last - first) / 10, 2),
            "n": answers,
            "note": f"{1e3 * answers / (last - first):.1f} a second, over {(last - first) / 1e3:.1f} s",
        },
    ]
