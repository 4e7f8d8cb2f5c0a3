"""slimscope: the menu and the frame around its pages."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its worker threads spin and slow small nets

from functools import partial
from pathlib import Path
from typing import Any

import streamlit as st
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.jobs import home
from pages.parts import components, menu, plain, proposal, session, sidebar, visitor

HERE = Path(__file__).parent

torch.set_num_threads(1)
st.set_page_config("slimscope", HERE / "assets" / "icon.png", layout="wide", initial_sidebar_state="auto")
st.html(HERE / "pages" / "parts" / "style.css")
if problem := home.problem():
    st.error(problem, icon=":material/hard_drive:")
    if not session.has_begun():
        st.stop()  # who is here, and what was brought, can't be read
session.start()
entries = menu.entries()
groups: dict[str, list[Any]] = {entry.group: [] for entry in entries}
pages: dict[str, Any] = {}
for entry in entries:
    page = st.Page(
        HERE / "pages" / f"{entry.name}.py" if entry.has_file else partial(plain.draw, entry.name),
        title=entry.title,
        icon=f":material/{entry.icon}:",
        help=entry.about,
        url_path=entry.name,
        default=entry == entries[0],
    )
    groups[entry.group].append(page)
    pages[entry.name] = page
st.logo(HERE / "assets" / "logo.svg", size="large", icon_image=HERE / "assets" / "icon.png")
menu.remember(pages)
chosen = st.navigation(groups, expanded=True)
here = next(entry for entry in entries if entry.name == (chosen.url_path or entries[0].name))
session.look_at(here.technique, tells=here == entries[0])
components.places()
sidebar.draw()
if visitor.is_missing():
    is_file = session.model().startswith("file-")
    way = "upload the file in the sidebar" if is_file else "look in the sidebar for how"
    st.info(f"This link is about a net that is not in it: {way} to go on.")
    st.stop()
proposal.ask()
chosen.run()
