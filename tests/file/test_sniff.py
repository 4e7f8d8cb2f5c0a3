"""A file that holds no weights is named for what it is, with the way on."""

import io
import zipfile

import pytest
import torch
from torch import nn

from engine.file.intake import IntakeError, read


def packed(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(name, b"1")
    return file.getvalue()


def script() -> bytes:
    """The list of contents of what torch.jit.save writes."""
    return packed("net/code/__torch__/net.py", "net/constants.pkl", "net/data.pkl")


PICTURE = b"\x89PNG\r\n\x1a\n" + bytes(20)
OTHERS = {
    "net.onnx": (b"\x08\x07\x12\x07pytorch", "is an ONNX model: open the weights of the net"),
    "net.pt": (b"\x08\x07\x12\x07pytorch" + bytes(9), "is an ONNX model"),
    "script.pt": (script(), r"is a TorchScript program, .*torch\.jit\.load"),
    "program.pt2": (
        packed("net/archive_format", "net/data"),
        r"is a program of .*export.load",
    ),
    "net.pth": (b"\n<!DOCTYPE HTML><html>", "is a web page, not weights: download the file itself"),
    "picture.png": (PICTURE, "is a PNG image, not weights: save weights from Python"),
    "photo.safetensors": (b"\xff\xd8\xff\xe0", "is a JPEG image"),
    "all.zip": (packed("a/net.pt", "a/readme"), r"is a zip archive \(a/net.pt, a/readme\): unpack it"),
    "net.pt.gz": (b"\x1f\x8b\x08", "is compressed with gzip: unpack it"),
    "keras.h5": (b"\x89HDF\r\n", "is an HDF5 file"),
    "one.npy": (b"\x93NUMPY", "is a single NumPy array"),
    "lfs.safetensors": (b"version https://git-lfs.github.com/spec/v1", "is a Git LFS pointer"),
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_what_it_is_and_the_way_on(name: str) -> None:
    content, said = OTHERS[name]
    with pytest.raises(IntakeError, match=f"^{name} {said}" if "(" not in said else said):
        read(content, name)


def test_a_pickled_net_is_named() -> None:
    file = io.BytesIO()
    torch.save(nn.Linear(2, 2), file)
    with pytest.raises(IntakeError, match=r"pickle of torch\.nn\.modules\.linear\.Linear .*state_dict"):
        read(file.getvalue(), "net.pt")


def test_weights_are_nothing_else() -> None:
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"w": torch.ones(2, 2)}, file, _use_new_zipfile_serialization=zipped)
        assert set(read(file.getvalue(), "net.pt")[0].params) == {"w"}
