"""One layer rounded by every weight-only method: what each loses of its outputs, at which real bits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from engine.data.sets import Data
from engine.net import matching
from engine.tensor.weight_only import METHODS, NF4, Way, compared
from engine.types import Bundle, weight_layers


def of_layer(
    bundle: Bundle, data: Data, label: str, settings: Mapping[str, Any], widths: Sequence[int]
) -> pd.DataFrame:
    """A row for each method and width, NF4 where 4 bits are among these: columns COLUMNS, and `of`.

    `settings` are those of the technique weight_only. Inputs are as the bundle gives them, with no layer
    before rounded. `of` says of what the error is: `outputs`, or of `values` where outputs are no matrix
    times what enters the layer.
    """
    values = bundle.params[weight_layers(bundle)[label]].decode()
    rows = None
    if values[0].numel() <= matching.WIDEST:
        seen = (settings["samples"], matching.PLACES, settings["seed"])
        rows = matching.entering(bundle, data.train, label, *seen)
    fitted = 0 if rows is None else len(rows) - len(rows) // matching.CHECKED
    fit, check = (None, None) if rows is None else (rows[:fitted], rows[fitted:])
    own = [settings[name] for name in ("group", "range", "damping", "act_order", "p")]
    ways = [
        Way(method, bits, *own) for method in METHODS for bits in widths if method != "nf4" or bits == NF4
    ]
    return compared(values, fit, check, ways).assign(of="values" if rows is None else "outputs")
