"""slimscope: the list of pages and the frame around them."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: its worker threads spin and slow small nets

from pathlib import Path

import streamlit as st
import torch

import engine.techniques  # noqa: F401  (fills the registry)
from engine.jobs import home
from pages.parts import session, sidebar

HERE = Path(__file__).parent
PAGES = (
    ("overview", "Overview", "layers", "What is in this net, and where its bytes are."),
    ("prune", "Prune", "content_cut", "Set small weights to zero and watch accuracy hold, then fall."),
    ("filters", "Filters", "account_tree", "Remove whole filters, and all that goes with them."),
    ("channels", "Channels", "lan", "Read fewer channels, and refit the weights to those that are left."),
    ("damage", "Damage", "healing", "Remove what the loss should miss least, and look if it does."),
    ("tickets", "Tickets", "confirmation_number", "Train what is left again from its first weights."),
    ("quantize", "Quantize", "stairs", "Store each weight in a few bits."),
    ("low_rank", "Low rank", "call_split", "Write a large matrix as the product of two thin ones."),
    ("distill", "Distill", "school", "Let a small net learn from a large one."),
    ("tradeoffs", "Trade-offs", "query_stats", "Accuracy against real bytes for many settings at once."),
)

torch.set_num_threads(1)
st.set_page_config("slimscope", HERE / "assets" / "icon.png", layout="wide", initial_sidebar_state="auto")
st.html(HERE / "pages" / "parts" / "style.css")
if problem := home.problem():
    st.error(problem, icon=":material/hard_drive:")
    if not session.has_begun():
        st.stop()  # who is here, and what was brought, can't be read
session.start()
chosen = st.navigation(
    [
        st.Page(
            HERE / "pages" / f"{name}.py",
            title=title,
            icon=f":material/{icon}:",
            help=about,
            default=name == "overview",
        )
        for name, title, icon, about in PAGES
    ]
)
sidebar.draw()
if session.is_missing():
    st.info("This link is about weights that are not in it: upload the file in the sidebar to go on.")
    st.stop()
chosen.run()
session.finish()
