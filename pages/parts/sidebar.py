"""The frame's sidebar: which net, your own weights, jobs, and what the badges mean."""

from __future__ import annotations

import streamlit as st

from engine.data import sets
from engine.file import intake
from engine.jobs import store, tasks
from engine.net import zoo
from engine.types import SlimscopeError
from pages.parts import figures, jobs, session


def draw() -> None:
    """Model picker, upload, scaling question, jobs."""
    with st.sidebar:
        _picker()
        _upload()
        _about()
        jobs.panel()
        st.caption(" ".join(f"**{basis}**: {meaning}." for basis, meaning in figures.MEANING.items()))


def _picker() -> None:
    files = session.files()
    names = [*zoo.trained(), *files]
    st.session_state["pick"] = session.model()
    missing = session.is_missing()

    def title(name: str) -> str:
        return zoo.entry(name).title if name in zoo.ENTRIES else str(files.get(name, {}).get("title", name))

    st.selectbox(
        "Model",
        [*names, session.model()] if missing else names,
        key="pick",
        format_func=title,
        on_change=lambda: session.choose_model(st.session_state["pick"]),
        help="A trained net of the zoo, or your own weights.",
    )
    if missing:
        st.warning(
            f"This link is about weights with the fingerprint {session.model().removeprefix('file-')}. "
            "They are not in the link: upload that file to go on.",
            icon=":material/upload_file:",
        )


def _upload() -> None:
    state = st.session_state
    with st.expander(
        "Your own weights", icon=":material/upload_file:", expanded=session.model().startswith("file-")
    ):
        given = st.file_uploader(
            "A .safetensors file, a PyTorch state_dict (.pt, .pth) or a .slim file",
            type=["safetensors", "pt", "pth", "slim"],
            key=f"upload-{state.setdefault('uploads', 0)}",
            help="Read without running any code from the file; it stays on this machine.",
        )
        if given is not None:
            # An empty uploader follows: the bytes are not kept, nor read again should they fail in a new way.
            state["uploads"] += 1
            try:
                bundle, notes = intake.read(given.getvalue(), given.name)
                name = store.put_model(bundle)
                session.add_file(name, bundle, given.name, tuple(notes))
                session.choose_model(name)
                state["refused"] = None
            except SlimscopeError as error:
                state["refused"] = str(error) if given.name in str(error) else f"{given.name}: {error}"
            st.rerun()
        if state.get("refused"):
            st.error(state["refused"], icon=":material/block:")


def _about() -> None:
    mine = session.files().get(session.model())
    if mine is None:
        if session.model() in zoo.trained():
            card = zoo.card(session.model())
            st.caption(f"{card['about'].capitalize()}. Trained here on {card['data'].split('-')[0].upper()}.")
        return
    for note in mine["notes"]:  # type: ignore[attr-defined]
        st.caption(str(note))
    arch = str(mine["arch"])
    if arch == "bare":
        st.info(
            "No known architecture fits these keys and shapes: explored as bare weights. Accuracy, latency and training need a known one."
        )
        return
    _scaling(arch)


def _scaling(arch: str) -> None:
    name = zoo.entry(arch).data
    held = sets.load(name).test
    st.markdown(f"These weights fit **{zoo.entry(arch).title}**. How were its inputs scaled?")
    options = {
        tasks.data_spec(name): f"standardised as usual for {name}",
        tasks.data_spec(name, (0.0,) * len(held.mean), (1.0,) * len(held.mean)): "from 0 to 1",
        "own": "by a mean and deviation of my own",
    }
    said = session.scaling()
    index = list(options).index(said) if said in options else (2 if said else None)
    picked = st.radio(
        "Input scaling",
        list(options),
        index,
        format_func=options.get,
        key=f"scale-{session.model()}",
        label_visibility="collapsed",
    )
    if picked == "own":
        mean = st.number_input("Mean", 0.0, 1.0, float(held.mean[0]), format="%.4f")
        std = st.number_input("Standard deviation", 0.001, 1.0, float(held.std[0]), format="%.4f")
        picked = tasks.data_spec(name, (mean,) * len(held.mean), (std,) * len(held.mean))
    if picked is None:
        st.caption("Accuracy is measured as soon as this is said.")
    elif picked != said:
        session.set_scaling(picked)
        st.rerun()
