"""What a visitor's file is taken for: a question at the top of the page, and the answer in the sidebar.

Until it is answered the file is bare weights, and nothing is measured. A link may bring a suggestion,
and never an answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

import streamlit as st

from engine.data import user
from engine.data.sets import TITLES
from engine.figures import measure
from engine.file import recognise
from engine.file.recognise import Proposal
from engine.jobs import keys
from engine.types import SlimscopeError
from pages.parts import cached, session, visitor

OWN = "own"


def ask() -> None:
    """The question, above every page, until it is answered; after it a warning where the answer looks wrong."""
    if session.model() not in visitor.files():
        return
    if session.model().startswith("user-"):
        return
    found = cached.proposal(session.model())
    if found is None or visitor.is_declined():
        return
    if visitor.scaling():
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
    if visitor.scaling():
        inputs = "" if found.is_own else f", and its inputs were {_spoken(visitor.scaling())}"
        st.info(f"You said: this is {found.title}{inputs}.")
    elif visitor.is_declined():
        st.info(f"You said: weights only, and not {found.title}. Nothing is measured that runs a model.")
    else:
        st.info(f"May be {found.title}: say so at the top of the page, and it is measured.")
        return
    st.button("Ask me again", icon=":material/undo:", key="ask-again", on_click=visitor.ask_again)


# ---------------------------------------------------------------- the question


def _question(found: Proposal) -> None:
    title = str(visitor.files()[session.model()]["title"])
    st.markdown(f"#### Is this file {found.title}?")
    fits = "names and shapes" if found.is_exact else "shapes, under other names,"
    st.markdown(
        f"`{title.replace('`', '')}` has the {fits} of this model. They do not tell its activation, what it was "
        "trained on, or how its inputs were scaled. So nothing that runs the model is measured before you say "
        "that all of this holds:"
    )
    st.html(_facts(found))
    if not found.is_exact:
        with st.expander(f"Which of the {len(found.names)} tensors is taken for which"):
            st.html(_mapping(found))
    suggested = _readable(visitor.suggested(), found)
    if suggested:
        st.caption(f"The link that you opened measures it with inputs {_spoken(suggested)}.")
    if _ways(found, suggested):
        _other(found)


def _ways(found: Proposal, suggested: str) -> bool:
    """The ways on, as buttons; whether that of other input scaling is open."""
    state, key = st.session_state, f"other scaling of {session.model()}"
    is_open = bool(state.get(key, False))
    with st.container(horizontal=True):
        st.button(
            "Yes, measure it so",
            key="proposal-yes",
            type="secondary" if is_open else "primary",
            icon=":material/check:",
            on_click=visitor.confirm,
            args=(found.data,),
        )
        if suggested not in ("", found.data):
            st.button(
                "Yes, with the link's input scaling",
                key="proposal-link",
                icon=":material/link:",
                on_click=visitor.confirm,
                args=(suggested,),
            )
        if not found.is_own and found.scaling[0]:
            st.button(
                "Other input scaling",
                key="proposal-other",
                icon=":material/tune:",
                on_click=lambda: state.update({key: not is_open}),
            )
        st.button("No: weights only", key="proposal-no", icon=":material/block:", on_click=visitor.decline)
    return is_open


def _facts(found: Proposal) -> str:
    cells = (f"<tr><td>{name}</td><td class='text'>{escape(text)}</td></tr>" for name, text in _rows(found))
    return f"<table class='slim-table facts'>{''.join(cells)}</table>"


def _rows(found: Proposal) -> Iterable[tuple[str, str]]:
    if found.is_own:
        named = user.named()
        return {"Model": f"{named.model}, named at the start", "Data": named.data}.items()
    entry = found.entry
    rows = {
        "Architecture": f"{entry.title}: {entry.about}",
        "Activation": entry.activation,
        "Trained on": TITLES.get(entry.data, entry.data),
        "Inputs": _inputs(*found.scaling),
    }
    return rows.items()


def _mapping(found: Proposal) -> str:
    """Own name, the model's name and shape of every tensor, in the order of the model."""
    shapes = recognise.zoo_shapes(found.name)
    own = {ours: name for name, ours in found.names.items()}
    rows = "".join(
        f"<tr><td>{escape(own[ours])}</td><td class='text'>{escape(ours)}</td>"
        f"<td>{' x '.join(map(str, shape))}</td></tr>"
        for ours, shape in shapes.items()
    )
    head = "<tr><th>in the file</th><th style='text-align: left'>taken for</th><th>shape</th></tr>"
    return f"<div class='scroll'><table class='slim-table'>{head}{rows}</table></div>"


def _other(found: Proposal) -> None:
    """Other scalings of the inputs than the zoo's."""
    name, (mean, std) = found.entry.data, found.scaling
    ones = (1.0,) * len(mean)
    presets = {
        keys.data_spec(name, (0.0,) * len(mean), ones): "from 0 to 1",
        keys.data_spec(name, (0.5,) * len(mean), (0.5,) * len(mean)): "from -1 to 1",
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
        on_click=visitor.confirm,
        args=(picked,),
    )


def _own(name: str, mean: Sequence[float], std: Sequence[float]) -> str:
    """A mean and a deviation for each channel, of pixels from 0 to 1."""
    channels = (" of red", " of green", " of blue") if len(mean) == 3 else ("",) * len(mean)
    with st.container(key="pair-inputs"):
        means = _row("Mean", -10.0, mean, channels)
        stds = _row("Deviation", 0.0001, std, channels)
    return keys.data_spec(name, means, stds)


def _row(word: str, low: float, start: Sequence[float], channels: Sequence[str]) -> tuple[float, ...]:
    columns = st.columns(max(len(start), 3))
    return tuple(
        column.number_input(
            f"{word}{channel}",
            low,
            300.0,
            value,
            format="%.4f",
            key=f"{word.lower()}-{session.model()}-{place}",
        )
        for place, (column, channel, value) in enumerate(zip(columns, channels, start, strict=False))
    )


# ---------------------------------------------------------------- words


def _standardised(mean: Sequence[float], std: Sequence[float]) -> str:
    """How pixels from 0 to 1 become inputs, channel by channel."""
    each = " (red, green, blue)" if len(mean) == 3 else ""
    return f"minus {_listed(mean)}, divided by {_listed(std)}{each}"


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{number:g}" for number in numbers)


def _spoken(spec: str) -> str:
    """A data spec in words."""
    held = keys.read_data(spec)
    assert held is not None
    return _inputs(held.test.mean, held.test.std)


def _inputs(mean: Sequence[float], std: Sequence[float]) -> str:
    """What enters the model, in words; texts have no mean."""
    if not mean:
        return "numbers of word pieces"
    if set(mean) == {0.0} and set(std) == {1.0}:
        return "pixels from 0 to 1"
    return f"pixels from 0 to 1, {_standardised(mean, std)}"


def _readable(spec: str, found: Proposal) -> str:
    """A link's data spec, where it can be read and is about the data of this model; else nothing."""
    try:
        if found.is_own:
            return spec if spec == found.data else ""
        return spec if spec.partition("@")[0] == found.entry.data and keys.read_data(spec) else ""
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
        try:
            origin = cached.accuracy(subject, "[]", cached.sample_size(subject))[0]
        except SlimscopeError as error:
            return st.warning(f"{error}.", icon=":material/warning:")
    held = keys.read_data(visitor.scaling())
    said = measure.near_chance(origin, len(held.classes)) if held else ""
    if said:
        st.warning(
            f"{said}. `Ask me again` in the sidebar takes your answer back.", icon=":material/warning:"
        )
