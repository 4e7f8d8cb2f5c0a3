"""The least that draws a picture: imports torch and streamlit, one Plotly chart."""

import streamlit as st
import torch

torch.set_num_threads(1)
values = torch.randn(1000, generator=torch.Generator().manual_seed(0))
st.plotly_chart({"data": [{"type": "histogram", "x": values.tolist()}]}, key="chart")
