"""Weight-only: which way to round loses least of what a layer does, at the same bits?"""

import pandas as pd
import streamlit as st

from engine.figures import weight_only
from engine.net import embeddings
from engine.tensor.weight_only import METHODS, NF4, winner
from engine.types import Bundle
from pages.parts import cached, charts, figures, frame, knobs
from pages.parts.figures import caption
from pages.parts.frame import Place
from pages.parts.lesson import Lesson
from pages.parts.live import Marks, Scene, Update

PAGE = {
    "title": "Weight-only",
    "icon": "compress",
    "about": "Round weights alone to 4, 3 or 2 bits in small groups: nearest, GPTQ, AWQ, HQQ, NF4.",
    "order": 64,
    "technique": "weight_only",
    "group": "Quantize",
}
WIDTHS = (2, 3, 4, 6, 8)
PICTURED = ("group", "range", "damping", "act_order", "p", "samples", "seed")


def is_rounded(bundle: Bundle, weight: str) -> bool:
    """Whether a weight may be looked at: tables of word vectors only where they are rounded."""
    whole, at = knobs.shown(PAGE["technique"])
    return whole.steps[at].settings["include_embedding"] or weight not in embeddings.of(bundle).values()


def of_bits(scene: Scene, bits: int) -> pd.DataFrame:
    """Every method on the layer in view at one width; NF4 has 4 bits, whatever the others have."""
    chosen = scene.step.settings
    said = {name: chosen[name] for name in PICTURED}

    def work() -> dict[str, list[object]]:
        data = cached.images(scene.subject)
        assert data is not None
        rows = weight_only.of_layer(scene.before, data, scene.layer, chosen, (bits,))
        return {str(name): column.tolist() for name, column in rows.items()}

    question = f"weight-only {scene.subject} {scene.key} {scene.layer} {bits} {said}"
    return pd.DataFrame(cached.answer(question, work))


def hero(scene: Scene, place: Place) -> None:
    st.subheader("Every method at its real bits", anchor=False)
    rows = pd.concat([of_bits(scene, bits) for bits in WIDTHS])
    rows = rows.assign(method=rows["method"].map(METHODS)).sort_values("bits", kind="stable")
    of = rows["of"].iloc[0]
    drawn = charts.lines(
        rows,
        "bits_per_weight",
        "error",
        "method",
        titles=("bits a weight, scales and all", f"error of the {of}"),
        height=225,
    )
    drawn["layout"]["yaxis"] |= {"type": "log", "tickformat": ".2~%"}
    st.plotly_chart(
        drawn,
        key="methods",
        config={"displayModeBar": False},
        alt=f"Error of the {of} of {scene.layer} against bits a weight, a line for each method",
    )
    place("winner")


def deeper(scene: Scene, place: Place) -> None:
    st.caption(
        "Each method alone on this layer: what enters it is as the model before this step gives it. Lines have points at 2, "
        "3, 4, 6 and 8 bits; NF4 has 4 only. AWQ's factors count as stored beside the codes; in the model, those that the "
        "operation before takes up cost nothing."
    )
    st.subheader("At these bits, method by method", anchor=False)
    place("methods")
    st.subheader("Layer by layer", anchor=False)
    place("layers")


def update(scene: Scene) -> Update:
    rows = of_bits(scene, bits_of(scene))
    table = figures.table(
        rows.assign(layer=rows["method"].map(METHODS)),
        {
            "layer": figures.Column("method"),
            "bits": figures.Column("bits"),
            "bits_per_weight": figures.Column("with scales", "bits"),
            "bytes": figures.Column("at fixed width", "B"),
            "error": figures.Column(f"error of the {rows['of'].iloc[0]}", "share"),
        },
        METHODS[scene.step.settings["method"]],
    )
    left = "" if scene.row else figures.left_out(scene.layer)
    html = {"winner": caption(said_of(rows)), "methods": table, "layers": left + layers(scene)}
    return Update(here(scene, rows), html, lesson(scene, rows))


def bits_of(scene: Scene) -> int:
    """The width in hand."""
    settings = scene.step.settings
    return NF4 if settings["method"] == "nf4" else int(settings["bits"])


def here(scene: Scene, rows: pd.DataFrame) -> Marks:
    """Where the chosen method stands."""
    own = rows[rows["method"] == scene.step.settings["method"]].iloc[0]
    words = f"{METHODS[own['method']]}, {own['bits']} bits"
    return {
        "methods": [{"kind": "line", "at": own["bits_per_weight"], "colour": charts.CHANGED, "text": words}]
    }


def said_of(rows: pd.DataFrame) -> str:
    """Who wins at this width, and whether it takes as many bits as rounding to nearest."""
    by = rows.set_index("method")
    best, plain = by.loc[winner(rows)], by.loc["rtn"]
    name = METHODS[str(best.name)]
    if best.name == "rtn":
        return (
            f"At {plain['bits']} bits nothing beats rounding to nearest here: {100 * plain['error']:.3g} %."
        )
    more = best["bits_per_weight"] / plain["bits_per_weight"] - 1
    price = (
        "the same bits"
        if abs(more) < 0.0005
        else f"{abs(100 * more):.2g} % {'more' if more > 0 else 'fewer'} bits"
    )
    return (
        f"At {plain['bits']} bits {name} wins: its {best['of']} are off by {100 * best['error']:.3g} %, those of nearest "
        f"levels by {100 * plain['error']:.3g} %, with {price}."
    )


def lesson(scene: Scene, rows: pd.DataFrame) -> Lesson:
    by = rows.set_index("method")
    ratio = by.loc["rtn", "error"] / max(by.loc["gptq", "error"], 1e-12)
    known = {figure.name: figure for figure in scene.report.figures}
    tables = known.get("embeddings")
    bits, whole = int(by.loc["rtn", "bits"]), float(by.loc["rtn", "bits_per_weight"])
    trap = (
        f"Bits are not the whole price: {bits} bits in groups of {scene.step.settings['group']} are {whole:.3g} bits a weight, "
        "since each group has a scale."
    )
    if tables is not None:
        trap = (
            f"Papers say 3 bits and mean the body: here {100 * tables.value:.0f} % of the weights' bits are tables of word "
            "vectors. Switch them in, and look what that costs."
        )
    return Lesson(
        "A layer forgives much of what is done to its weights, if the errors cancel in its outputs: at these bits GPTQ "
        f"loses {ratio:.2g} times less than nearest levels in {scene.layer}, and nothing is trained."
        if ratio > 1.05
        else "Methods differ where bits are few: at many bits the nearest level is good enough.",
        trap,
        tables is not None and tables.value > 0.5,
    )


def layers(scene: Scene) -> str:
    """What the step did to each layer."""
    rows = scene.report.tables["layers"]
    columns = {
        "layer": figures.Column("layer"),
        "weights": figures.Column("weights"),
        "bits_per_weight": figures.Column("with scales", "bits"),
        "error_method": figures.Column("output error", "share"),
        "error_nearest": figures.Column("nearest", "share"),
        "alpha": figures.Column("alpha"),
        "factors": figures.Column("factors"),
        "sqnr_db": figures.Column("signal to noise", "dB"),
    }
    return figures.table(rows, {x: column for x, column in columns.items() if x in rows}, scene.layer)


frame.heading(
    "Weight-only",
    "Which way to round loses least of what a layer does, at the same bits? **Go from 4 bits to 2, and watch the methods "
    "part.**",
    "What language models are shipped as: weights in 4 bits or fewer, in groups with a scale each, and everything else in "
    "floats. GPTQ lets later weights make up for earlier errors, AWQ spares the inputs that are large, HQQ moves the zero "
    "point without seeing data, and NF4 has the quantiles of a normal distribution as its levels.",
)
frame.workbench("weight_only", hero, update, lambda scene, setting, stops: None, deeper, is_rounded)
