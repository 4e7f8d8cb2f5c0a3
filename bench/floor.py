"""The floor: a page with one slider and one number, served as slimscope is. Nothing can be faster."""

import streamlit as st
import torch

torch.set_num_threads(1)


@st.fragment
def live() -> None:
    value = st.slider("value", 0, 1000, 0, key="value")
    st.html(f'<div class="tiles"><div class="tile">{value}</div></div>')


live()
