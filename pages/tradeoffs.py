"""Decide: which recipe is worth its bytes?"""

import streamlit as st

from pages.parts import footer, frame, jobs, session, visitor
from pages.parts.decide import budget, history, pins, plot, points, report, vary

PAGE = {
    "title": "Decide",
    "icon": "query_stats",
    "about": "Which recipe is worth its bytes: all techniques on one plot, and an answer for a budget.",
    "order": 1000,
    "group": "Decide",
}

frame.heading(
    "Decide",
    "Which recipe is worth its bytes? **Say what it may cost, and take what is recommended.**",
    "Every technique by itself on one plot, each point a real compressed file with a measured accuracy and its interval. "
    "A recommended recipe is never beaten by another point that is as small and as accurate.",
)
subject = session.subject()
frame.header(subject)
if visitor.why_idle():
    st.info(visitor.why_idle())
    st.stop()

view = points.look(subject)
question, picture = st.columns([1, 2.4], gap="medium")
with question:
    asked, advice = budget.draw(view)
with picture:
    plot.draw(view, advice, pins.pinned(view), lambda key: pins.toggle(view, key))
compared = pins.draw(view, advice)
with question:
    report.button(view, asked, advice, compared)
plot.table(view, lambda key: pins.toggle(view, key))
vary.draw(view)
history.draw(view)
footer.draw(footer.tabs("More"), subject)
jobs.wake()
