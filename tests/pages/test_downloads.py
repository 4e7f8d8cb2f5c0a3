"""Downloads are made when they are clicked: one made before is gone once the page is drawn again."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PAGES = Path(__file__).resolve().parent.parent.parent / "pages"


def buttons() -> Iterator[tuple[str, ast.Call]]:
    for path in sorted(PAGES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "download_button":
                yield f"{path.name}:{node.lineno}", node


FOUND = dict(buttons())


def test_there_are_downloads() -> None:
    assert {name.partition(":")[0] for name in FOUND} >= {"vary.py", "report.py", "ship.py", "whole.py"}


@pytest.mark.parametrize("place", FOUND)
def test_a_download_is_made_at_the_click_and_does_not_draw_the_page_again(place: str) -> None:
    call = FOUND[place]
    assert isinstance(call.args[1], ast.Lambda | ast.Attribute), "the data is not a function"
    said = {word.arg: word.value for word in call.keywords}
    assert ast.literal_eval(said["on_click"]) == "ignore"
