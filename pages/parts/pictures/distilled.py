"""Images as they are distilled: the same few after more and more steps, a row for each."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
import torch

from pages.parts.pictures import gallery, picture_of


def draw(images: pd.DataFrame) -> None:
    """A row of images for each of the steps that were kept; nothing where inputs are no images."""
    rows = [row for row in images.to_dict("records") if row["channels"] in (1, 3)]
    if not rows:
        return
    st.subheader("From noise to images", anchor=False)
    for step in dict.fromkeys(row["step"] for row in rows):
        when = f"after {step:,} steps" if step else "noise at first"
        st.html(gallery((_url(r), f"image {r['image'] + 1}", when) for r in rows if r["step"] == step))


def _url(row: dict[Any, Any]) -> str:
    """One row of the table as a PNG."""
    flat = torch.frombuffer(bytearray.fromhex(row["pixels"]), dtype=torch.uint8)
    return picture_of(flat.reshape(row["channels"], row["height"], row["width"]))
