"""The user's own weights: bytes and a file name become a bundle, or a sentence that says why not.

Nothing in a file is ever executed: `.pt` files are read with torch's weights-only reader.
What the file's inputs looked like (0 to 1, or standardised) is not in it; the page asks.
A file given by its path is not read into memory: its tensors are memory-mapped.
"""

from __future__ import annotations

import io
import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import IO, Any

import numpy as np
import torch
from numpy.lib import format as npy
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import load_file as map_safetensors
from torch import Tensor

from engine.data import user
from engine.file import checks, packfile, recognise, sniff
from engine.net import sources, zoo
from engine.tensor.formats import Dense
from engine.types import TIES, Arch, Bundle, SlimscopeError

LIMIT = int(os.environ.get("SLIMSCOPE_LIMIT", 500_000_000))  # bytes, of the file and of the tensors in it
SUFFIXES = (".safetensors", ".pt", ".pth", ".th", ".ckpt", ".bin", ".npz", ".slim")
OUTER_KEYS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "weights",
    "params",
    "ema_state_dict",
    "model_ema",
    "ema",
)
DEEPEST = 4  # outer keys within each other
PREFIXES = ("module.", "_orig_mod.")  # nn.DataParallel's and torch.compile's


class IntakeError(SlimscopeError):
    """A file that cannot be taken in; the text says what is wrong with it."""


def find(model: str, limit: int = LIMIT, take_for: str | None = None) -> tuple[Bundle, tuple[str, ...]]:
    """A net by its name in the zoo or by the path of a weights file: (bundle, notes).

    A file that looks like a net of the zoo is bare weights, with a note that says so, unless `take_for`
    names the net (or is empty: the one that it looks like). A .slim file names its architecture itself.
    """
    if model in zoo.ENTRIES:
        return zoo.load(model), ()
    if model and model == user.named().model:
        return sources.load_user(), ()
    path = Path(model)
    if not path.is_file():
        raise IntakeError(f"model {model!r} is neither a file nor in the zoo: {', '.join(zoo.ENTRIES)}")
    bundle, notes = open_file(path, limit)
    if take_for is not None:
        return recognise.take(bundle, take_for), notes
    proposal = recognise.propose(bundle)
    if proposal is None or path.suffix.lower() == ".slim":
        return bundle, notes
    return recognise.bare(bundle), (proposal.sentence, *notes[1:])


def open_file(path: Path, limit: int = LIMIT) -> tuple[Bundle, tuple[str, ...]]:
    """As `read`, of a file on this machine, which must stay as it is while the bundle is in use.

    32-bit tensors are memory-mapped: they take no memory of their own. Others are converted, which does.
    """
    _check_file(path, path.name, path.stat().st_size, limit)
    if path.suffix.lower() == ".slim":
        return _unpacked(path.read_bytes(), path.name), ()
    raw, notes = _named(path, path.name, limit)
    bundle, more = _taken(raw, path.name, limit, copy=False)
    return bundle, (*more, *notes)


def read(content: bytes, file_name: str, limit: int = LIMIT) -> tuple[Bundle, tuple[str, ...]]:
    """Weights as a bundle, with notes on what was converted or left out.

    Keys and shapes of a zoo net give that architecture, all else the architecture `bare`. It is a
    proposal (`engine.file.recognise`): who shows an accuracy asks before, and goes by `bare` until then.
    Tensors become contiguous 32-bit floats. `limit` is in bytes, for the file as well as for its
    tensors. Raises IntakeError for a file that is too large, damaged or needs code, and for
    tensors that are empty, complex, quantized or hold NaN or infinity, by name.
    """
    _check_file(content, file_name, len(content), limit)
    if PurePath(file_name).suffix.lower() == ".slim":
        return _unpacked(content, file_name), ()
    raw, notes = _named(content, file_name, limit)
    bundle, more = _taken(raw, file_name, limit, copy=True)
    return bundle, (*more, *notes)


def _named(content: bytes | Path, file_name: str, limit: int) -> tuple[dict[str, Any], list[str]]:
    """(name -> value, notes) of a file of any format but our own."""
    suffix = PurePath(file_name).suffix.lower()
    if suffix == ".safetensors":
        return _from_safetensors(content, file_name), []
    stream = io.BytesIO(content) if isinstance(content, bytes) else content
    if suffix == ".npz":
        return _from_numpy(stream, file_name, limit), []
    return _from_torch(stream, file_name, limit)


def _taken(raw: dict[str, Any], file_name: str, limit: int, copy: bool) -> tuple[Bundle, tuple[str, ...]]:
    named = _without_prefix(raw)
    state, notes = _floats(named, file_name, limit, copy)
    bundle, verdict = _recognised(state, _ties(named, state))
    try:
        checks.check(bundle)
    except checks.CheckError as error:
        raise IntakeError(f"{file_name}: {error}") from None
    return bundle, (verdict, *notes)


def _check_file(content: bytes | Path, file_name: str, size: int, limit: int) -> None:
    other = sniff.told(content, file_name)
    if other:
        raise IntakeError(f"{file_name} {other}")
    if _starts(content) == packfile.MAGIC and PurePath(file_name).suffix.lower() != ".slim":
        raise IntakeError(f"{file_name} is a file of slimscope: give its name the ending .slim")
    if PurePath(file_name).suffix.lower() not in SUFFIXES:
        raise IntakeError(f"{file_name} is not a weights file: allowed are {', '.join(SUFFIXES)}")
    _check_size(file_name, size, limit)


def _starts(content: bytes | Path) -> bytes:
    if isinstance(content, bytes):
        return content[: len(packfile.MAGIC)]
    with content.open("rb") as file:
        return file.read(len(packfile.MAGIC))


def _check_size(file_name: str, size: int, limit: int) -> None:
    if size == 0:
        raise IntakeError(f"{file_name} is empty")
    if size > limit:
        raise IntakeError(f"{file_name} holds {size:,} bytes: allowed are at most {limit:,}")


def _unpacked(content: bytes, file_name: str) -> Bundle:
    try:
        return packfile.admit(content)
    except packfile.PackError as error:
        raise IntakeError(f"{file_name}: {error}") from error


def _from_safetensors(content: bytes | Path, file_name: str) -> dict[str, Any]:
    try:
        return dict(load_safetensors(content) if isinstance(content, bytes) else map_safetensors(content))
    except (SafetensorError, KeyError, ValueError) as error:
        raise IntakeError(f"{file_name} is damaged or no safetensors file: {error}") from None


def _from_torch(content: IO[bytes] | Path, file_name: str, limit: int) -> tuple[dict[str, Any], list[str]]:
    is_archive = _check_unzipped(content, file_name, limit)
    try:
        mapped = {"mmap": True} if isinstance(content, Path) and is_archive else {}
        loaded = torch.load(content, map_location="cpu", weights_only=True, **mapped)
    except Exception as error:  # a damaged pickle may fail with any error whatever
        raise IntakeError(f"{file_name} {_why_unread(error)}") from None
    loaded, notes = _inner(loaded)
    if not isinstance(loaded, Mapping):
        kind = type(loaded).__name__
        raise IntakeError(f"{file_name} holds a {kind}: a state_dict (name -> tensor) is needed")
    named = {str(name): value for name, value in loaded.items()}
    if len(named) < len(loaded):
        raise IntakeError(f"{file_name} has a number and a text as names of two tensors, which read alike")
    return named, notes


def _inner(loaded: Any) -> tuple[Any, list[str]]:
    """What lies under the outer keys of a checkpoint, and a note where there was a choice."""
    notes: list[str] = []
    for _ in range(DEEPEST):
        keys = [k for k in OUTER_KEYS if isinstance(loaded, Mapping) and isinstance(loaded.get(k), Mapping)]
        if not keys:
            break
        if len(keys) > 1:
            notes.append(f"taken from {keys[0]!r}; left out: {', '.join(map(repr, keys[1:]))}")
        loaded = loaded[keys[0]]
    return loaded, notes


def _from_numpy(content: IO[bytes] | Path, file_name: str, limit: int) -> dict[str, Any]:
    """Arrays by name. Their headers are held against their bytes first: numpy believes what they say."""
    _check_unzipped(content, file_name, limit)
    try:
        with zipfile.ZipFile(content) as archive:
            for member in archive.infolist():
                _check_array(archive, member)
        if not isinstance(content, Path):
            content.seek(0)
        with np.load(content, allow_pickle=False) as arrays:
            return {name: _tensor(arrays[name]) for name in arrays.files}
    except IntakeError as error:
        raise IntakeError(f"{file_name} {error}") from None
    except Exception as error:  # a damaged archive may fail with any error whatever
        raise IntakeError(f"{file_name} is damaged or no .npz file: {_first_line(error)}") from None


def _check_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    with archive.open(member) as file:
        read = npy.read_array_header_1_0 if npy.read_magic(file) == (1, 0) else npy.read_array_header_2_0
        shape, _, kind = read(file)
        if kind.hasobject:
            raise IntakeError(f"holds {member.filename!r}, which needs code to be read: save plain arrays")
        if math.prod(shape) * kind.itemsize != member.file_size - file.tell():
            raise IntakeError(f"is damaged: {member.filename!r} does not hold the {shape} numbers it says")


def _tensor(array: np.ndarray[Any, Any]) -> Any:
    """A tensor of what torch has a type for; else the array, which is left out with a note."""
    try:
        return torch.from_numpy(np.array(array, array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        return array


def _why_unread(error: Exception) -> str:
    text = str(error)
    asked = re.search(r"GLOBAL ([\w.]{1,80})", text)
    if asked or "Unsupported class" in text:
        what = f"is a pickle of {asked[1]} and " if asked else ""
        return f"{what}needs code to be read, which is refused: save net.state_dict() instead of the net"
    # What the unpickler says of other bytes (a KeyError, "pop from empty list") helps nobody.
    why = f": {_first_line(error)}" if isinstance(error, RuntimeError) else ""
    return f"is damaged or no PyTorch file{why}"


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:120]


def _check_unzipped(content: IO[bytes] | Path, file_name: str, limit: int) -> bool:
    """A small archive may unpack to a huge one: its own list of contents tells before it is read.

    Answers whether it is an archive: the older format is none.
    """
    try:
        with zipfile.ZipFile(content) as archive:
            members = archive.infolist()
            if len(members) > checks.MOST_TENSORS + 100:  # a few are not tensors
                raise IntakeError(
                    f"{file_name} holds {len(members):,} members: allowed are {checks.MOST_TENSORS:,} tensors"
                )
            _check_size(file_name, sum(info.file_size for info in members) or 1, limit)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False  # damage is found by the reader
    finally:
        if not isinstance(content, Path):
            content.seek(0)
    return True


def _without_prefix(raw: dict[str, Any]) -> dict[str, Any]:
    """The names without what wrappers put in front of all of them, however often."""
    for prefix in PREFIXES:
        if raw and all(name.startswith(prefix) for name in raw):
            return _without_prefix({name.removeprefix(prefix): value for name, value in raw.items()})
    return raw


# ---------------------------------------------------------------- tensors


def _floats(
    named: Mapping[str, Any], file_name: str, limit: int, copy: bool
) -> tuple[dict[str, Tensor], list[str]]:
    """The floating-point tensors as float32, and notes on all others."""
    tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
    for name, tensor in tensors.items():
        _check_kind(name, tensor)
    floating = {name: tensor for name, tensor in tensors.items() if tensor.is_floating_point()}
    if not floating:
        raise IntakeError(f"{file_name} holds no floating-point tensor: there is nothing to compress")
    # A tensor may be a view that repeats a small storage: what it unfolds to counts.
    _check_size(file_name, sum(4 * tensor.numel() for tensor in floating.values()), limit)
    state = {}
    for name, tensor in floating.items():
        state[name] = tensor.detach().to(torch.float32, copy=copy).contiguous()
        _check_finite(name, state[name], tensor.dtype)
    return state, _notes(named, floating)


def _check_kind(name: str, tensor: Tensor) -> None:
    if tensor.is_quantized:
        raise IntakeError(f"tensor {name!r} is quantized already: load the model before quantization")
    if tensor.is_complex():
        raise IntakeError(f"tensor {name!r} is complex: allowed are real floating-point weights")
    if tensor.layout != torch.strided or tensor.device.type != "cpu":
        raise IntakeError(f"tensor {name!r} is {tensor.layout} on {tensor.device}: allowed are plain tensors")
    if tensor.numel() == 0:
        raise IntakeError(f"tensor {name!r} is empty (shape {tuple(tensor.shape)})")


def _check_finite(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if not all(end.isfinite() for end in tensor.aminmax()):  # NaN is passed on; nothing is copied
        bad = int((~torch.isfinite(tensor)).sum())
        came = "" if dtype == torch.float32 else f" as a 32-bit float (it came as {_short(dtype)})"
        raise IntakeError(f"tensor {name!r} holds {bad:,} values that are NaN or infinite{came}")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _notes(named: Mapping[str, Any], floating: Mapping[str, Tensor]) -> list[str]:
    notes = []
    converted = sorted({_short(t.dtype) for t in floating.values() if t.dtype != torch.float32})
    if converted:
        notes.append(f"converted to 32-bit floats from {', '.join(converted)}")
    left_out = [n for n in named if n not in floating and not n.endswith(sources.COUNTER)]
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        notes.append(f"left out, not floating-point: {', '.join(left_out[:5])}{more}")
    return notes


# ---------------------------------------------------------------- architecture


def _ties(named: Mapping[str, Any], state: Mapping[str, Tensor]) -> dict[str, str]:
    """Another name of a tensor -> its first, for those that are one tensor in the file."""
    firsts: dict[tuple[Any, ...], str] = {}
    ties = {}
    for name in state:
        tensor = named[name]
        place = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        first = firsts.setdefault(place, name)
        if first != name:
            ties[name] = first
    return ties


def _recognised(state: dict[str, Tensor], ties: Mapping[str, str]) -> tuple[Bundle, str]:
    """The bundle under the zoo architecture that its names and shapes match, or `bare`."""
    name = recognise.matching({name: tuple(tensor.shape) for name, tensor in state.items()})
    if name:
        return zoo.bundle_of(name, state), f"names and shapes are those of {zoo.entry(name).title}"
    arch = Arch("bare", (), {TIES: ties} if ties else {})
    bare = Bundle(arch, {name: Dense(tensor) for name, tensor in state.items() if name not in ties})
    proposal = recognise.propose(bare)
    if proposal:
        return bare, proposal.verdict
    return bare, "no known architecture: these weights can be explored and packed, but not run"
