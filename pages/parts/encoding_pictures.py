"""Huffman's tree and a ribbon of bits, as HTML."""

from __future__ import annotations

import base64
from html import escape

import numpy as np

from engine.figures.coding import Stream
from engine.tensor.codes import counted, huffman_lengths, width
from engine.tensor.codes.huffman import Merge, canonical, merges
from pages.parts import charts
from pages.parts.figures import caption

WIDE, DEEP, EDGE = 46, 34, 24  # pixels of a leaf, of a level, and around all
INK = {False: "#3d4650", True: "#d5dbe1"}  # an image does not take the page's colour


def grown(labels: list[str], counts: list[int], steps: int, dark: bool) -> str:
    """The tree after so many steps: leaves stand where they end, nodes that are not made yet are missing."""
    found = merges(np.array(counts))
    places, depth = _layout(found, len(labels))
    leaves = "".join(_leaf(places[i], label, counts[i]) for i, label in enumerate(labels))
    edges = "".join(
        _edge(places[len(labels) + i], places[child], bit)
        for i, merge in enumerate(found[:steps])
        for bit, child in ((0, merge.left), (1, merge.right))
    )
    nodes = "".join(
        _node(places[len(labels) + i], merge.count, new=i == steps - 1)
        for i, merge in enumerate(found[:steps])
    )
    size = (WIDE * len(labels) + 2 * EDGE, DEEP * (depth + 1) + 2 * EDGE)
    said = f"Huffman tree of {len(labels)} symbols after {steps} of {len(found)} steps"
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" width="{size[0]}" '
        f'height="{size[1]}" font-family="sans-serif" font-size="11" fill="{INK[dark]}">{edges}{nodes}{leaves}</svg>'
    )
    url = "data:image/svg+xml;base64," + base64.b64encode(drawing.encode()).decode()
    picture = f'<img alt="{said}" src="{url}" style="width:100%;max-width:{size[0]}px">'
    return picture + caption(_words(labels, counts, found, steps))


def _layout(found: list[Merge], leaves: int) -> tuple[dict[int, tuple[float, float]], int]:
    """Node -> its place in pixels: leaves from left to right as the whole tree has them; and the depth."""
    children = {leaves + i: (merge.left, merge.right) for i, merge in enumerate(found)}
    order: list[int] = []
    depths = {2 * leaves - 2: 0}
    waiting = [2 * leaves - 2]
    while waiting:
        node = waiting.pop()
        if node not in children:
            order.append(node)
            continue
        for child in reversed(children[node]):
            depths[child] = depths[node] + 1
            waiting.append(child)
    across: dict[int, float] = {node: EDGE + WIDE * (i + 0.5) for i, node in enumerate(order)}
    for node in range(leaves, 2 * leaves - 1):
        across[node] = sum(across[child] for child in children[node]) / 2
    return {n: (x, EDGE + DEEP * depths[n]) for n, x in across.items()}, max(depths.values())


def _leaf(at: tuple[float, float], label: str, count: int) -> str:
    x, y = at
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="5" fill="{charts.KEPT}"/>'
        f'<text x="{x:.0f}" y="{y + 17:.0f}" text-anchor="middle" font-weight="600">{escape(label)}</text>'
        f'<text x="{x:.0f}" y="{y + 29:.0f}" text-anchor="middle" opacity=".7">{_short(count)}</text>'
    )


def _edge(above: tuple[float, float], below: tuple[float, float], bit: int) -> str:
    (x, y), (u, v) = above, below
    return (
        f'<line x1="{x:.0f}" y1="{y:.0f}" x2="{u:.0f}" y2="{v:.0f}" stroke="{charts.ORIGINAL}"/>'
        f'<text x="{(x + u) / 2 + (-9 if bit == 0 else 4):.0f}" y="{(y + v) / 2:.0f}" opacity=".8">{bit}</text>'
    )


def _node(at: tuple[float, float], count: int, new: bool) -> str:
    x, y = at
    colour = charts.CHANGED if new else charts.ORIGINAL
    return (
        f'<circle cx="{x:.0f}" cy="{y:.0f}" r="{6 if new else 4}" fill="{colour}"/>'
        f'<text x="{x:.0f}" y="{y - 8:.0f}" text-anchor="middle" opacity=".8">{_short(count)}</text>'
    )


def _short(count: int) -> str:
    return f"{count:,}" if count < 10_000 else f"{count / 1000:,.0f}k"


def _words(labels: list[str], counts: list[int], found: list[Merge], steps: int) -> str:
    if steps == 0:
        return "Leaves are symbols with their counts. The two that occur least are joined first."
    names = [*labels, *(f"the node of {_short(merge.count)}" for merge in found)]
    last = found[steps - 1]
    said = (
        f"Step {steps}: {names[last.left]} and {names[last.right]} are joined into a node of {last.count:,}."
    )
    if steps < len(found):
        return said
    bits = sum(merge.count for merge in found) / sum(counts)
    few = f", with the {labels[-1]} as one symbol" if labels[-1].endswith("others") else ""
    return f"{said} From the top, the bits on the way are a symbol's code: {bits:.3f} bits a symbol on average{few}."


def bits_in_a_row(stream: Stream, most: int) -> str:
    """Symbols in canonical Huffman codes, each code a piece of the ribbon: the first, or where they begin to differ."""
    view = counted(stream.symbols)
    others = np.flatnonzero(view.places != view.places[0])
    start = max(0, int(others[0]) - most // 8) if len(others) and others[0] >= most else 0
    places, lengths = view.places[start : start + most], huffman_lengths(view.counts)
    codes = canonical(lengths)
    words = [f"{int(codes[place]):0{int(lengths[place])}b}" for place in places]
    pieces = "".join(
        f'<span title="{view.alphabet[place]}" style="padding:0 2px;background:{_shade(i)}">{word}</span>'
        for i, (place, word) in enumerate(zip(places, words, strict=True))
    )
    used, fixed = sum(map(len, words)), len(words) * width(len(view.alphabet))
    behind = (
        f", from number {start + 1:,} on (the ones before are all {view.alphabet[view.places[0]]}),"
        if start
        else ""
    )
    said = f"{len(words)} symbols{behind} in {used} bits; in codes of one width they take {fixed}. Point at a code to see its symbol."
    return (
        '<div style="font-family:monospace;font-size:.82rem;line-height:1.7;overflow-wrap:anywhere" '
        f'role="img" aria-label="{used} bits of {len(words)} symbols">{pieces}</div>{caption(said)}'
    )


def _shade(i: int) -> str:
    return "rgba(127,127,127,.28)" if i % 2 else "rgba(127,127,127,.08)"
