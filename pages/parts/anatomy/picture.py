"""The picture of the model on a page: boxes to click, what colours them, and which layer is chosen."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from engine.net import anatomy
from engine.net.anatomy import CONCATENATION, INPUT, OUTPUT, PRODUCT, SUM, Anatomy, Node
from engine.types import Bundle
from pages.parts import components, layers, menu
from pages.parts.anatomy import measures
from pages.parts.anatomy.colours import paint
from pages.parts.anatomy.layout import Layout, in_one_line, laid_out
from pages.parts.anatomy.measures import Measure
from pages.parts.anatomy.sizes import shortened

WIDTHS = (900, 700, 340)  # pixels that a picture is laid out for: the browser takes the widest that has room
SIGNS = {SUM: "+", PRODUCT: "\N{MULTIPLICATION SIGN}", CONCATENATION: "‖"}
STEPS = 8  # colours that the scale is drawn with
LEADS = ("prune", "quantize", "low_rank")  # pages that the picture leads to


@st.fragment
def draw(subject: str, key: str, bundle: Bundle) -> None:
    """The whole picture, the choice of its colour, and the chosen layer in words."""
    choice = st.segmented_control(
        "Colour",
        list(measures.OF),
        default=next(iter(measures.OF)),
        key="anatomy-colour",
        required=True,
        help="What the colour of a layer stands for: the darker (on a dark page the brighter), the more.",
        label_visibility="collapsed",
    )
    found = anatomy.of(bundle)
    if not found.layers:
        st.caption("There is no matrix or kernel in this model: nothing to draw.")
        return
    measure = measures.of(choice, subject, key)
    if measure.missing:
        st.caption(measure.missing)
    labels = [node.layer for node in found.layers]
    _component(found, measure, "anatomy", laid_out, labels, layers.among(labels))
    if found.note:
        st.caption(found.note)
    with st.container(horizontal=True, vertical_alignment="center", key="lead-on"):
        st.caption("Choose a layer, and every page opens on it:", width="content")
        for name in LEADS:
            menu.link_to(name)


def strip(bundle: Bundle, labels: Sequence[str], chosen: str) -> None:
    """The model in one slim line, coloured by the number of weights; of its layers `labels` can be chosen."""
    _component(anatomy.of(bundle), measures.weights(bundle), "layers-in-a-line", in_one_line, labels, chosen)


def _component(
    found: Anatomy,
    measure: Measure,
    key: str,
    lay_out: Callable[[Anatomy, float], Layout],
    labels: Sequence[str],
    chosen: str,
) -> None:
    message = {
        "title": _title(found),
        "slim": key == "layers-in-a-line",
        "nodes": {node.name: _node(node, measure, node.layer in labels) for node in found.nodes},
        "layouts": [_layout(found, width, lay_out(found, width)) for width in WIDTHS],
        "chosen": chosen,
        "turn": layers.turn(),
        "scale": _scale(measure),
    }
    components.anatomy(message, key, functools.partial(_clicked, key))


def _clicked(key: str) -> None:
    """A click, or Enter on a layer."""
    told = st.session_state[key]["chosen"]
    if isinstance(told, dict):
        layers.choose(str(told["layer"]), int(told["turn"]))


def _title(found: Anatomy) -> str:
    """The picture in a sentence, for those who hear it."""
    shortcuts = sum(edge.shortcut for edge in found.edges)
    words = f"The model as {len(found.layers)} layers"
    return f"{words} and {shortcuts} shortcuts past some of them" if shortcuts else words


def _node(node: Node, measure: Measure, is_open: bool) -> dict[str, Any]:
    """A box: its words, its colours, and what is read out of it."""
    own = node.layer if node.layer == node.name else ""
    value = measure.text(own)
    colour = paint(measure.share(own)) if value else None
    return {
        "layer": node.layer,
        "open": is_open,
        "role": node.role,
        "name": node.name,
        "about": ", ".join(filter(None, (*_about(node, measure.unit), measure.sentence(own)))),
        "leaf": _leaf(node),
        "value": _shape(node.output) if node.role in (INPUT, OUTPUT) else value,
        "sign": SIGNS.get(node.role, "•"),
        "fill": colour and colour.fill,
        "ink": colour and colour.ink,
        "loops": node.loops,
        "used": node.used,
    }


def _about(node: Node, unit: str) -> list[str]:
    return [
        node.kind,
        f"output {_shape(node.output)}" if node.output else "",
        f"{node.weights:,} weights" if node.weights and unit != "weights" else "",
        "reads what it made before" if node.loops else "",
        "" if node.used else "not used",
    ]


def _leaf(node: Node) -> str:
    return node.name.rpartition(".")[2] if node.layer else node.name


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _layout(found: Anatomy, width: int, drawn: Layout) -> dict[str, Any]:
    return {
        "across": width,
        "width": drawn.width,
        "height": drawn.height,
        "boxes": {
            node.name: [*drawn.boxes[node.name], shortened(_leaf(node), drawn.boxes[node.name].width)]
            for node in found.nodes
        },
        "paths": [{"points": path.points, "shortcut": path.shortcut} for path in drawn.paths],
        "headings": [heading._asdict() for heading in drawn.headings],
    }


def _scale(measure: Measure) -> dict[str, Any] | None:
    """The legend: what the colours mean, from nothing to the most."""
    if measure.most <= 0:
        return None
    colours = [paint(step / (STEPS - 1)).fill for step in range(STEPS)]
    return {"colours": colours, "low": "0", "high": measure.said(measure.most), "about": measure.about}
