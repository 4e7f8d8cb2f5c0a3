"""What a user brings as code: a model and data, named by whoever starts the program, and by nobody else.

The names lie in one environment variable, so that the server and its workers know the same ones. A
link, an upload or a packed file that names any other code is refused before anything is imported.
Nothing here knows what a model is (`engine.net.sources`).
"""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.data.sets import Data
from engine.data.user_errors import UserError, is_own, own_errors
from engine.data.user_parts import task_of

VARIABLE = "SLIMSCOPE_USER"
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
GIVEN = "given:"  # in front of the digest of what a notebook handed over
TAKEN = {*sys.stdlib_module_names, "torch", "engine", "pages", "streamlit"}  # modules of others
MOST_HELD = 8  # models of this process that can still be built


# ---------------------------------------------------------------- what may be run


@dataclass(frozen=True)
class Named:
    """The code that may be run: `package.module:factory` of the model, its data, its metric and a student.

    `path` are folders in which modules are looked for first. `file` holds objects that a notebook
    handed over, written by this program for its own processes. `written` has each name as it was typed,
    `folder` is where.
    """

    model: str = ""
    data: str = ""
    metric: str = ""
    student: str = ""
    path: tuple[str, ...] = ()
    file: str = ""
    written: Mapping[str, str] = field(default_factory=dict)
    folder: str = ""

    def options(self) -> dict[str, str]:
        """What was named, as it works in the folder where this program was started: option -> name."""
        parts = {"model": self.model, "data": self.data, "metric": self.metric, "student": self.student}
        return {part: self.written.get(text, text) for part, text in parts.items() if text}


def named() -> Named:
    """What the person who started this program named; all empty where nothing was."""
    text = os.environ.get(VARIABLE, "")
    if not text:
        return Named()
    found = json.loads(text)
    return Named(**{**found, "path": tuple(found["path"])})


def name(model: str, data: str = "", metric: str = "", student: str = "") -> Named:
    """Allow this code, for this process and those that it starts.

    A name is `package.module:factory` or `folder/file.py:factory`; the working folder is searched first.
    Raises UserError for any other text.
    """
    plain, folders, written = [], [os.getcwd()], {}
    for text in (model, data, metric, student):
        found, folder = _plain(text) if text else ("", "")
        plain.append(found)
        written[found] = text
        folders += [folder] if folder else []
    path = tuple(dict.fromkeys(folders[::-1]))
    _check_files((model, data, metric, student))
    told = Named(plain[0], plain[1], plain[2], plain[3], path, written=written, folder=os.getcwd())
    os.environ[VARIABLE] = json.dumps(asdict(told))
    return told


def _plain(text: str) -> tuple[str, str]:
    """(`module:factory`, the folder of a file that was named by its path)."""
    file, _, factory = text.rpartition(":")
    if file.endswith(".py"):
        path = Path(file).absolute()
        if not path.is_file():
            raise UserError(f"{file} is no file: write package.module:factory or folder/file.py:factory")
        text = f"{path.stem}:{factory}"
        return _checked(text), str(path.parent)
    return _checked(text), ""


def _check_files(texts: tuple[str, ...]) -> None:
    """Python knows a file by its name alone: two of one name are refused, as is that of another module."""
    files: dict[str, Path] = {}
    for text in texts:
        file = text.rpartition(":")[0]
        if not file.endswith(".py"):
            continue
        path = Path(file).resolve()
        other = files.setdefault(path.stem, path)
        if other != path:
            raise UserError(
                f"{other} and {path} have one name, and Python knows only one {path.stem}: rename one"
            )
        known = getattr(sys.modules.get(path.stem), "__file__", None)
        if path.stem in TAKEN or (known and not is_own(known)):
            raise UserError(f"{file}: Python knows another module {path.stem!r}: give the file another name")


def _checked(text: str) -> str:
    if not NAME.fullmatch(text):
        raise UserError(f"{text!r} names no code: write package.module:factory or folder/file.py:factory")
    return text


def advice(text: str) -> str:
    """How to name code of which a file speaks; empty where that can't be code of a user's.

    >>> advice("os:getcwd")
    ''
    """
    module, _, factory = text.partition(":")
    root = module.partition(".")[0]
    if not NAME.fullmatch(text) or len(text) > 80 or root in TAKEN:
        return ""
    start, here = "; where you trust it, start slimscope", Path(*module.split(".")).with_suffix(".py")
    if here.is_file() or root != module:
        where = "" if here.is_file() else f" in the folder that holds {root}"
        return f"{start}{where} with --model {text}"
    return f"{start} with --model FOLDER/{root}.py:{factory}, FOLDER being where {root}.py lies"


def told_of(path: Path, digest: str) -> str:
    """What `VARIABLE` says in a process that is to know what `hand_over` wrote."""
    key = f"{GIVEN}{digest}"
    return json.dumps(asdict(Named(key, key, "", "", tuple(filter(None, sys.path)), str(path))))


# ---------------------------------------------------------------- running it


def fetch(text: str) -> Any:
    """The object that `package.module:factory` names. Call this with names of `named()` only.

    From here on this process works in the folder where the program was started, as the user's code expects.
    """
    module, _, attribute = text.partition(":")
    told = named()
    if told.folder:
        os.chdir(told.folder)
    for folder in reversed(told.path):
        if folder not in sys.path:
            sys.path.insert(0, folder)
    with own_errors(text):
        found = importlib.import_module(module)
    if not hasattr(found, attribute):
        raise UserError(f"{getattr(found, '__file__', module)} has no {attribute!r}: {text!r} names it")
    return getattr(found, attribute)


def forget() -> None:
    """Let the user's modules go, so that the next `fetch` reads them again as they are now."""
    told = named()
    roots = {re.split("[.:]", text)[0] for text in (told.model, told.data, told.metric, told.student)}
    folders = tuple(os.path.join(folder, "") for folder in told.path)
    for key, module in sys.modules.copy().items():  # other threads import
        file = str(getattr(module, "__file__", None) or "")
        is_named = key.partition(".")[0] in roots or file.startswith(folders)
        if is_named and file and key != "__main__" and is_own(file):
            del sys.modules[key]
    importlib.invalidate_caches()
    tasks.clear()


# ---------------------------------------------------------------- what a notebook hands over


_held: dict[str, dict[str, Any]] = {}  # the digest of what was handed over -> model, data, code


def hold(objects: dict[str, Any], digest: str) -> str:
    """Objects of this process, found from now on under the name that is returned."""
    _held[digest] = objects
    while len(_held) > MOST_HELD:
        _held.pop(next(iter(_held)))
    return f"{GIVEN}{digest}"


def hand_over(objects: dict[str, Any], digest: str, folder: Path) -> Path:
    """Write objects for processes of our own; classes of a notebook's cells travel with them."""
    import cloudpickle  # type: ignore[import-untyped]

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"given-{digest}.pickle"
    with own_errors("the model and its data can't be handed to another process"):
        path.write_bytes(cloudpickle.dumps(objects))
    return path


def held(text: str) -> dict[str, Any]:
    """What lies under a name of `hold`, or in the file that was named at the start. Raises UserError."""
    digest = text.removeprefix(GIVEN)
    told = named()
    if digest not in _held and told.file and told.model == text:
        for folder in reversed(told.path):
            if folder not in sys.path:
                sys.path.append(folder)
        # The file is our own: its path came from the person who started the program, as its code does.
        with own_errors(told.file):
            _held[digest] = pickle.loads(Path(told.file).read_bytes())
    if digest not in _held:
        raise UserError(f"{text!r} was handed over by another process and is not here any more")
    return _held[digest]


# ---------------------------------------------------------------- data


tasks: dict[str, Data] = {}  # the name of a factory -> what it gave; at most one


def task(text: str) -> Data:
    """The data that a factory gives, read into tensors once: `module:factory`, or that with `@` and a digest.

    With the digest of other data than it gave last, it is asked again. Raises UserError where nobody named
    that factory, where it gives no three data sets, or where they are not those of the digest.
    """
    name, _, digest = text.partition("@")
    if digest not in ("", _digest(name)):
        forget()
    if digest not in ("", _digest(name)):
        raise UserError(f"data {name!r} are not those that are asked for: they changed since")
    return tasks[name]


def _digest(name: str) -> str:
    if name not in tasks:
        found = _read(name)
        tasks.clear()
        tasks[name] = found
    return tasks[name].name.removeprefix("user-")


def _read(text: str) -> Data:
    if text.startswith(GIVEN):
        found: Data = held(text)["data"]
        return found
    told = named()
    if text != told.data:
        raise UserError(f"data {text!r} is code that nobody named at the start: it is not run")
    factory = fetch(text)
    with own_errors(text):
        parts = factory()
    return task_of(parts, text, fetch(told.metric) if told.metric else None)
