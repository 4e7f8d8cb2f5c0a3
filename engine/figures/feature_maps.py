"""Feature maps as pictures: what a model gives for a few images, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import torch
from torch import Tensor, nn

COLUMNS = ("image", "channel", "of", "height", "width", "pixels")
IMAGES, CHANNELS = 3, 6  # that are drawn
WHOLE, LEFT = "teacher's map", "from its factors"


@torch.inference_mode()
def reconstructed(
    read: Callable[[Tensor], tuple[Tensor, Tensor]], paraphraser: nn.Module, inputs: Tensor
) -> pd.DataFrame:
    """The maps of the channels that are most active for some inputs, and their reconstructions.

    `read` gives maps (n, channels, h, w) and answers. Columns COLUMNS: pixels as bytes in hex digits, of both
    pictures of a channel from the smallest of their values to the largest.
    """
    maps, _ = read(inputs)
    again = paraphraser(maps)
    strongest = maps.square().sum((0, 2, 3)).topk(min(CHANNELS, maps.shape[1])).indices.tolist()
    rows = []
    for image in range(len(maps)):
        for channel in strongest:
            pair = torch.stack([maps[image, channel], again[image, channel]])
            low, high = pair.aminmax()
            pixels = ((pair - low) / (high - low).clamp(min=1e-12) * 255).to(torch.uint8)
            for of, each in zip((WHOLE, LEFT), pixels, strict=True):
                rows.append((image, channel, of, *each.shape, each.numpy().tobytes().hex()))
    return pd.DataFrame(rows, columns=COLUMNS)
