"""`slimscope decode`: a .slim file as plain 32-bit tensors."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file

from engine.commands import Said
from engine.commands.compress import file_size, writable
from engine.file import packfile
from engine.types import SlimscopeError


def add(verbs: Any) -> None:
    command = verbs.add_parser("decode", help="write a .slim file's tensors as .safetensors")
    command.add_argument("file", metavar="FILE", type=Path, help="a .slim file")
    command.add_argument("--out", metavar="FILE", type=writable, help="default: FILE with .safetensors")
    command.set_defaults(run=run)


def run(given: Namespace) -> Said:
    out = given.out or given.file.with_suffix(".safetensors")
    if out.exists():
        raise SlimscopeError(f"{out} exists: name another file with --out")
    bundle = packfile.admit(given.file.read_bytes())
    tensors = {name: values.detach().clone().contiguous() for name, values in bundle.decoded().items()}
    try:
        save_file(tensors, out)
    except SafetensorError as error:
        raise SlimscopeError(f"{out} can't be written: {error}") from None
    sizes = {"read": file_size(given.file), "written": file_size(out)}
    data = {"file": str(out), "tensors": len(tensors)}
    data |= {name: figure.to_dict() for name, figure in sizes.items()}
    before, after = (int(figure.value) for figure in sizes.values())
    return data, f"{out}: {len(tensors)} tensors, {before:,} B in {given.file}, {after:,} B as 32-bit floats"
