"""One scale of colours from nothing to the most, for light pages and dark ones, and the ink that is read on it."""

from __future__ import annotations

from typing import NamedTuple

Rgb = tuple[int, int, int]
LIGHT: tuple[Rgb, Rgb] = ((238, 244, 250), (8, 74, 140))
DARK: tuple[Rgb, Rgb] = ((32, 44, 58), (143, 208, 255))
BLACK, WHITE = (0, 0, 0), (255, 255, 255)


class Paint(NamedTuple):
    """A colour and the ink on it, each as CSS that follows the page's scheme."""

    fill: str
    ink: str


def paint(share: float) -> Paint:
    """The colour of a share of the most, 0 to 1.

    >>> paint(0.0)
    Paint(fill='light-dark(#eef4fa,#202c3a)', ink='light-dark(#000000,#ffffff)')
    """
    fills = between(*LIGHT, share), between(*DARK, share)
    return Paint(_css(*fills), _css(*(ink(fill) for fill in fills)))


def between(low: Rgb, high: Rgb, share: float) -> Rgb:
    """A colour on the way from one to another."""
    red, green, blue = (
        round(a + (b - a) * min(max(share, 0.0), 1.0)) for a, b in zip(low, high, strict=True)
    )
    return red, green, blue


def ink(fill: Rgb) -> Rgb:
    """Black or white, whichever is read better on a colour."""
    return max(BLACK, WHITE, key=lambda colour: contrast(colour, fill))


def contrast(one: Rgb, other: Rgb) -> float:
    """WCAG's contrast of two colours, 1 to 21; text needs 4.5.

    >>> contrast((0, 0, 0), (255, 255, 255))
    21.0
    """
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Rgb) -> float:
    linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _css(light: Rgb, dark: Rgb) -> str:
    return f"light-dark(#{bytes(light).hex()},#{bytes(dark).hex()})"
