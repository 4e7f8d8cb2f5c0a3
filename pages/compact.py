"""Compact: what does a convolution need to connect?"""

import streamlit as st

from pages.parts import curve, designs, figures, footer, frame, jobs, knobs, session, training, visitor

PAGE = {
    "title": "Compact",
    "icon": "view_module",
    "about": "Put cheaper designs in the place of convolutions: separable, in groups, shuffled, inverted.",
    "order": 75,
    "technique": "replace_convs",
    "group": "Compact",
}
LAYERS = {
    "layer": figures.Column("layer"),
    "replaced": figures.Column("replaced"),
    "weights_before": figures.Column("weights"),
    "weights_after": figures.Column("after"),
    "macs_before": figures.Column("MACs", "MAC"),
    "macs_after": figures.Column("after", "MAC"),
    "error_at_start": figures.Column("error at the start", "share"),
    "error_fitted": figures.Column("fitted", "share"),
    "why": figures.Column("why not"),
}

frame.heading(
    "Compact",
    "What does a convolution need to connect? **Choose a design and see which inputs an output still hears of.**",
    "A standard convolution lets every output read every input at every place of its kernel. Compact designs leave most of "
    "these connections out. Here they take the place of a trained model's convolutions: fitted to what each of these gives, "
    "layer by layer, then trained as a whole by the answers of the model before.",
)
subject = session.subject()
frame.header(subject, PAGE["technique"])
reached = jobs.reached(subject, knobs.before("replace_convs"))
if reached is None:
    st.stop()
settings = knobs.current("replace_convs").settings
layers = designs.of(reached[0])

with st.container(key="workbench"):
    can_train = not visitor.why_idle() and training.suits("replace_convs")
    if can_train:
        training.controls("replace_convs")
    pictures, beside = st.columns(2, gap="medium")
    with pictures:
        st.subheader("Who reads whom", anchor=False)
        layer = designs.chosen(subject, layers)
        rows = designs.rows(layer, settings)
        st.html(designs.grids(layer, rows, settings))
    with beside:
        if can_train:
            curve.draw(subject, "replace_convs", reached[0])
        else:
            st.caption(visitor.why_idle() or "The layer in the pictures is an example of 16 channels.")
        offer = st.container()
    st.html(f'<div data-live="lesson">{designs.lesson(layer, rows).html()}</div>')
tabs = footer.tabs()
with tabs[0]:
    heard, spent = st.columns([2, 3], gap="medium")
    with heard:
        st.subheader("How many inputs an output hears of", anchor=False)
        st.html(designs.reach(layer, rows))
    with spent:
        st.subheader(f"What {layer.label} costs in each design", anchor=False)
        designs.costs(subject, layer, rows)
    if can_train:
        report = training.outcome("replace_convs", offer, "Training the model in its new design")
        if report is not None:
            st.subheader("Layer by layer", anchor=False)
            st.html(figures.table(report.tables["layers"], LAYERS, layer.label))
footer.draw(tabs, subject)
jobs.wake()
