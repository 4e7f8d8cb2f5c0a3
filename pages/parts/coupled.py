"""What hangs on a filter: its layer's filters to click, lines to every slice, and a cut by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from engine import channels
from engine.channels import Group
from pages.parts import components, frame, knobs, pictures
from pages.parts.live import Look


@st.fragment
def explorer(look: Look, group: Group) -> None:
    """All slices that one filter has, in this layer and elsewhere."""
    frame.redraw()
    key = f"filter-{look.layer}"
    st.subheader("What must go with one filter", anchor=False)
    st.caption(
        f"One residual stream passes {', '.join(group.layers)}: a channel of it goes from all of them at once."
        if group.stream
        else "Click a filter: the lines lead to every slice, in this layer and in others, that has to go with it."
    )
    number = int(st.session_state.setdefault(key, 0))
    components.coupled(
        _message(look, group, number), f"coupled-{look.layer}", partial(_clicked, look.layer, key)
    )
    picker, button = st.columns([3, 1], vertical_alignment="bottom")
    picker.number_input(
        f"Filter of {group.name}",
        0,
        group.channels - 1,
        key=key,
        help="Every slice in the table has to go with this filter, or shapes no longer fit.",
    )
    picked = number in look.step.settings["by_hand"].get(group.name, ())
    button.button(
        "Put it back" if picked else "Take it out",
        key=f"pick-{look.layer}",
        on_click=knobs.pick,
        args=("prune_filters", "by_hand", group.name, number),
        icon=":material/undo:" if picked else ":material/content_cut:",
        help="By hand, whatever its score. Undo takes it back.",
        width="stretch",
    )
    table = channels.goes_with(look.before, group.name, number)
    with st.expander(f"{table['elements'].sum():,} numbers in {len(table)} tensors go with filter {number}"):
        st.dataframe(table, hide_index=True, width="stretch", key="goes-with")


def _clicked(layer: str, key: str) -> None:
    st.session_state[key] = int(st.session_state[f"coupled-{layer}"]["picked"])


def _message(look: Look, group: Group, picked: int) -> dict[str, Any]:
    """The group's filters by rising score, with pictures where they look at the image itself."""
    filters = look.report.tables["filters"]
    own = filters[filters["layer"] == group.name].sort_values("score", kind="stable")
    rows = own["filter"].tolist()  # in the layer's weight; a stream's channels lie in some of them only
    weight = f"{group.name}.weight"
    channel = {
        row: number for part in group.makes if part.param == weight for number, row in enumerate(part.at)
    }
    return {
        "group": group.name,
        "picked": picked,
        "order": [channel[row] for row in rows],
        "scores": own["score"].tolist(),
        "hand": list(look.step.settings["by_hand"].get(group.name, ())),
        "pictures": pictures.of_filters(look.before.params[weight].decode()[rows]),
        "parts": channels.parts_of(look.before, group.name),
    }
