"""Encode: how short can the same numbers be written?"""

import streamlit as st

from engine.types import weight_layers
from pages.parts import encoding, footer, frame, jobs, order_lab, session, view

PAGE = {
    "title": "Encode",
    "icon": "barcode",
    "about": "How short the same numbers can be written: Huffman's tree, entropy, contexts, in real bytes.",
    "order": 68,
    "group": "Quantize",
}

frame.heading(
    "Encode",
    "How short can the same numbers be written? **Step through the tree, then compare the coders.**",
    "Nothing is lost here: frequent numbers get short codes. The packed file takes the shortest of its coders by itself, "
    "tensor by tensor; this page shows what each of them makes of one layer.",
)
subject = session.subject()
frame.header(subject)
reached = jobs.reached(subject, view.now().live)
if reached is None:
    st.stop()
key = encoding.shown_key(subject)
layer = st.selectbox(
    "Layer",
    list(weight_layers(encoding.bundle_of(subject, key))),
    key=f"layer-encode-{subject}",
    help="Which layer's numbers are coded on this page.",
    width=300,
)
stream = encoding.stream(subject, key, layer)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("How often each symbol occurs", anchor=False)
    st.plotly_chart(
        encoding.counts_chart(stream),
        key="counts",
        config={"displayModeBar": False},
        alt=f"Counts of the symbols of {layer}, with the lengths of their Huffman codes",
    )
    st.html(encoding.in_words(stream))
with right:
    st.subheader("Huffman's tree, step by step", anchor=False)
    encoding.tree(stream)
st.subheader("The first symbols as bits", anchor=False)
st.html(encoding.ribbon(stream))
st.subheader("The coders side by side, in real bytes", anchor=False)
st.html(encoding.coders(subject, key, layer))
st.html(encoding.where_the_rest_goes(subject, key, layer))
st.subheader("The same layer: raw, pruned, quantized, shared", anchor=False)
st.html(encoding.states(subject, key, layer))
st.subheader("Distances instead of places (Deep Compression)", anchor=False)
st.html(encoding.distances(subject, key, layer))
st.subheader("Order lab: the same steps in every order", anchor=False)
order_lab.draw(subject)
footer.draw(footer.tabs("More"), subject)
jobs.wake()
