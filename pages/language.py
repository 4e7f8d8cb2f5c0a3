"""Language model: what does a model say when its numbers get coarse?"""

import streamlit as st

from pages.parts import cached, footer, frame, jobs, session
from pages.parts.writing import coarse, page, reading

PAGE = {
    "title": "Language model",
    "icon": "edit_note",
    "about": "One sentence, continued by the same small language model at 32, 8, 4, 3 and 2 bits a weight.",
    "order": 67,
    "group": "Quantize",
}

frame.heading(
    "Language model",
    "What does a model say when its numbers get coarse? **Type a beginning, and read the five answers.**",
    "Each row is the same model with its weights rounded to fewer bits, in groups of 64 that share a scale. "
    "The texts and figures below are those of the small language model GlassLM, whichever model the recipe is for.",
)
frame.header(session.subject())
page.introduction()
asked = page.ask()
try:
    whole = coarse.refined()
    coarse.continuations(asked, whole)
    coarse.trap(whole)
    reading.draw()
except cached.Pending as error:  # where even this model counts as large
    st.info(f"Nothing is written yet: {error}.")
footer.draw(footer.tabs("More"), session.subject())
jobs.wake()
