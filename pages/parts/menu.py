"""The menu: what each page file says of itself, and a page for each technique that no file shows."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from engine.recipe import technique
from engine.types import SlimscopeError

FOLDER = Path(__file__).resolve().parent.parent
GROUPS = {
    "prune": "Prune",
    "quantize": "Quantize",
    "low rank": "Factor",
    "compact": "Compact",
    "train": "Distill",
}  # of families
BETWEEN = 500  # the order of pages without a file: after those with one, before Decide


@dataclass(frozen=True)
class Entry:
    """A line of the menu; `name` is the page's place in the address."""

    name: str
    title: str
    icon: str
    about: str
    order: int
    group: str
    technique: str = ""  # that the page is about; none where it shows the recipe as it is
    has_file: bool = True


def entries() -> list[Entry]:
    """All pages in the order of the menu."""
    files = of_files()
    named = {entry.name for entry in files}
    without = [known for known in technique.REGISTRY.values() if known.page not in named]
    plain = [
        Entry(t.name, t.title, "extension", t.about, BETWEEN + i, GROUPS.get(t.family, "More"), t.name, False)
        for i, t in enumerate(without)
    ]
    return sorted((*files, *plain), key=lambda entry: entry.order)


def remember(pages: dict[str, Any]) -> None:
    """What Streamlit calls the pages, for whoever leads to one of them."""
    st.session_state["pages"] = pages


def go_to(name: str) -> None:
    """Open a page."""
    st.switch_page(st.session_state["pages"][name])


def link_to(name: str) -> None:
    """A link to a page."""
    st.page_link(st.session_state["pages"][name])


@cache
def of_files(folder: Path = FOLDER) -> tuple[Entry, ...]:
    """The pages that have a file, by their order. Raises SlimscopeError for a file without PAGE."""
    files = (path for path in folder.glob("*.py") if path.stem != "__init__")
    return tuple(sorted(map(_read, files), key=lambda entry: entry.order))


def _read(path: Path) -> Entry:
    """What a page file assigns to PAGE: read, not run, since running it would draw it."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "PAGE":
            return Entry(path.stem, **ast.literal_eval(node.value))
    raise SlimscopeError(
        f"{path.name} has no PAGE: a page says its title, icon, about, order and group in it"
    )
