"""Figures as dictionaries: what is drawn of which rows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from engine.types import Basis, Figure
from pages.parts import charts, figures, overall, pictures, weight_maps
from pages.parts.pictures import predictions


def test_sizes_leave_zeros_out_and_are_hollow_where_signs_differ() -> None:
    frame = pd.DataFrame(
        {"layer": ["a", "a", "a", "b"], "said": [1e-3, -2e-3, 0.0, 4e-3], "true": [1e-2, 3e-2, 1e-2, 5e-5]}
    )
    drawn = predictions.sizes(frame, "said", "true", "layer", ("said", "true"))
    equal, a, b = drawn["data"]
    assert (a["x"], a["y"]) == ([1e-3, 2e-3], [1e-2, 3e-2])
    assert a["marker"]["symbol"] == ["circle", "circle-open"]
    assert (b["x"], b["y"], b["marker"]["symbol"]) == ([4e-3], [5e-5], ["square"])
    assert equal["x"] == equal["y"] == [5e-5, 3e-2]
    assert {drawn["layout"][axis]["type"] for axis in ("xaxis", "yaxis")} == {"log"}


def test_sizes_of_nothing_are_empty_axes() -> None:
    frame = pd.DataFrame({"layer": ["a"], "said": [0.0], "true": [1.0]})
    (equal,) = predictions.sizes(frame, "said", "true", "layer", ("said", "true"))["data"]
    assert equal["x"] == []


def test_lines_carry_an_upright_line_where_one_is_asked_for() -> None:
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    assert "shapes" not in charts.lines(frame, "x", "y", titles=("x", "y"))["layout"]
    (line,) = charts.lines(frame, "x", "y", titles=("x", "y"), at=1.5)["layout"]["shapes"]
    assert (line["x0"], line["x1"], line["yref"]) == (1.5, 1.5, "paper")


def test_every_byte_is_in_the_treemap_and_every_tile_below_its_root() -> None:
    frame = pd.DataFrame(
        {"layer": ["", "a", "a", "b"], "part": ["header", "codes", "scales", ""], "bytes": [5, 30, 3, 2]}
    )
    (trace,) = overall.treemap(frame)["data"]
    root, *tiles = zip(trace["ids"], trace["parents"], trace["values"], strict=True)
    assert root == (overall.ROOT, "", 40)
    assert tiles == [
        ("file header", overall.ROOT, 5),
        ("a", overall.ROOT, 33),
        ("b", overall.ROOT, 2),
        ("a/codes", "a", 30),
        ("a/scales", "a", 3),
    ]


def test_a_histogram_of_nothing_has_no_bar() -> None:
    (trace,) = charts.histogram(torch.zeros(3, 4), "fc1")["data"]
    assert trace["y"].sum() == 0


def test_a_picture_of_large_kernels_has_whole_kernels_only() -> None:
    weight = torch.arange(300 * 200 * 9, dtype=torch.float32).reshape(300, 200, 3, 3)
    down, across = weight_maps.strides(weight)
    assert (down, across) == (2, 2)  # 1,200 x 800 pixels with the gaps, of which 600 are drawn
    picture = weight_maps.as_picture(weight)
    assert max(picture.shape) <= 600
    for row, column in ((0, 0), (3, 5), (149, 99)):
        tile = picture[4 * row : 4 * row + 3, 4 * column : 4 * column + 3]
        np.testing.assert_array_equal(tile, weight[down * row, across * column])
    assert "1 of 2 rows and 1 of 2 columns of kernels" in pictures.kept_legend(of=weight)
    assert "Too large" not in pictures.kept_legend(of=weight[:100, :100])


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.0, "0.00 %"), (1e-6, "<0.01 %"), (1 / 3, "33.33 %"), (1 - 1e-6, ">99.99 %"), (1.0, "100.00 %")],
)
def test_a_share_is_not_rounded_to_none_or_all(share: float, said: str) -> None:
    assert figures.text(share, "share") == said


def test_a_gain_is_told_in_points() -> None:
    gain = Figure("gain over the plain student", 0.012, "share", Basis.MEASURED, "by hand", (0.005, 0.019))
    assert '<div class="value">+1.20 points</div>' in figures.Tile("Gain", gain, figures.said(gain)).html()


@pytest.mark.parametrize(
    ("shape", "picture"), [((1, 1, 700, 700), (700, 700)), ((4, 5, 3), (7, 19)), ((6,), (1, 6))]
)
def test_a_weight_of_any_shape_has_a_picture(shape: tuple[int, ...], picture: tuple[int, int]) -> None:
    assert weight_maps.as_picture(torch.ones(shape)).shape == picture
