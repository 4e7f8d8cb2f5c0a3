"""Channels in tables: what goes with each, where all of them lie, and how much smaller layers became."""

from __future__ import annotations

from typing import Any

import pandas as pd
import torch

from engine.net import kinds
from engine.net.channels.groups import groups
from engine.net.channels.parts import Part, check_channels, known_group
from engine.types import Bundle, weight_layers

NORMAL = {
    "weight": "batch-norm scale",
    "bias": "batch-norm shift",
    "running_mean": "batch-norm mean",
    "running_var": "batch-norm variance",
}


STATISTICS = (NORMAL["running_mean"], NORMAL["running_var"])  # numbers that are not trained


def goes_with(bundle: Bundle, group: str, index: int) -> pd.DataFrame:
    """One row per slice that goes with one channel: parameter, role, what, axis, start, stop, elements.

    `role` is `makes` or `reads`; `start` and `stop` are places along `axis`; `elements` counts the
    numbers in the slice. The sum is not what `keep` saves for many channels: slices cross.

    >>> from engine.net import zoo
    >>> goes_with(zoo.initial("lenet-5"), "conv1", 3)[["parameter", "what", "elements"]].values.tolist()
    [['conv1.weight', 'filter', 25], ['conv1.bias', 'bias', 1], ['conv2.weight', 'input slice', 1250]]
    """
    one = known_group(groups(bundle), group)
    check_channels(one, [index])
    rows = [
        _slice(bundle, part, role, index)
        for role, parts in (("makes", one.makes), ("reads", one.reads))
        for part in parts
    ]
    return pd.DataFrame(rows)


def parts_of(bundle: Bundle, group: str) -> list[dict[str, Any]]:
    """Where all channels of a group lie, a row for each layer that makes or reads them, batch-norm too.

    `layer`, `role` (`makes` or `reads`), `what` of it goes with a channel, `elements` (its numbers); channel
    c has `block` places from `at[c]` on, of `of` along the axis.

    >>> from engine.net import zoo
    >>> [(row["layer"], row["what"], row["of"]) for row in parts_of(zoo.initial("lenet-5"), "conv1")]
    [('conv1', 'filter, bias', 20), ('conv2', 'input slice', 20)]
    """
    one = known_group(groups(bundle), group)
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for role, parts in (("makes", one.makes), ("reads", one.reads)):
        for part in parts:
            found, layer = _slice(bundle, part, role, 0), part.param.rpartition(".")[0]
            of = bundle.params[part.param].shape[part.axis]
            fresh = {"layer": layer, "role": role, "what": [], "elements": 0, "of": of}
            row = rows.setdefault((layer, role), fresh | {"block": part.block, "at": list(part.at)})
            row["what"].append("batch-norm" if found["what"] in NORMAL.values() else found["what"])
            row["elements"] += found["elements"]
    return [{**row, "what": ", ".join(dict.fromkeys(row["what"]))} for row in rows.values()]


LAYER_COLUMNS = (
    "layer",
    "weights",
    "weights_after",
    "filters",
    "kept",
    "removed",
    "sparsity",
    "macs_before",
    "macs_after",
)


def layer_table(before: Bundle, after: Bundle) -> pd.DataFrame:
    """Every layer, also those that only lose what they read, so that columns add up to the net's."""
    used = [kinds.weight_table(bundle) for bundle in (before, after)]
    macs, kind = [table["macs"].to_dict() for table in used], used[0]["type"].to_dict()
    rows = []
    for label, name in weight_layers(before).items():
        old, new = (torch.Size(b.params[name].shape) for b in (before, after))
        axis = int(kind.get(name) == "Embedding")  # its channels are columns
        made, left = old[axis], new[axis]
        sizes = (old.numel(), new.numel(), made, left, made - left, 1 - left / made)
        rows.append((label, *sizes, *(table.get(name, 0) for table in macs)))
    return pd.DataFrame(rows, columns=LAYER_COLUMNS)


def _slice(bundle: Bundle, part: Part, role: str, index: int) -> dict[str, Any]:
    shape = bundle.params[part.param].shape
    module, _, leaf = part.param.rpartition(".")
    if role == "reads":
        what = "input slice"
    elif len(shape) > 1:
        what = "filter"
    else:
        what = NORMAL[leaf] if f"{module}.running_mean" in bundle.params else leaf
    places = part.places(index)
    return {
        "parameter": part.param,
        "role": role,
        "what": what,
        "axis": part.axis,
        "start": places.start,
        "stop": places.stop,
        "elements": torch.Size(shape).numel() // shape[part.axis] * part.block,
    }
