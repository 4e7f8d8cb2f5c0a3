"""The user's own weights: bytes and a file name become a bundle, or a sentence that says why not.

Nothing in a file is ever executed: `.pt` files are read with torch's weights-only reader.
What the file's inputs looked like (0 to 1, or standardised) is not in it; the page asks.
A file given by its path is not read into memory: its tensors are memory-mapped.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import IO, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import load_file as map_safetensors
from torch import Tensor

from engine.file import checks, packfile
from engine.net import zoo
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError

LIMIT = int(os.environ.get("SLIMSCOPE_LIMIT", 500_000_000))  # bytes, of the file and of the tensors in it
SUFFIXES = (".safetensors", ".pt", ".pth", ".slim")
OUTER_KEYS = ("state_dict", "model", "model_state_dict")
PREFIXES = ("module.", "_orig_mod.")  # nn.DataParallel's and torch.compile's


class IntakeError(SlimscopeError):
    """A file that cannot be taken in; the text says what is wrong with it."""


def find(model: str, limit: int = LIMIT) -> tuple[Bundle, tuple[str, ...]]:
    """A net by its name in the zoo or by the path of a weights file: (bundle, notes)."""
    if model in zoo.ENTRIES:
        return zoo.load(model), ()
    path = Path(model)
    if not path.is_file():
        raise IntakeError(f"model {model!r} is neither a file nor in the zoo: {', '.join(zoo.ENTRIES)}")
    return open_file(path, limit)


def open_file(path: Path, limit: int = LIMIT) -> tuple[Bundle, tuple[str, ...]]:
    """As `read`, of a file on this machine, which must stay as it is while the bundle is in use.

    32-bit tensors are memory-mapped: they take no memory of their own. Others are converted, which does.
    """
    _check_file(path.name, path.stat().st_size, limit)
    if path.suffix.lower() == ".slim":
        return _unpacked(path.read_bytes(), path.name), ()
    if path.suffix.lower() == ".safetensors":
        raw = _from_safetensors(path, path.name)
    else:
        raw = _from_torch(path, path.name, limit)
    return _taken(raw, path.name, limit, copy=False)


def read(content: bytes, file_name: str, limit: int = LIMIT) -> tuple[Bundle, tuple[str, ...]]:
    """Weights as a bundle, with notes on what was converted or left out.

    Keys and shapes of a zoo net give that architecture, all else the architecture `bare`.
    Tensors become contiguous 32-bit floats. `limit` is in bytes, for the file as well as for its
    tensors. Raises IntakeError for a file that is too large, damaged or needs code, and for
    tensors that are empty, complex, quantized or hold NaN or infinity, by name.
    """
    _check_file(file_name, len(content), limit)
    suffix = PurePath(file_name).suffix.lower()
    if suffix == ".slim":
        return _unpacked(content, file_name), ()
    if suffix == ".safetensors":
        raw = _from_safetensors(content, file_name)
    else:
        raw = _from_torch(io.BytesIO(content), file_name, limit)
    return _taken(raw, file_name, limit, copy=True)


def _taken(raw: dict[str, Any], file_name: str, limit: int, copy: bool) -> tuple[Bundle, tuple[str, ...]]:
    state, notes = _floats(_without_prefix(raw), file_name, limit, copy)
    bundle, verdict = _recognised(state)
    try:
        checks.check(bundle)
    except checks.CheckError as error:
        raise IntakeError(f"{file_name}: {error}") from None
    return bundle, (verdict, *notes)


def _check_file(file_name: str, size: int, limit: int) -> None:
    if PurePath(file_name).suffix.lower() not in SUFFIXES:
        raise IntakeError(f"{file_name} is not a weights file: allowed are {', '.join(SUFFIXES)}")
    _check_size(file_name, size, limit)


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


def _from_torch(content: IO[bytes] | Path, file_name: str, limit: int) -> dict[str, Any]:
    is_archive = _check_unzipped(content, file_name, limit)
    try:
        mapped = {"mmap": True} if isinstance(content, Path) and is_archive else {}
        loaded = torch.load(content, map_location="cpu", weights_only=True, **mapped)
    except Exception as error:  # a damaged pickle may fail with any error whatever
        raise IntakeError(f"{file_name} {_why_unread(error)}") from None
    for key in OUTER_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if not isinstance(loaded, Mapping):
        kind = type(loaded).__name__
        raise IntakeError(f"{file_name} holds a {kind}: a state_dict (name -> tensor) is needed")
    return {str(name): value for name, value in loaded.items()}


def _why_unread(error: Exception) -> str:
    text = str(error)
    if "Unsupported" in text:  # global, class or operand
        return "needs code to be read, which is refused: save net.state_dict() instead of the net"
    return f"is damaged or no PyTorch file: {text.splitlines()[0][:120] if text else type(error).__name__}"


def _check_unzipped(content: IO[bytes] | Path, file_name: str, limit: int) -> bool:
    """A small archive may unpack to a huge one: its own list of contents tells before it is read.

    Answers whether it is an archive: the older format is none.
    """
    try:
        with zipfile.ZipFile(content) as archive:
            _check_size(file_name, sum(info.file_size for info in archive.infolist()) or 1, limit)
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
        raise IntakeError(f"tensor {name!r} is quantized already: load the net before quantization")
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
    left_out = [n for n in named if n not in floating and not n.endswith(zoo.COUNTER)]
    if left_out:
        more = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
        notes.append(f"left out, not floating-point: {', '.join(left_out[:5])}{more}")
    return notes


# ---------------------------------------------------------------- architecture


def _recognised(state: dict[str, Tensor]) -> tuple[Bundle, str]:
    """The bundle under the zoo architecture that its names and shapes match, or `bare`."""
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name in zoo.ENTRIES:
        if zoo_shapes(name) == shapes:
            return zoo.bundle_of(name, state), f"names and shapes are those of {zoo.entry(name).title}"
    bare = Bundle(Arch("bare"), {name: Dense(tensor) for name, tensor in state.items()})
    return bare, "no known architecture: these weights can be explored and packed, but not run"


def zoo_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a zoo net, batch-norm's counters left out."""
    skeleton = zoo.skeleton(Arch(name)).state_dict()
    return {n: tuple(t.shape) for n, t in skeleton.items() if not n.endswith(zoo.COUNTER)}
