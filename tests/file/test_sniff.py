"""A file that holds no weights is named for what it is, with the way on."""

import io
import os
import zipfile
from typing import Any

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
    "mark.pt": (b"\xef\xbb\xbf<html>", "is a web page"),
    "drawing.pt": (b"<?xml version='1.0'?><svg>", "is a text of markup"),
    "packed.pt": (b"\x28\xb5\x2f\xfd", "is compressed with zstd"),
    "slim.pt": (b"SLIM" + bytes(20), "is a file of slimscope: give its name the ending .slim"),
    "words.pt": (b"hello", "is damaged or no PyTorch file$"),
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


class Runs:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def test_a_pickle_that_runs_a_program_is_named() -> None:
    file = io.BytesIO()
    torch.save(Runs(), file)
    with pytest.raises(IntakeError, match=r"is a pickle of posix\.system and needs code to be read"):
        read(file.getvalue(), "net.pt")


def test_an_archive_of_too_many_members_is_not_read() -> None:
    with pytest.raises(IntakeError, match="holds 20,000 members: allowed are 10,000 tensors"):
        read(packed("net/data.pkl", *(f"net/data/{i}" for i in range(19_999))), "net.pt")


def test_names_that_read_alike_are_refused() -> None:
    file = io.BytesIO()
    torch.save({1: torch.ones(2, 2), "1": torch.zeros(2, 2)}, file)
    with pytest.raises(IntakeError, match="read alike"):
        read(file.getvalue(), "net.pt")


def test_weights_are_nothing_else() -> None:
    for zipped in (True, False):
        file = io.BytesIO()
        torch.save({"w": torch.ones(2, 2)}, file, _use_new_zipfile_serialization=zipped)
        assert set(read(file.getvalue(), "net.pt")[0].params) == {"w"}
