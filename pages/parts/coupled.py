"""What hangs on a filter: its layer's filters to click, lines to every slice, and a cut by hand."""

from __future__ import annotations

from functools import partial
from typing import Any

import streamlit as st

from engine.net import channels
from engine.net.channels import Group
from pages.parts import components, knobs, pictures, strip
from pages.parts.live import Scene

STEP = "prune_filters"
COLOURS = "Darker is a larger score; filters that look at the image are drawn, orange below zero, blue above."
TURN = "coupled-turn"  # clicks that the server has heard of: an answer to an older one undoes no newer one


@st.fragment
def explorer(scene: Scene, group: Group) -> None:
    """All slices that one filter has, in this layer and elsewhere."""
    strip.redraw()
    key = f"filter-{scene.layer}"
    st.subheader("What must go with one filter", anchor=False)
    st.caption(
        f"One residual stream passes {', '.join(group.layers)}: a channel of it goes from all of them at once."
        if group.stream
        else "Click a filter: the lines lead to every slice, in this layer and in others, that has to go with it."
    )
    number = min(int(st.session_state.get(key, 0)), group.channels - 1)  # the net may have become narrower
    st.session_state[key] = number
    components.coupled(
        _message(scene, group, number), f"coupled-{scene.layer}", partial(_clicked, scene.layer, key)
    )
    st.caption("Framed: picked. Faded: gone, by the slider or by hand. " + COLOURS)
    picker, button = st.columns([3, 1], vertical_alignment="bottom")
    picker.number_input(
        f"Filter of {group.name}",
        0,
        group.channels - 1,
        key=key,
        help="Every slice in the table has to go with this filter, or shapes no longer fit.",
    )
    by_hand = scene.step.settings["by_hand"].get(group.name, ())
    picked = number in by_hand
    button.button(
        "Put it back" if picked else "Take it out",
        key=f"pick-{scene.layer}",
        on_click=_cut,
        args=(group.name, key),
        disabled=not picked and len(by_hand) + 1 >= group.channels,
        icon=":material/undo:" if picked else ":material/content_cut:",
        help="By hand, whatever its score and the slider; at least one filter stays. Undo takes it back.",
        width="stretch",
    )
    table = channels.goes_with(scene.before, group.name, number)
    statistics = table.loc[table["what"].isin(channels.STATISTICS), "elements"].sum()
    words = f"{table['elements'].sum():,} numbers in {len(table)} tensors go with filter {number}"
    with st.expander(words + (f"; {statistics:,} are statistics, not parameters" if statistics else "")):
        st.dataframe(table, hide_index=True, width="stretch", key="goes-with")
        st.caption("Counted in the model as it enters this step: slices that two filters share go once.")


def _clicked(layer: str, key: str) -> None:
    picked = st.session_state[f"coupled-{layer}"]["picked"]
    st.session_state[key], st.session_state[TURN] = int(picked["number"]), int(picked["turn"])


def _cut(group: str, key: str) -> None:
    """The filter that is picked by now goes, or comes back."""
    knobs.pick(STEP, "by_hand", group, st.session_state[key])


def _message(scene: Scene, group: Group, picked: int) -> dict[str, Any]:
    """The group's filters by rising score, with pictures where they look at the image itself."""
    filters = scene.report.tables["filters"]
    own = filters[filters["layer"] == group.name].sort_values("score", kind="stable")
    rows = own["filter"].tolist()  # in the layer's weight; a stream's channels lie in some of them only
    weight = f"{group.name}.weight"
    made = next(part for part in group.makes if part.param == weight)
    channel = {row: number for number, row in enumerate(made.at)}
    known = channels.groups(scene.before).values()
    reads = any(part.param == weight for other in known for part in other.reads)  # else it looks at the image
    return {
        "group": group.name,
        "picked": picked,
        "turn": st.session_state.get(TURN, 0),
        "order": [channel[row] for row in rows],
        "scores": own["score"].tolist(),
        "hand": list(scene.step.settings["by_hand"].get(group.name, ())),
        "chart": "ranking" if len(rows) == group.channels else "",  # whose bands say which ranks go
        "pictures": []
        if reads
        else pictures.of_filters(scene.before.params[weight].decode().movedim(made.axis, 0)[rows]),
        "parts": channels.parts_of(scene.before, group.name),
    }
