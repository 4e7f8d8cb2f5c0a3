"""Small pictures as HTML: images of tensors and samples, 5x5 corners."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from functools import lru_cache
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from engine.data.sets import Samples
from pages.parts import charts, figures, weight_maps


def data_url(pixels: NDArray[np.uint8]) -> str:
    """(h, w, 3) or (h, w) bytes as a PNG that HTML can show."""
    return _png(Image.fromarray(pixels))


def _png(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "png", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture_of(image: Tensor) -> str:
    """A data image (channels, h, w) uint8 as a PNG."""
    pixels = image.permute(1, 2, 0).numpy()
    return data_url(np.ascontiguousarray(pixels.squeeze(-1) if pixels.shape[2] == 1 else pixels))


def gallery(items: Iterable[tuple[str, str, str]]) -> str:
    """Pictures in a row that wraps: (image, caption, second line)."""
    cells = "".join(
        f'<figure style="margin:0;width:6.2rem"><img alt="{escape(first)}" src="{url}" style="width:100%;image-rendering:pixelated;border-radius:.25rem">'
        f'<figcaption style="font-size:.74rem;line-height:1.25">{escape(first)}<br><span style="opacity:.75">{escape(second)}</span></figcaption></figure>'
        for url, first, second in items
    )
    return f'<div style="display:flex;flex-wrap:wrap;gap:.7rem">{cells}</div>'


def samples(of: Samples, rows: Iterable[tuple[int, str, str]]) -> str:
    """Samples of the data with two lines each: (row, caption, second line); those that are no images as a list."""
    if of.is_drawable:
        return gallery((picture_of(of.picture(i)), first, second) for i, first, second in rows)
    if of.is_text:
        lines = (
            f"<li>{quoted(of.texts[i])}<br>{escape(first)} ({escape(second)})</li>"
            for i, first, second in rows
        )
        return f'<ul class="texts">{"".join(lines)}</ul>'
    shape = " x ".join(map(str, of.images.shape[1:])) or "one number"
    words = figures.caption(
        f"Inputs of the shape {shape} are no images: their numbers in the data are shown."
    )
    items = (f"<li>sample {i}: {escape(first)} ({escape(second)})</li>" for i, first, second in rows)
    return f"{words}<ul>{''.join(items)}</ul>"


def quoted(text: str) -> str:
    """A text of the data as HTML."""
    return f'<q class="sample">{escape(text)}</q>'


def of_tensor(picture: weight_maps.Picture, alt: str, tall: int = 420, kind: str = "now") -> str:
    """A tensor's picture; `kind` is `now`, or `was` for what is shown while the compare button is held."""
    height, width = picture.numbers.shape
    url = _coloured(picture.numbers.tobytes(), (width, height), picture.palette.tobytes())
    style = f"aspect-ratio:{width}/{height};width:min(100%,{tall * width / height:.0f}px)"
    return f'<img class="picture {kind}" alt="{escape(alt)}" src="{url}" style="{style}">'


def _painted(numbers: bytes, size: tuple[int, int], palette: bytes) -> str:
    """A picture with a palette as a PNG."""
    image = Image.frombytes("P", size, numbers)
    image.putpalette(palette)
    return _png(image)


_coloured = lru_cache(maxsize=32)(_painted)  # what a step starts from stays while it changes


def of_filters(weights: Tensor) -> list[str]:
    """A PNG for each of a few kernels (n, colours, height, width) that look at an image; none for matrices.

    The mean of the colours is drawn, all filters on one scale.
    """
    if weights.dim() != 4 or len(weights) > 64:
        return []
    kernels = weights.mean(1)
    drawn = (weight_maps.signed_map(kernel, float(kernels.abs().max())) for kernel in kernels)
    return [_painted(p.numbers.tobytes(), p.numbers.shape[::-1], p.palette.tobytes()) for p in drawn]


def side_by_side(items: Iterable[tuple[str, str]], kind: str = "side-by-side") -> str:
    """Pictures (HTML) in columns that wrap, each over its caption; of the kind `pieces` they are small."""
    cells = "".join(
        f'<figure>{picture}<figcaption class="caption">{escape(words)}</figcaption></figure>'
        for picture, words in items
    )
    return f'<div class="{kind}">{cells}</div>'


def legend(*entries: tuple[str, str]) -> str:
    """Colour swatches with words."""
    items = "".join(
        f'<span class="swatch" style="background:{colour}"></span>{escape(word)}' for colour, word in entries
    )
    return f'<div class="legend">{items}</div>'


def kept_legend(
    kept: str = "kept (darker is larger)", removed: str = "removed", of: Tensor | None = None
) -> str:
    """What the colours of `weight_maps.kept_map` mean, and what of a large weight `of` is in it."""
    colours = legend((charts.KEPT, kept), ("#fad6b8", removed))
    return colours if of is None else colours + figures.caption(sampled(of, weight_maps.MOST_PIXELS))


def sampled(weight: Tensor, most: int) -> str:
    """That a picture of at most so many pixels a side does not show the whole weight; nothing where it does."""
    sides = zip(weight_maps.strides(weight, most), ("rows", "columns"), strict=True)
    drawn = " and ".join(f"1 of {step} {side}" for step, side in sides if step > 1)
    what = " of kernels" if weight.dim() > 2 else ""
    return f"Too large to draw whole: {drawn}{what}." if drawn else ""


def corner(title: str, cells: Tensor, digits: int, reach: float = 0.0) -> str:
    """A small matrix of numbers, coloured by value where `reach` is given."""
    rows = []
    for row in cells.tolist():
        tds = []
        for value in row:
            share = min(abs(value) / reach, 1.0) if reach else 0.0
            base = charts.KEPT if value > 0 else charts.REMOVED
            background = (
                f"background:color-mix(in srgb,{base} {round(60 * share)}%,transparent)" if reach else ""
            )
            tds.append(f'<td style="{background}">{figures.plain(value, f".{digits}f")}</td>')
        rows.append(f"<tr>{''.join(tds)}</tr>")
    return f'<div class="mini"><table><caption>{escape(title)}</caption>{"".join(rows)}</table></div>'
