"""How much of each layer alone can be pruned before a net in training loses accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
import torch
from torch import nn

from engine.data.sets import Samples
from engine.figures import measure
from engine.tensor import masks
from engine.types import Progress

BEARABLE = 0.01  # accuracy that a layer may lose when it is pruned alone
SCANNED = 1000  # validation samples of the sensitivity scan
SHARES = (0.3, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.925, 0.95, 0.97, 0.98, 0.99)


@torch.no_grad()
def scan(net: nn.Module, names: Mapping[str, str], samples: Samples, progress: Progress) -> pd.DataFrame:
    """What each layer tolerates alone: layer, sparsity, threshold, accuracy.

    The largest of a few shares at which, the other layers whole, accuracy on the samples is at most
    one point lower; the smallest share where none is tolerated. The net is left as it was.
    """
    whole = measure.share_right(net, samples)
    rows = []
    for label, name in names.items():
        weight = net.get_parameter(name)
        values = weight.detach().clone()
        tolerated: dict[str, Any] = {}
        for share in SHARES:
            progress(0.0)
            kept = masks.by_sparsity(values, share)
            weight.copy_(values * kept)
            accuracy = measure.share_right(net, samples)
            if tolerated and whole - accuracy > BEARABLE:
                break
            threshold = float(values[~kept].abs().max()) if not kept.all() else 0.0
            tolerated = {"layer": label, "sparsity": share, "threshold": threshold, "accuracy": accuracy}
        weight.copy_(values)
        rows.append(tolerated)
    return pd.DataFrame(rows)
