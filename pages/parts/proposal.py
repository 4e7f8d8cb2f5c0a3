"""What a visitor's file is taken for: a question at the top of the page, and the answer in the sidebar.

Until it is answered the file is bare weights, and nothing is measured. A link may bring a suggestion,
and never an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from engine.data import sets
from engine.figures import measure
from engine.file.recognise import Proposal
from engine.jobs import tasks
from engine.types import SlimscopeError
from pages.parts import cached, session

LISTED = 400  # renamed tensors that are shown
NAMES = {"mnist": "MNIST, handwritten digits", "cifar10": "CIFAR-10, small photos"}
OWN = "own"


def ask() -> None:
    """The question, above every page, until it is answered; after it a warning where the answer looks wrong."""
    if session.model() not in session.files():
        return
    found = cached.proposal(session.model())
    if found is None or session.is_declined():
        return
    if session.scaling():
        _warn()
        return
    with st.container(border=True, key="proposal"):
        _question(found)


def about() -> None:
    """What the file in view is taken for, and a way to take the answer back."""
    found = cached.proposal(session.model())
    if found is None:
        st.info(
            "No known architecture fits these keys and shapes: explored as bare weights. Accuracy, latency and "
            "training need a known one."
        )
        return
    if session.scaling():
        st.info(f"You said: this is {found.entry.title}, and its inputs were {_spoken(session.scaling())}.")
    elif session.is_declined():
        st.info(f"You said: weights only, and not {found.entry.title}. Nothing is measured that runs a net.")
    else:
        st.info(f"May be {found.entry.title}: say so at the top of the page, and it is measured.")
        return
    st.button("Ask me again", icon=":material/undo:", key="ask-again", on_click=session.ask_again)


# ---------------------------------------------------------------- the question


def _question(found: Proposal) -> None:
    title = str(session.files()[session.model()]["title"])
    st.markdown(f"#### Is this file {found.entry.title}?")
    fits = "names and shapes" if found.is_exact else "shapes, under other names,"
    st.markdown(
        f"`{title.replace('`', '')}` has the {fits} of this net. They do not tell its activation, what it was "
        "trained on, or how its inputs were scaled. So nothing that runs the net is measured before you say "
        "that all of this holds:"
    )
    st.html(_facts(found))
    if not found.is_exact:
        with st.expander(f"Which of the {len(found.names)} tensors is taken for which"):
            st.html(_mapping(found))
    suggested = _readable(session.suggested(), found)
    if suggested:
        st.caption(f"The link that you opened measures it with inputs {_spoken(suggested)}.")
    with st.container(horizontal=True):
        st.button(
            "Yes, measure it so",
            key="proposal-yes",
            type="primary",
            icon=":material/check:",
            on_click=session.confirm,
            args=(found.entry.data,),
        )
        if suggested and suggested != found.entry.data:
            st.button(
                "Yes, with the link's input scaling",
                key="proposal-link",
                icon=":material/link:",
                on_click=session.confirm,
                args=(suggested,),
            )
        other = st.toggle("Other input scaling", key=f"proposal-other-{session.model()}")
        st.button("No: weights only", key="proposal-no", icon=":material/block:", on_click=session.decline)
    if other:
        _other(found)


def _facts(found: Proposal) -> str:
    entry, (mean, std) = found.entry, found.scaling
    rows = {
        "Architecture": f"{entry.title}: {entry.about}",
        "Activation": entry.activation,
        "Trained on": NAMES.get(entry.data, entry.data),
        "Inputs": f"pixels from 0 to 1, {_standardised(mean, std)}",
    }
    cells = (f"<tr><td>{name}</td><td class='text'>{escape(text)}</td></tr>" for name, text in rows.items())
    return f"<table class='slim-table facts'>{''.join(cells)}</table>"


def _mapping(found: Proposal) -> str:
    shapes = {n: tuple(p.shape) for n, p in cached.original(session.subject()).params.items()}
    rows = [
        f"<tr><td>{escape(own)}</td><td class='text'>{escape(ours)}</td><td>{' x '.join(map(str, shapes[own]))}</td></tr>"
        for own, ours in list(found.names.items())[:LISTED]
    ]
    head = "<tr><th>in the file</th><th>taken for</th><th>shape</th></tr>"
    return f"<div class='scroll'><table class='slim-table'>{head}{''.join(rows)}</table></div>"


def _other(found: Proposal) -> None:
    """Other scalings of the inputs than the zoo's."""
    name, (mean, std) = found.entry.data, found.scaling
    ones = (1.0,) * len(mean)
    presets = {
        tasks.data_spec(name, (0.0,) * len(mean), ones): "from 0 to 1",
        tasks.data_spec(name, (0.5,) * len(mean), (0.5,) * len(mean)): "from -1 to 1",
        name: f"standardised as the zoo does: {_standardised(mean, std)}",
        OWN: "by a mean and deviation of my own",
    }
    picked = st.radio(
        "Inputs were", list(presets), format_func=presets.get, key=f"proposal-scale-{session.model()}"
    )
    if picked == OWN:
        picked = _own(name, mean, std)
    st.button(
        "Measure it with these inputs",
        key="proposal-scaled",
        type="primary",
        icon=":material/check:",
        on_click=session.confirm,
        args=(picked,),
    )


def _own(name: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """A mean and a deviation for each channel, of pixels from 0 to 1."""
    channels = ("red", "green", "blue") if len(mean) == 3 else ("",) * len(mean)
    means, stds = [], []
    for place, column in enumerate(st.columns(len(mean))):
        word = f" of {channels[place]}" if channels[place] else ""
        key = f"{session.model()}-{place}"
        means.append(
            column.number_input(f"Mean{word}", -10.0, 300.0, mean[place], format="%.4f", key=f"mean-{key}")
        )
        stds.append(
            column.number_input(
                f"Deviation{word}", 0.0001, 300.0, std[place], format="%.4f", key=f"std-{key}"
            )
        )
    return tasks.data_spec(name, tuple(means), tuple(stds))


# ---------------------------------------------------------------- words


def _standardised(mean: Sequence[float], std: Sequence[float]) -> str:
    """How pixels from 0 to 1 become inputs, channel by channel."""
    each = " (red, green, blue)" if len(mean) == 3 else ""
    return f"minus {_listed(mean)}, divided by {_listed(std)}{each}"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _spoken(spec: str) -> str:
    """A data spec in words."""
    held = tasks.read_data(spec)
    assert held is not None
    mean, std = held.test.mean, held.test.std
    if set(mean) == {0.0} and set(std) == {1.0}:
        return "pixels from 0 to 1"
    return f"pixels from 0 to 1, {_standardised(mean, std)}"


def _readable(spec: str, found: Proposal) -> str:
    """A link's data spec, where it can be read and is about the data of this net; else nothing."""
    try:
        return spec if spec.partition("@")[0] == found.entry.data and tasks.read_data(spec) else ""
    except SlimscopeError:
        return ""


# ---------------------------------------------------------------- after the answer


def _warn() -> None:
    """Where the original is hardly better than guessing, the answer may be wrong."""
    subject = session.subject()
    origin = cached.origin_accuracy(subject)
    if origin is None:
        if cached.is_large(subject):
            return
        origin = cached.accuracy(subject, "[]", cached.sample_size(subject))[0]
    said = measure.near_chance(origin, len(sets.load(session.scaling().partition("@")[0]).classes))
    if said:
        st.warning(
            f"{said}. `Ask me again` in the sidebar takes your answer back.", icon=":material/warning:"
        )
