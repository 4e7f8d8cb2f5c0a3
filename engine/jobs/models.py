"""Models on disk: those that jobs made, those that visitors opened, and the way to every model id."""

from __future__ import annotations

import os
import re
import tempfile
from contextlib import suppress
from pathlib import Path

import sqlalchemy as sql

from engine.data.sets import cache_folder
from engine.file import intake, packfile, recognise
from engine.jobs import home, store
from engine.jobs.database import RESULTS, connected
from engine.net import sources, zoo
from engine.types import Bundle, SlimscopeError

NAME = re.compile(r"[0-9a-z][0-9a-z-]{0,99}")
UPLOADED = re.compile(r"file-[0-9a-f]{16}")


def net_path(key: str) -> Path:
    """Where the net of this key is, or would be."""
    if not NAME.fullmatch(key):
        raise SlimscopeError(f"key {key!r} is not a name: allowed are digits, a to z and -, at most 100")
    return cache_folder() / "nets" / f"{key}.slim"


def put_bundle(key: str, bundle: Bundle) -> Path:
    """Write a net as `<key>.slim`, whole or not at all, and say where. Origin and lineage are not in it.

    Raises HomeError where it finds no room.
    """
    path, content = net_path(key), packfile.pack(bundle)
    with home.said():
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{key[:40]}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    return path


def get_bundle(key: str) -> Bundle | None:
    """The net kept under `key`, or None. Raises SlimscopeError where its file is damaged."""
    path = net_path(key)
    try:
        content = path.read_bytes()
        os.utime(path)  # the order in which `trim` deletes
    except FileNotFoundError:
        return None
    try:
        return packfile.unpack(content)
    except SlimscopeError as error:
        raise SlimscopeError(f"{path} is damaged ({error}): delete it, and it is made again") from error


def put_model(bundle: Bundle) -> str:
    """Keep an uploaded net; the id it answers with is `file-` and the net's fingerprint."""
    model_id = f"file-{bundle.fingerprint}"
    put_bundle(model_id, bundle)
    return model_id


def put_path(bundle: Bundle, path: Path) -> str:
    """Remember where the file of a net lies; the id it answers with is that of `put_model`."""
    model_id, facts = f"file-{bundle.fingerprint}", path.stat()
    store.put(f"files-at-{model_id}", [str(path.absolute()), facts.st_size, facts.st_mtime_ns])
    return model_id


def _at_path(model_id: str) -> Bundle | None:
    """The net whose file was named by `put_path` and is still the same."""
    path, size, time_ns = store.get(f"files-at-{model_id}") or ("", 0, 0)
    with suppress(OSError):
        facts = Path(path).stat()
        if (facts.st_size, facts.st_mtime_ns) == (size, time_ns):
            return intake.open_file(Path(path), size)[0]
    return None


def get_model(model_id: str, data: str | None = None) -> Bundle:
    """The net of a model id: a name in the zoo, or what `put_model` or `put_path` answered.

    A file is what `data` says that its visitor said of it: bare weights where that is empty, else the net
    that it looks like. None: as it was kept.
    Raises SlimscopeError where there is none, so that a link can ask for the file.
    """
    if model_id.startswith("user-"):
        return _users(model_id)
    if not model_id.startswith("file-"):
        return zoo.load(model_id)
    known = UPLOADED.fullmatch(model_id) is not None
    bundle = (get_bundle(model_id) or _at_path(model_id)) if known else None
    if bundle is None:
        raise SlimscopeError(f"model {model_id!r} is not here: open the file with that fingerprint again")
    if data is None:
        return bundle
    taken_for = recognise.OWN if data.startswith(f"{recognise.OWN}:") else ""
    return recognise.take(bundle, taken_for) if data else recognise.bare(bundle)


def drop_model(model_id: str) -> None:
    """Delete an uploaded net that no visitor has in his list any more."""
    if not UPLOADED.fullmatch(model_id):
        raise SlimscopeError(f"model {model_id!r} is not an upload: only those are deleted")
    lists = sql.select(RESULTS.c.value).where(RESULTS.c.key.startswith("files-", autoescape=True))
    with connected() as connection:
        if any(isinstance(value, dict) and model_id in value for (value,) in connection.execute(lists)):
            return
    net_path(model_id).unlink(missing_ok=True)


def _users(model_id: str) -> Bundle:
    """The net of the code that was named at the start, where it is still the one with this fingerprint."""
    for load in (sources.load_user, sources.reload_user):
        bundle = load()
        for known in (bundle, sources.without_settings(bundle)):  # links of before name the second
            if model_id == f"user-{known.fingerprint}":
                return known
    raise SlimscopeError(f"model {model_id!r} is not what {bundle.arch.title} gives now: it was edited since")
