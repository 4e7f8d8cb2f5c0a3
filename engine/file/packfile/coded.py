"""A tensor's sections, encoded once and decoded once: kept by what the tensor holds.

A move of a slider leaves most tensors as they were, and a file is asked for its size, its ledger and its
bytes. Nothing that is kept here is taken on trust: `proven` gives back what was decoded and compared.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Hashable

from engine.file.packfile.head import description
from engine.file.packfile.reading import check_decoded
from engine.memory import MEMORY
from engine.tensor.codes import chosen
from engine.tensor.formats.numbers import numbers
from engine.types import Param, Section

LARGEST = 1 << 22  # numbers of a tensor that is remembered


def sections(name: str, param: Param) -> list[Section]:
    """As the parameter's own, from memory where its like was encoded before."""
    return _sections(_key(param), param)


def proven(name: str, param: Param) -> list[Section]:
    """`sections` that were decoded and found equal, bit for bit. Raises PackError where they are not."""
    key = _key(param)
    listed = _sections(key, param)
    if key is None:
        check_decoded(name, param, listed)
    else:
        MEMORY.get(("proven", key), lambda: check_decoded(name, param, listed))
    return listed


def _sections(key: Hashable, param: Param) -> list[Section]:
    if key is None:
        return param.sections()
    kept: list[Section] = MEMORY.get(("sections", key), lambda: _encoded(param))
    return kept


def _encoded(param: Param) -> list[Section]:
    return [(part, coding, bytes(data)) for part, coding, data in param.sections()]


def _key(param: Param) -> Hashable:
    """None where a tensor is too large to be remembered."""
    if math.prod(param.shape) > LARGEST:
        return None
    digest = hashlib.blake2b(digest_size=20)
    for tensor in param.tensors().values():
        digest.update(numbers(tensor).data)
    return chosen(), str(description(param)), digest.hexdigest()
