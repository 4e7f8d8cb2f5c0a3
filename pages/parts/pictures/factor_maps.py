"""What the factors of a teacher's feature maps keep: each map above its reconstruction, image by image."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd
import streamlit as st
import torch

from pages.parts.pictures import picture_of

PIXELS = 64  # of a map's side, at most


def draw(maps: pd.DataFrame) -> None:
    """Two rows of pictures for each image: the most active channels, and what the factors keep of them."""
    if maps.empty:
        return
    st.subheader("What the factors keep", anchor=False)
    channels = maps["channel"].unique().tolist()
    cells = ["<span></span>", *(f'<span class="caption">channel {channel}</span>' for channel in channels)]
    for (image, of), some in maps.groupby(["image", "of"], sort=False):
        cells.append(f'<span class="caption">image {int(str(image)) + 1}, {escape(str(of))}</span>')
        cells += [_picture(row) for row in some.to_dict("records")]
    columns = f"grid-template-columns:7.5rem repeat({len(channels)},minmax(0,{PIXELS}px))"
    st.html(f'<div style="display:grid;gap:4px 6px;align-items:center;{columns}">{"".join(cells)}</div>')
    words = "Dark is the smallest and bright the largest value of a map and its reconstruction together."
    st.caption(
        "The channels of the teacher's last feature maps that are most active for these validation images. "
        f"{words}"
    )


def _picture(row: dict[Any, Any]) -> str:
    """One row of the table as a PNG, with what it shows in words."""
    flat = torch.frombuffer(bytearray.fromhex(row["pixels"]), dtype=torch.uint8)
    url = picture_of(flat.reshape(1, row["height"], row["width"]))
    words = escape(f"Image {row['image'] + 1}, channel {row['channel']}: {row['of']}")
    return f'<img src="{url}" alt="{words}" style="width:100%;image-rendering:pixelated">'
