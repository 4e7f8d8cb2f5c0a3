"""Figures as dictionaries: what is drawn of which rows."""

from __future__ import annotations

import pandas as pd

from pages.parts import charts


def test_sizes_leave_zeros_out_and_are_hollow_where_signs_differ() -> None:
    frame = pd.DataFrame(
        {"layer": ["a", "a", "a", "b"], "said": [1e-3, -2e-3, 0.0, 4e-3], "true": [1e-2, 3e-2, 1e-2, 5e-5]}
    )
    drawn = charts.sizes(frame, "said", "true", "layer", ("said", "true"))
    equal, a, b = drawn["data"]
    assert (a["x"], a["y"]) == ([1e-3, 2e-3], [1e-2, 3e-2])
    assert a["marker"]["symbol"] == ["circle", "circle-open"]
    assert (b["x"], b["y"], b["marker"]["symbol"]) == ([4e-3], [5e-5], ["square"])
    assert equal["x"] == equal["y"] == [5e-5, 3e-2]
    assert {drawn["layout"][axis]["type"] for axis in ("xaxis", "yaxis")} == {"log"}


def test_sizes_of_nothing_are_empty_axes() -> None:
    frame = pd.DataFrame({"layer": ["a"], "said": [0.0], "true": [1.0]})
    (equal,) = charts.sizes(frame, "said", "true", "layer", ("said", "true"))["data"]
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
    (trace,) = charts.treemap(frame)["data"]
    root, *tiles = zip(trace["ids"], trace["parents"], trace["values"], strict=True)
    assert root == (charts.ROOT, "", 40)
    assert tiles == [
        ("file header", charts.ROOT, 5),
        ("a", charts.ROOT, 33),
        ("b", charts.ROOT, 2),
        ("a/codes", "a", 30),
        ("a/scales", "a", 3),
    ]
