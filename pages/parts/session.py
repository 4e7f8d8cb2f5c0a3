"""Who is here and what they look at: URL <-> model and recipe, the only two-way door.

The session is the truth while a page is open; the URL is written after every change, so that
a copied link restores model, recipe and page in another browser. Nothing from the URL is
evaluated: it is JSON, and its decompressed size is bounded.
"""

from __future__ import annotations

import base64
import uuid
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from engine.jobs import home, models, store
from engine.net import sources, zoo
from engine.recipe import migrate, technique
from engine.recipe.knobs import Slider, Toggle
from engine.types import Bundle, Recipe, SlimscopeError, Step
from pages.parts import cached, draft
from pages.parts.draft import Draft

DEFAULT_MODEL = "lenet-300-100"
STORY = Recipe(
    (
        technique.step("prune_weights", sparsity=0.8),
        technique.step("quantize", bits=5, granularity="channel"),
    )
)
LONGEST = 65_536  # bytes of recipe text that a link may unfold to
PLAIN = 400  # longer recipes are compressed
HISTORY = 100
LONGEST_SPEC = 200  # characters of what a link may say of a file
REDRAW = "redraw"  # set where a change alters the charts that are drawn once


def start() -> None:
    """Take over what the URL says, at the session's start and where the browser went back or forward."""
    state, url = st.session_state, st.query_params
    state.setdefault("owner", st.context.cookies.get("slimscope", uuid.uuid4().hex))
    state.setdefault("drafts", {})
    state.setdefault("base", uuid.uuid4().hex)
    if "files" not in state:
        state["files"] = store.get(f"files-{state['owner']}") or {}
    said = (url.get("m"), url.get("r"), url.get("d"))
    if "model" in state and not (_went_back() and said[1] is not None):
        return _write()
    state["problem"] = None
    try:
        own = next(iter(cached.given()), "").startswith("user-")  # its first figure is its own accuracy
        recipe = STORY if said[:2] == (None, None) and not own else _read(said[1] or "[]")
    except SlimscopeError as error:
        state["problem"] = f"The recipe in this link could not be read: {error}"
        recipe = Recipe()
    state.setdefault("history", [])
    state["model"], state["recipe"] = said[0] or next(iter(cached.given()), DEFAULT_MODEL), recipe
    if state["model"] not in zoo.trained() and not state["model"].startswith(("file-", "user-")):
        state["problem"] = f"Model {state['model'][:60]!r} is not known here; showing {DEFAULT_MODEL}."
        state["model"] = DEFAULT_MODEL
    _hear(said[2] or "")
    _write()


def _hear(spec: str) -> None:
    """What a link says of a file: done where this visitor said it of the file before, else a suggestion."""
    state, name = st.session_state, model()
    state["suggested"] = {}
    if not name.startswith("file-") or not spec or len(spec) > LONGEST_SPEC:
        return
    if spec in _said(name):
        confirm(spec)
    else:
        state["suggested"] = {name: spec}


def _said(name: str) -> list[str]:
    """The data specs that this visitor confirmed of a file, the newest last."""
    about = files().get(name, {})
    return [*about.get("said", ()), *([about["data"]] if about.get("data") else [])]  # type: ignore[misc]


def suggested() -> str:
    """The data spec that a link has for the file in view, and that nobody confirmed."""
    return str(st.session_state.get("suggested", {}).get(model(), ""))


def has_begun() -> bool:
    """Whether `start` came to its end in this session once."""
    return "model" in st.session_state


def _went_back() -> bool:
    """Whether this run follows the browser's own back or forward."""
    context = get_script_run_ctx()
    return context is not None and context.is_history_navigation


def model() -> str:
    """The id of the model in view: a zoo name, or `file-` and a fingerprint."""
    return str(st.session_state["model"])


def subject() -> str:
    """Model and the data it is judged by, as one cache key."""
    return cached.subject(model(), scaling())


def scaling() -> str:
    """The data spec of the model in view: the zoo's own, what the visitor said, or nothing."""
    if model() in zoo.ENTRIES:
        return zoo.entry(model()).data
    return str(files().get(model(), {}).get("data", ""))


def add_file(name: str, bundle: Bundle, title: str, notes: tuple[str, ...]) -> None:
    """Remember weights that this visitor brought; nobody else sees them. Raises HomeError, and changes nothing."""
    data = sources.task(bundle.arch) if bundle.arch.source == "user" else ""
    about = {"data": data, "arch": bundle.arch.name, **st.session_state["files"].get(name, {})}
    new = {**about, "title": title, "notes": list(notes)}
    _keep_files({**st.session_state["files"], name: new})
    st.session_state["files"][name] = new


def remove_file() -> None:
    """Take the file in view out of the list; its bytes go where nobody else has it in a list."""
    state, name = st.session_state, model()
    state["files"].pop(name, None)
    with suppress(home.HomeError):
        _keep_files(state["files"])
    models.drop_model(name)
    state["history"] = [entry for entry in state["history"] if entry[0] != name]
    before = state["history"].pop() if state["history"] else (DEFAULT_MODEL, Recipe())
    (state["model"], state["recipe"]), state["problem"] = before, None
    _write()


def is_removable() -> bool:
    """Whether the net in view is a file that this visitor brought."""
    return model() in st.session_state["files"] and model() not in cached.given()


def why_idle() -> str:
    """Why the net in view can't be run, in a sentence; empty where it can."""
    if scaling():
        return ""
    if is_declined():
        return "This needs a net that can run: you said that these are weights only."
    if cached.proposal(model()) is None:
        return "This needs a net that can run: these weights have no known architecture."
    return "Say at the top of the page what this file is: then it can be run."


def files() -> dict[str, dict[str, object]]:
    """The visitor's own weights and the server's: model id -> title, notes, data spec, architecture."""
    return {**cached.given(), **st.session_state["files"]}


def confirm(spec: str) -> None:
    """The visitor says that the file in view is what it looks like, and what its inputs were."""
    said = [one for one in _said(model()) if one != spec]
    _answer(data=spec, said=[*said, spec], declined=False)


def decline() -> None:
    """The visitor says that the file in view is weights only."""
    _answer(data="", declined=True)


def ask_again() -> None:
    """The visitor takes back what was said of the file in view."""
    _answer(data="", declined=False)


def is_declined() -> bool:
    """Whether the visitor said that the file in view is weights only."""
    return bool(files().get(model(), {}).get("declined", False))


def _answer(**said: object) -> None:
    st.session_state["files"][model()] = {**files()[model()], **said}
    st.session_state["suggested"] = {}
    with suppress(home.HomeError):  # it holds for this visit; the page says why not longer
        _keep_files(st.session_state["files"])
    _write()


def _keep_files(known: dict[str, object]) -> None:
    """So that a reload finds them again: kept under the visitor's own cookie."""
    store.put(f"files-{owner()}", known)


def is_missing() -> bool:
    """Whether a link is about weights that this visitor has not brought."""
    return model() not in zoo.ENTRIES and model() not in files()


def recipe() -> Recipe:
    """The recipe in view, complete: every default is written in it, and every edit that has come in."""
    for name in list(st.session_state["drafts"]):
        _take(name)
    found: Recipe = st.session_state["recipe"]
    return found


# ---------------------------------------------------------------- what the browser edits


def panel_key(name: str) -> str:
    """The widget key of a technique's panel."""
    return f"panel-{name}"


def draft_of(name: str, settings: Mapping[str, Any]) -> Draft:
    """The draft of a technique's panel, which has these settings from now on."""
    drafts = st.session_state["drafts"]
    known = drafts.get(name) or Draft(st.session_state["base"], dict(settings))
    drafts[name] = known if known.settings == settings else known.press(settings)
    found: Draft = drafts[name]
    return found


def _take(name: str) -> None:
    """Take the edits that a panel reports, where they are new."""
    state = st.session_state
    known: Draft = state["drafts"][name]
    new = known.take((state.get(panel_key(name)) or {}).get("edits"))
    if new is known:
        return
    changed = {key: value for key, value in new.settings.items() if value != known.settings[key]}
    state["drafts"][name], before = new, state["recipe"]
    try:
        put(draft.edited(before, name, changed))
    except SlimscopeError as error:
        state["problem"], state[REDRAW] = str(error), True
        state["drafts"][name] = new.press(known.settings)
        return
    place, knobs = draft.find(before, name), technique.get(name).knobs
    moved = all(isinstance(knobs[key], Slider | Toggle) for key in changed)
    follows = place is not None and not any(technique.get(s.technique).trains for s in before.steps[place:])
    if not (moved and follows):
        state[REDRAW] = True  # other charts; or what was trained is no longer what the recipe says


def owner() -> str:
    """Who this is, for jobs: the same after a reload, different in another browser."""
    return str(st.session_state["owner"])


def problem() -> str | None:
    """What was wrong with the link, if anything."""
    return st.session_state.get("problem")


def choose_model(name: str) -> None:
    """Look at another model with the same recipe; steps that do not fit it say so."""
    _remember()
    st.session_state["model"], st.session_state["problem"] = name, None
    _write()


def open_file(name: str) -> None:
    """Look at a file that was just brought as it is: the first figures are its own."""
    _remember()
    st.session_state["model"], st.session_state["recipe"], st.session_state["problem"] = name, Recipe(), None
    _write()


def put(new: Recipe) -> None:
    """Make `new` the recipe, completed and checked; the old one can be had back by `undo`."""
    new = technique.complete(new)
    if new == recipe():
        return
    _remember()
    st.session_state["recipe"], st.session_state["problem"] = new, None
    _write()


def load_clicked(key: str) -> None:
    """Take over the recipe of a point that was clicked, once for each click; "" where none is."""
    if st.session_state.get("clicked", "") == key:
        return
    st.session_state["clicked"] = key
    if key:
        put(migrate.read(key))
        st.rerun()


def undo() -> None:
    """Back to the model and recipe before the last change."""
    recipe()  # with every edit that has come in: it is what is taken back
    if st.session_state["history"]:
        st.session_state["model"], st.session_state["recipe"] = st.session_state["history"].pop()
        _write()


def can_undo() -> bool:
    """Whether there is anything to take back."""
    return bool(st.session_state["history"])


def _remember() -> None:
    st.session_state["history"] = [*st.session_state["history"], (model(), recipe())][-HISTORY:]


# ---------------------------------------------------------------- the URL


def brief(new: Recipe) -> Recipe:
    """The recipe without the settings that are at their defaults: what a link needs to carry."""
    return Recipe(
        tuple(
            Step(s.technique, {k: v for k, v in s.settings.items() if v != _defaults(s)[k]}, s.on)
            for s in new
        )
    )


def _defaults(step: Step) -> dict[str, object]:
    return dict(technique.get(step.technique).defaults)


def _write() -> None:
    text = brief(recipe()).key
    if len(text) > PLAIN:
        text = "z" + base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")
    state, written = st.session_state, (model(), text, _spec_of_link())
    before, state["written"] = state.get("written"), written
    # A request may say a link of before the one that it was told last: what changes is told in any case.
    if before != written or tuple(st.query_params.get(name) for name in "mrd") != written:
        st.query_params.from_dict({k: v for k, v in zip("mrd", written, strict=True) if v is not None})


def _spec_of_link() -> str | None:
    """What a link says of a file: what its visitor said, or what was suggested and is not answered yet."""
    return (scaling() or suggested() or None) if model() not in zoo.ENTRIES else None


def _read(text: str) -> Recipe:
    if text.startswith("z"):
        text = _unfold(text[1:])
    return migrate.read(text)


def _unfold(text: str) -> str:
    try:
        packed = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        unfold = zlib.decompressobj()
        plain = unfold.decompress(packed, LONGEST)
        if unfold.unconsumed_tail or not unfold.eof:
            raise SlimscopeError(f"it unfolds to more than {LONGEST} bytes or is cut off")
        return plain.decode()
    except (ValueError, zlib.error) as error:
        raise SlimscopeError(f"it is damaged ({error})") from None
