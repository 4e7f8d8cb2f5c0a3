"""The frame's sidebar: which model, your own weights, jobs, and what the badges mean."""

from __future__ import annotations

import streamlit as st

from engine.data import sets, user
from engine.file import intake
from engine.jobs import models
from engine.net import zoo
from engine.types import Arch, SlimscopeError
from pages.parts import cached, figures, jobs, proposal, session, visitor

MOVED_ON = "This link is about code that this server was not started with, or that was edited since."


def draw() -> None:
    """Model picker, upload, what a file is taken for, jobs."""
    with st.sidebar:
        _picker()
        _upload()
        _about()
        jobs.panel()
        st.caption(" ".join(f"**{basis}**: {meaning}." for basis, meaning in figures.MEANING.items()))


def _picker() -> None:
    names = [*zoo.trained(), *visitor.files()]
    titles = {name: visitor.title(name) for name in (*names, session.model())}
    st.session_state["pick"] = session.model()
    missing = visitor.is_missing()

    st.selectbox(
        "Model",
        [*names, session.model()] if missing else names,
        key="pick",
        format_func=titles.get,
        on_change=lambda: session.choose_model(st.session_state["pick"]),
        help="A trained model of the zoo, or your own weights.",
    )
    if missing and session.model().startswith("user-"):
        st.warning(MOVED_ON, icon=":material/code_off:")
    elif missing:
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
            "A .safetensors file, a PyTorch state_dict (.pt, .pth, .th), NumPy arrays (.npz) or a .slim file",
            key=f"upload-{state.setdefault('uploads', 0)}",
            help="Read without running any code from the file; it stays on this machine.",
        )
        if given is not None:
            # An empty uploader follows: the bytes are not kept, nor read again should they fail in a new way.
            state["uploads"] += 1
            try:
                bundle, notes = intake.read(given.getvalue(), given.name)
                name = models.put_model(bundle)
                visitor.add_file(name, bundle, given.name, tuple(notes))
                session.open_file(name)
                state["refused"] = None
            except SlimscopeError as error:
                state["refused"] = str(error) if given.name in str(error) else f"{given.name}: {error}"
            st.rerun()
        if state.get("refused"):
            st.error(state["refused"], icon=":material/block:")


def _about() -> None:
    mine = visitor.files().get(session.model())
    if mine is None:
        if session.model() in zoo.trained():
            entry = zoo.entry(session.model())
            trained = "Trained here on" if entry.is_ours else "Trained elsewhere, and measured here on"
            st.caption(f"{entry.about[:1].upper()}{entry.about[1:]}. {trained} {sets.TITLES[entry.data]}.")
        return
    for note in mine["notes"]:  # type: ignore[attr-defined]
        st.caption(str(note))
    if Arch(str(mine["arch"])).source == "user":
        if session.model().startswith("user-") and not user.named().file:
            _reload()
    else:
        proposal.about()
    if visitor.is_removable():
        st.button(
            "Remove this file",
            icon=":material/delete:",
            key="remove-file",
            on_click=session.remove_file,
            help="Takes it out of your list and deletes what is kept of it here.",
        )


def _reload() -> None:
    """The button that reads the user's code again."""

    def read_again() -> None:
        try:
            session.reload(cached.reload_user())
            st.session_state["not reloaded"] = ""
        except SlimscopeError as error:
            st.session_state["not reloaded"] = str(error)

    words = "Reads your files as they are now, in this server and in the processes that do jobs."
    st.button("Reload my code", on_click=read_again, key="reload", icon=":material/refresh:", help=words)
    if st.session_state.get("not reloaded"):
        st.error(st.session_state["not reloaded"], icon=":material/bug_report:")
