"""What a file that holds no weights is instead, and the way on, from its first bytes.

Nothing is read but the head of the file and, of an archive, its list of contents.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path, PurePath

HEAD = 4096  # bytes
WEIGHTS = "save weights from Python: torch.save(net.state_dict(), 'net.pt')"
STARTS = {
    b"\x89PNG": f"is a PNG image, not weights: {WEIGHTS}",
    b"\xff\xd8\xff": f"is a JPEG image, not weights: {WEIGHTS}",
    b"GIF8": f"is a GIF image, not weights: {WEIGHTS}",
    b"%PDF": f"is a PDF document, not weights: {WEIGHTS}",
    b"\x89HDF": "is an HDF5 file (Keras): save its arrays from Python: numpy.savez('net.npz', **arrays)",
    b"\x93NUMPY": "is a single NumPy array: save all arrays by name: numpy.savez('net.npz', **arrays)",
    b"GGUF": "is a GGUF model: open the safetensors file that it was made from",
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: `git lfs pull` fetches that",
    b"\x1f\x8b": "is compressed with gzip: unpack it, and open the weights file in it",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive: unpack it, and open the weights file in it",
    b"BZh": "is compressed with bzip2: unpack it, and open the weights file in it",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it, and open the weights file in it",
    b"Rar!": "is a RAR archive: unpack it, and open the weights file in it",
    b"\xfd7zXZ": "is compressed with xz: unpack it, and open the weights file in it",
}
ONNX = "is an ONNX model: open the weights of the net that it was exported from, as a state_dict"
PAGE = "is a web page, not weights: download the file itself (on GitHub by `Download raw file`)"
SCRIPT = (
    "is a TorchScript program, which is not run here: "
    "torch.save(torch.jit.load('it.pt').state_dict(), 'net.pt') keeps its weights"
)
EXPORTED = (
    "is a program of torch.export, which is not run here: "
    "torch.save(torch.export.load('it.pt2').state_dict, 'net.pt') keeps its weights"
)


def told(content: bytes | Path, file_name: str) -> str:
    """What the file is, if not weights, as the end of a sentence; empty where nobody can tell."""
    head = _head(content)
    for start, said in STARTS.items():
        if head.startswith(start):
            return said
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return f"is a WebP image, not weights: {WEIGHTS}"
    if head[4:8] == b"TFL3":
        return "is a TensorFlow Lite model: open the weights of the net that it was made from"
    if head[257:262] == b"ustar":
        return "is a tar archive: unpack it, and open the weights file in it"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()  # behind a byte-order mark
    if text.startswith((b"<!doctype html", b"<html")) or (text.startswith(b"<!--") and b"<html" in text):
        return PAGE
    if text.startswith((b"<?xml", b"<svg", b"<!--")):
        return f"is a text of markup (XML or SVG), not weights: {WEIGHTS}"
    if head.startswith(b"PK"):
        return _archive(content)
    is_named = PurePath(file_name).suffix.lower() == ".onnx"
    return ONNX if is_named or (head[:1] == b"\x08" and b"pytorch" in head[:40]) else ""


def _head(content: bytes | Path) -> bytes:
    if isinstance(content, bytes):
        return content[:HEAD]
    with content.open("rb") as file:
        return file.read(HEAD)


def _archive(content: bytes | Path) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return ""
    leaves = {PurePath(name).name for name in names}
    if "constants.pkl" in leaves and any("/code/" in name for name in names):
        return SCRIPT
    if {"archive_format", "serialized_exported_program.json"} & leaves:
        return EXPORTED
    if "data.pkl" in leaves or all(name.endswith(".npy") for name in names):
        return ""
    return f"is a zip archive ({', '.join(names[:3])[:100]}): unpack it, and open the weights file in it"
