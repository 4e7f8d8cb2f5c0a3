"""The visitor, and the weights that they brought: kept under their own cookie, seen by nobody else."""

from __future__ import annotations

import uuid
from contextlib import suppress

import streamlit as st

from engine.jobs import home, models, store
from engine.net import sources, zoo
from engine.types import Bundle
from pages.parts import cached

LONGEST_SPEC = 200  # characters of what a link may say of a file


def start() -> None:
    """Know who this is, and what they brought before."""
    state = st.session_state
    state.setdefault("owner", st.context.cookies.get("slimscope", uuid.uuid4().hex))
    if "files" not in state:
        state["files"] = store.get(f"files-{state['owner']}") or {}
    state.setdefault("suggested", {})


def owner() -> str:
    """Who this is, for jobs: the same after a reload, different in another browser."""
    return str(st.session_state["owner"])


def _model() -> str:
    return str(st.session_state["work"].model)


def files() -> dict[str, dict[str, object]]:
    """The visitor's own weights and the server's: model id -> title, notes, data spec, architecture."""
    return {**cached.given(), **st.session_state["files"]}


def title(name: str) -> str:
    """How a model is called on screen."""
    return zoo.entry(name).title if name in zoo.ENTRIES else str(files().get(name, {}).get("title", name))


def scaling() -> str:
    """The data spec of the model in view: the zoo's own, what the visitor said, or nothing."""
    if _model() in zoo.ENTRIES:
        return zoo.entry(_model()).data
    return str(files().get(_model(), {}).get("data", ""))


def why_idle() -> str:
    """Why the model in view can't be run, in a sentence; empty where it can."""
    if scaling():
        return ""
    if is_declined():
        return "This needs a model that can run: you said that these are weights only."
    if cached.proposal(_model()) is None:
        return "This needs a model that can run: these weights have no known architecture."
    return "Say at the top of the page what this file is: then it can be run."


def add_file(name: str, bundle: Bundle, title: str, notes: tuple[str, ...]) -> None:
    """Remember weights that this visitor brought. Raises HomeError, and changes nothing."""
    data = sources.task(bundle.arch) if bundle.arch.source == "user" else ""
    about = {"data": data, "arch": bundle.arch.name, **st.session_state["files"].get(name, {})}
    new = {**about, "title": title, "notes": list(notes)}
    _keep({**st.session_state["files"], name: new})
    st.session_state["files"][name] = new


def drop_file(name: str) -> None:
    """Take a file out of the list; its bytes go where nobody else has it in a list."""
    st.session_state["files"].pop(name, None)
    with suppress(home.HomeError):
        _keep(st.session_state["files"])
    models.drop_model(name)


def is_removable() -> bool:
    """Whether the model in view is a file that this visitor brought."""
    return _model() in st.session_state["files"] and _model() not in cached.given()


def is_missing() -> bool:
    """Whether a link is about weights that this visitor has not brought."""
    return _model() not in zoo.ENTRIES and _model() not in files()


# ---------------------------------------------------------------- what a file is taken for


def hear(spec: str) -> None:
    """What a link says of a file: done where this visitor said it of the file before, else a suggestion."""
    st.session_state["suggested"] = {}
    if not _model().startswith("file-") or not spec or len(spec) > LONGEST_SPEC:
        return
    if spec in _said():
        confirm(spec)
    else:
        st.session_state["suggested"] = {_model(): spec}


def _said() -> list[str]:
    """The data specs that this visitor confirmed of the file in view, the newest last."""
    about = files().get(_model(), {})
    return [*about.get("said", ()), *([about["data"]] if about.get("data") else [])]  # type: ignore[misc]


def suggested() -> str:
    """The data spec that a link has for the file in view, and that nobody confirmed."""
    return str(st.session_state.get("suggested", {}).get(_model(), ""))


def confirm(spec: str) -> None:
    """The visitor says that the file in view is what it looks like, and what its inputs were."""
    said = [one for one in _said() if one != spec]
    _answer(data=spec, said=[*said, spec], declined=False)


def decline() -> None:
    """The visitor says that the file in view is weights only."""
    _answer(data="", declined=True)


def ask_again() -> None:
    """The visitor takes back what was said of the file in view."""
    _answer(data="", declined=False)


def is_declined() -> bool:
    """Whether the visitor said that the file in view is weights only."""
    return bool(files().get(_model(), {}).get("declined", False))


def _answer(**said: object) -> None:
    st.session_state["files"][_model()] = {**files()[_model()], **said}
    st.session_state["suggested"] = {}
    with suppress(home.HomeError):  # it holds for this visit; the page says why not longer
        _keep(st.session_state["files"])


def _keep(known: dict[str, object]) -> None:
    """So that a reload finds them again."""
    store.put(f"files-{owner()}", known)
