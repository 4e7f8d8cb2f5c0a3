"""Which channels a convolution connects: a grid for each part of a design, coloured by groups of inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from engine.tensor.compact import Design, channel_order, stages
from pages.parts import charts, pictures
from pages.parts.weight_maps import Picture

TALL = 96  # px of a grid
MIXED = "#5b6573"  # a channel that hangs on several groups
EMPTY = "#f2f2f2"
COLOURS = (EMPTY, *charts.SERIES[:6], MIXED)
TINTS = len(COLOURS) - 2
ALL = len(COLOURS) - 1


def drawn(design: Design, inputs: int, outputs: int, groups: int, title: str) -> str:
    """The design's grids in a row: a row for each output of a part, a column for each input, as they stand."""
    parts, colours = stages(design, inputs, outputs), torch.arange(inputs) * groups // inputs % TINTS + 1
    shown = []
    for number, part in enumerate(parts, 1):
        order = torch.arange(part.shape[1])
        if design.name == "shuffled" and number == 2:  # behind the shuffle
            order = channel_order(outputs, design.groups)
        alt = f"{title}, part {number} of {len(parts)}: which of {part.shape[1]} channels each of {len(part)} reads"
        shown.append(pictures.of_tensor(_picture(part[:, order], colours[order]), alt, TALL))
        colours = _of_outputs(part, colours)
    return f'<div style="display:flex;gap:.3rem;align-items:flex-start">{"".join(shown)}</div>'


def _picture(part: Tensor, colours: Tensor) -> Picture:
    palette = np.array([list(bytes.fromhex(colour[1:])) for colour in COLOURS], np.uint8)
    return Picture((part * colours).to(torch.uint8).numpy(), palette)


def _of_outputs(part: Tensor, colours: Tensor) -> Tensor:
    """The colour of each output: that of all it reads, or the one for several."""
    read = part * colours
    least = torch.where(part, read, ALL).amin(1)
    return torch.where(read.amax(1) == least, least, ALL)


def legend(groups: int) -> str:
    """What colours mean; after a few groups they come again."""
    named: Sequence[tuple[str, str]] = [
        (COLOURS[1 + number], f"group {number + 1}") for number in range(min(groups, TINTS))
    ]
    return pictures.legend(*named, (MIXED, "several groups"))
