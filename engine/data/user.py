"""What a user brings as code: a model and data, named by whoever starts the program, and by nobody else.

The names lie in one environment variable, so that the server and its workers know the same ones. A
link, an upload or a packed file that names any other code is refused before anything is imported.
Nothing here knows what a model is (`engine.net.sources`).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine.data.sets import Data, Samples
from engine.types import SlimscopeError

VARIABLE = "SLIMSCOPE_USER"
ENGINE = Path(__file__).resolve().parent.parent
NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
GIVEN = "given:"  # in front of the digest of what a notebook handed over
PARTS = ("train", "validation", "test")
TAKEN = {*sys.stdlib_module_names, "torch", "engine", "pages", "streamlit"}  # modules of others
MOST_HELD = 8  # models of this process that can still be built
MOST_BYTES = 4_000_000_000  # of all inputs of one part


class UserError(SlimscopeError):
    """The user's own code, or what it returned, does not serve; the text has its file and line."""


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


@contextmanager
def own_errors(what: str) -> Iterator[None]:
    """An error inside becomes a sentence with the user's own file and line."""
    try:
        yield
    except SlimscopeError:
        raise
    except (Exception, SystemExit) as error:  # whatever a stranger's code may raise
        raise UserError(f"{what}: {where(error)}") from error


def where(error: BaseException) -> str:
    """`file:line: Kind: message` of the last line of the user's own code that led to an error."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    words = f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if is_own(frame.filename):
            return f"{frame.filename}:{frame.lineno}: {words}"
    return words


def is_own(file: str) -> bool:
    """Whether a file is the user's: neither installed nor slimscope's engine or pages."""
    path = Path(file)
    if {"site-packages", "dist-packages"} & set(path.parts):
        return False
    if not path.is_file():  # a cell of a notebook has a name, and no file
        return "ipykernel" in file or file.startswith("<ipython")
    others = (ENGINE, ENGINE.parent / "pages", Path(os.__file__).parent)
    return not any(path.resolve().is_relative_to(root) for root in others)


def forget() -> None:
    """Let the user's modules go, so that the next `fetch` reads them again as they are now."""
    told = named()
    roots = {re.split("[.:]", text)[0] for text in (told.model, told.data, told.metric, told.student)}
    folders = tuple(os.path.join(folder, "") for folder in told.path)
    for key, module in sys.modules.copy().items():  # other threads import
        file = getattr(module, "__file__", None) or ""
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


def task_of(parts: Any, text: str, metric: Callable[[Tensor, Tensor], Any] | None = None) -> Data:
    """Train, validation and test as a task; each is a map-style data set of (input, target), or tensors.

    One of slimscope's own tasks keeps the names of its classes, its texts and what makes an input of another
    text. Inputs stay as they are, 64-bit floats excepted. Raises UserError where one can't be read.
    """
    known = parts if isinstance(parts, Data) else None
    if known:
        metric = metric or known.metric
        parts = (known.train, known.validation, known.test)
    if not isinstance(parts, tuple | list) or len(parts) != len(PARTS):
        kind = type(parts).__name__
        got = f"a {kind} of {len(parts)}" if isinstance(parts, tuple | list) else f"a {kind}"
        raise UserError(f"{text}: data must be (train, validation, test), got {got}")
    read = [samples_of(part, f"{text}, {own}") for own, part in zip(PARTS, parts, strict=True)]
    shapes = {tuple(part.images.shape[1:]) for part in read}
    if len(shapes) > 1:
        raise UserError(f"{text}: the parts have inputs of different shapes: {sorted(shapes)}")
    if not read[0].is_labelled and metric is None:
        kind = f"{str(read[0].labels.dtype).removeprefix('torch.')} {tuple(read[0].labels.shape[1:])}"
        raise UserError(f"{text}: targets are {kind}, not class numbers: name a --metric package:function")
    if known and read[0].is_labelled:
        _check_named(known.classes, read, text)
    digest = hashlib.sha256(repr(known.classes).encode() if known else b"")
    for part in read:
        digest.update(part.images.contiguous().view(torch.uint8).numpy().data)
        digest.update(part.labels.contiguous().view(torch.uint8).numpy().data)
    name = f"user-{digest.hexdigest()[:16]}"
    if known:
        return replace(known, name=name, metric=metric)
    return Data(name, read[0], read[1], read[2], _classes(parts, read), metric=metric)


def _check_named(classes: tuple[str, ...], read: list[Samples], text: str) -> None:
    """Raises UserError where a target is no number of a class that has a name."""
    ends = [end for part in read for end in (int(part.labels.min()), int(part.labels.max()))]
    if min(ends) < 0 or max(ends) >= len(classes):
        allowed = f"allowed are 0 to {len(classes) - 1}, the classes that have names"
        raise UserError(f"{text}: targets reach from {min(ends)} to {max(ends)}: {allowed}")


def _classes(parts: Any, read: list[Samples]) -> tuple[str, ...]:
    """The names that the test data set calls its `classes`, or numbers."""
    if not read[0].is_labelled:
        return ()
    count = 1 + max(int(part.labels.max()) for part in read)
    own = getattr(parts[2], "classes", None) or ()
    return tuple(map(str, own)) if len(own) >= count else tuple(map(str, range(count)))


def samples_of(part: Any, text: str) -> Samples:
    """One part as samples. Raises UserError."""
    if isinstance(part, Samples):
        return part
    pair = getattr(part, "tensors", part)  # torch's TensorDataset holds them whole
    if isinstance(pair, tuple) and len(pair) == 2 and hasattr(pair[0], "shape") and hasattr(pair[1], "shape"):
        inputs, targets = _tensor(pair[0], text), _tensor(pair[1], text)
    else:
        inputs, targets = _listed(part, text)
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise UserError(
            f"{text}: {len(inputs)} inputs and {len(targets)} targets: allowed are as many, from 1"
        )
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise UserError(f"{text}: inputs hold NaN or infinity")
    if not targets.is_floating_point():
        targets = targets.long()
        if targets.dim() == 1 and int(targets.min()) < 0:
            raise UserError(f"{text}: class {int(targets.min())} is below 0")
    return Samples(inputs, targets, (), ())


def _listed(part: Any, text: str) -> tuple[Tensor, Tensor]:
    if not hasattr(part, "__getitem__") or not hasattr(part, "__len__"):
        raise UserError(f"{text}: a data set has a length and items by number, got {type(part).__name__}")
    inputs, targets = [], []
    for i in range(len(part)):
        with own_errors(f"{text}, item {i}"):
            item = part[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UserError(f"{text}: item {i} must be (input, target), got {type(item).__name__}")
        inputs.append(_tensor(item[0], f"{text}, item {i}"))
        targets.append(_tensor(item[1], f"{text}, item {i}"))
        if i == 0 and inputs[0].nbytes * len(part) > MOST_BYTES:
            raise UserError(f"{text}: {len(part):,} inputs of {inputs[0].nbytes:,} B exceed {MOST_BYTES:,} B")
        if inputs[i].shape != inputs[0].shape:
            shapes = f"{tuple(inputs[0].shape)} and {tuple(inputs[i].shape)}"
            raise UserError(f"{text}: inputs 0 and {i} have the shapes {shapes}: allowed is one shape")
    if not inputs:
        raise UserError(f"{text}: it is empty")
    return torch.stack(inputs), torch.stack(targets)


def _tensor(value: Any, text: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise UserError(
            f"{text}: {kind} is no tensor: let the data set give tensors, arrays or numbers"
        ) from None
    return tensor.float() if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16) else tensor
