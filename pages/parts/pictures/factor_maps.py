"""What the factors of a teacher's feature maps keep: each map above its reconstruction, a row for each image."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
import torch

from pages.parts.figures import caption
from pages.parts.pictures import gallery, picture_of


def draw(maps: pd.DataFrame) -> None:
    """Two rows of pictures for each image: the most active channels, and what the factors keep of them."""
    if maps.empty:
        return
    st.subheader("What the factors keep", anchor=False)
    for (image, of), some in maps.groupby(["image", "of"], sort=False):
        names = (f"channel {row['channel']}" for row in some.to_dict("records"))
        urls = (_url(row) for row in some.to_dict("records"))
        st.html(gallery((url, name, str(of)) for url, name in zip(urls, names, strict=True)))
        if of == maps["of"].iloc[-1]:
            st.html(caption(f"Validation image {int(str(image)) + 1}."))
    words = "Dark is the smallest and bright the largest value of a map and its reconstruction together."
    st.caption(
        f"The channels of the teacher's last feature maps that are most active for these images. {words}"
    )


def _url(row: dict[Any, Any]) -> str:
    """One row of the table as a PNG."""
    flat = torch.frombuffer(bytearray.fromhex(row["pixels"]), dtype=torch.uint8)
    return picture_of(flat.reshape(1, row["height"], row["width"]))
