"""Start: a guided story of one model made small, and below it what is in the model in view."""

import streamlit as st

from engine.figures import count
from engine.types import SlimscopeError
from pages.parts import cached, card, charts, footer, frame, jobs, overall, session, view
from pages.parts.anatomy import picture
from pages.parts.fold import fold
from pages.parts.pictures import samples, tokens
from pages.parts.story import page as story

PAGE = {
    "title": "Start",
    "icon": "flag",
    "about": "A guided story: one model made many times smaller. Below: what is in the model in view.",
    "order": 0,
    "group": "Start",
}

MOST_DRAWN = 120  # histograms: thousands would hold the browser up
MOST_HISTOGRAMS = 24
FEW_LAYERS = 12  # whose histograms are open at first

subject, key = session.subject(), view.now().live.key
if not story.draw(subject):
    st.stop()
frame.heading(
    "Overview",
    "What is in this model, and where are its bytes? **Open a page of the menu to try a technique on it.**",
    "The recipe is what you build up: each page tries one technique, alone or in the recipe, and Keep puts it in. "
    "Hold the button to see the original.",
    is_second=True,
)
frame.header(subject)
reached = jobs.reached(subject, view.now().live)
if reached is None:
    st.stop()
bundle, large = reached[0], cached.is_large(subject)
is_written = not large or cached.written(subject, key) is not None

with st.container(key="model"):
    model, treemap = st.tabs(["The model", "Every byte"])
with model:
    picture.draw(subject, key, bundle)
with treemap:
    st.plotly_chart(
        overall.treemap(cached.where(subject, key, is_written)),
        key="treemap",
        config={"displayModeBar": False},
        alt="Bytes of the packed file per layer and tensor",
    )
    st.caption(
        "Bytes of the real compressed file, tensor by tensor; every byte of the file is in the picture."
        if is_written
        else "Bytes of the original, 4 for each number: the compressed file is not written yet (at the foot of the page)."
    )

st.subheader("Layers", anchor=False)
st.dataframe(
    cached.layers(subject, key, is_written),
    hide_index=True,
    key="layers",
    column_config={
        "sparsity": st.column_config.ProgressColumn("zeros", format="percent", min_value=0.0, max_value=1.0),
        "weights": st.column_config.NumberColumn(
            "weights",
            format="localized",
            help="Of the matrix or the kernels; biases and batch-norm are not in this table",
        ),
        "macs": st.column_config.NumberColumn(
            "MACs", format="localized", help="Multiply-adds for one input, batch 1"
        ),
        "dense bytes": st.column_config.NumberColumn("dense bytes", format="localized"),
        "packed bytes": st.column_config.NumberColumn("packed bytes", format="localized"),
    },
)
if uncounted := cached.uncounted(subject, key):
    st.caption(uncounted)

held = cached.images(subject)
if held is not None:
    st.subheader("What it says of real samples", anchor=False)
    found, unsaid = None, "Being measured in the background, with the accuracy above."
    try:
        found = cached.answers_so_far(subject, key)
    except SlimscopeError as error:
        unsaid = f"Nothing to show: {error}."
    if found is None:
        st.caption(unsaid)
    else:
        sample, before, said = found
        names, n = cached.classes(subject), len(sample)
        st.html(
            tokens.passages(sample, names, before, said)
            if sample.is_read_on
            else samples(
                sample,
                (
                    (
                        i,
                        f"says {names[said[i]]}",
                        "right" if said[i] == sample.labels[i] else f"wrong: {names[sample.labels[i]]}",
                    )
                    for i in range(0, n, max(1, n // 16))[:16]
                ),
            )
        )


def histograms() -> None:
    """A histogram of the weights of each layer."""
    layers = count.weights(cached.original(subject) if large else bundle)
    if large:
        layers = [(layer, charts.some(weight)) for layer, weight in layers[:MOST_HISTOGRAMS]]
        st.caption(
            f"Of the original; about {charts.MOST_VALUES:,} evenly spaced weights of each of the first {len(layers)} layers."
        )
    elif len(layers) > MOST_DRAWN:
        st.caption(f"The first {MOST_DRAWN} of {len(layers):,} layers.")
        layers = layers[:MOST_DRAWN]
    st.plotly_chart(
        overall.grid_of_histograms(layers),
        key="histograms",
        config={"displayModeBar": False},
        alt="A histogram of the weights of each layer",
    )


if many := len(count.weights(bundle)):
    fold("Weights of every layer", "histograms", histograms, expanded=many <= FEW_LAYERS)
if known := cached.card(session.model()):
    card.draw(known)
footer.draw(footer.tabs("More"), subject)
jobs.wake()
