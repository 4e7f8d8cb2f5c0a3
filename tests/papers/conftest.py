"""What runs of papers share: a few images in the place of all."""

import pytest

from engine.data import sets
from engine.data.sets import Data


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Data:
    """A few of the digits, which everybody loads from now on, whatever they ask for."""
    whole = sets.load("mnist")
    parts = (p.stratified(n) for p, n in ((whole.train, 300), (whole.validation, 100), (whole.test, 100)))
    found = Data(whole.name, *parts, whole.classes)
    for name in ("load", "load_full"):
        monkeypatch.setattr(sets, name, lambda _: found)
    return found
