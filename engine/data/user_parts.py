"""Data sets that a user brings, read into tensors as a task."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from engine.data.sets import Data, Samples
from engine.data.user_errors import UserError, own_errors

PARTS = ("train", "validation", "test")
MOST_BYTES = 4_000_000_000  # of all inputs of one part


def task_of(parts: Any, text: str, metric: Callable[[Tensor, Tensor], Any] | None = None) -> Data:
    """Train, validation and test as a task; each is a map-style data set of (input, target), or tensors.

    One of slimscope's own tasks keeps the names of its classes, its texts and what makes an input of another
    text. Inputs stay as they are, 64-bit floats excepted. Raises UserError where one can't be read.
    """
    known = parts if isinstance(parts, Data) else None
    if known:
        metric = metric or known.metric
        parts = (known.train, known.validation, known.test)
    if not isinstance(parts, tuple | list) or len(parts) != len(PARTS):
        kind = type(parts).__name__
        got = f"a {kind} of {len(parts)}" if isinstance(parts, tuple | list) else f"a {kind}"
        raise UserError(f"{text}: data must be (train, validation, test), got {got}")
    read = [samples_of(part, f"{text}, {own}") for own, part in zip(PARTS, parts, strict=True)]
    shapes = {tuple(part.images.shape[1:]) for part in read}
    if len(shapes) > 1:
        raise UserError(f"{text}: the parts have inputs of different shapes: {sorted(shapes)}")
    if not read[0].is_labelled and metric is None:
        kind = f"{str(read[0].labels.dtype).removeprefix('torch.')} {tuple(read[0].labels.shape[1:])}"
        raise UserError(f"{text}: targets are {kind}, not class numbers: name a --metric package:function")
    if known and read[0].is_labelled:
        _check_named(known.classes, read, text)
    digest = hashlib.sha256(repr(known.classes).encode() if known else b"")
    for part in read:
        digest.update(part.images.contiguous().view(torch.uint8).numpy().data)
        digest.update(part.labels.contiguous().view(torch.uint8).numpy().data)
    name = f"user-{digest.hexdigest()[:16]}"
    if known:
        return replace(known, name=name, metric=metric)
    return Data(name, read[0], read[1], read[2], _classes(parts, read), metric=metric)


def _check_named(classes: tuple[str, ...], read: list[Samples], text: str) -> None:
    """Raises UserError where a target is no number of a class that has a name."""
    ends = [end for part in read for end in (int(part.labels.min()), int(part.labels.max()))]
    if min(ends) < 0 or max(ends) >= len(classes):
        allowed = f"allowed are 0 to {len(classes) - 1}, the classes that have names"
        raise UserError(f"{text}: targets reach from {min(ends)} to {max(ends)}: {allowed}")


def _classes(parts: Any, read: list[Samples]) -> tuple[str, ...]:
    """The names that the test data set calls its `classes`, or numbers."""
    if not read[0].is_labelled:
        return ()
    count = 1 + max(int(part.labels.max()) for part in read)
    own = getattr(parts[2], "classes", None) or ()
    return tuple(map(str, own)) if len(own) >= count else tuple(map(str, range(count)))


def samples_of(part: Any, text: str) -> Samples:
    """One part as samples. Raises UserError."""
    if isinstance(part, Samples):
        return part
    pair = getattr(part, "tensors", part)  # torch's TensorDataset holds them whole
    if isinstance(pair, tuple) and len(pair) == 2 and hasattr(pair[0], "shape") and hasattr(pair[1], "shape"):
        inputs, targets = _tensor(pair[0], text), _tensor(pair[1], text)
    else:
        inputs, targets = _listed(part, text)
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise UserError(
            f"{text}: {len(inputs)} inputs and {len(targets)} targets: allowed are as many, from 1"
        )
    if inputs.is_floating_point() and not bool(torch.isfinite(inputs).all()):
        raise UserError(f"{text}: inputs hold NaN or infinity")
    if not targets.is_floating_point():
        targets = targets.long()
        if targets.dim() == 1 and int(targets.min()) < 0:
            raise UserError(f"{text}: class {int(targets.min())} is below 0")
    return Samples(inputs, targets, (), ())


def _listed(part: Any, text: str) -> tuple[Tensor, Tensor]:
    if not hasattr(part, "__getitem__") or not hasattr(part, "__len__"):
        raise UserError(f"{text}: a data set has a length and items by number, got {type(part).__name__}")
    inputs, targets = [], []
    for i in range(len(part)):
        with own_errors(f"{text}, item {i}"):
            item = part[i]
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UserError(f"{text}: item {i} must be (input, target), got {type(item).__name__}")
        inputs.append(_tensor(item[0], f"{text}, item {i}"))
        targets.append(_tensor(item[1], f"{text}, item {i}"))
        if i == 0 and inputs[0].nbytes * len(part) > MOST_BYTES:
            raise UserError(f"{text}: {len(part):,} inputs of {inputs[0].nbytes:,} B exceed {MOST_BYTES:,} B")
        if inputs[i].shape != inputs[0].shape:
            shapes = f"{tuple(inputs[0].shape)} and {tuple(inputs[i].shape)}"
            raise UserError(f"{text}: inputs 0 and {i} have the shapes {shapes}: allowed is one shape")
    if not inputs:
        raise UserError(f"{text}: it is empty")
    return torch.stack(inputs), torch.stack(targets)


def _tensor(value: Any, text: str) -> Tensor:
    try:
        tensor = torch.as_tensor(value).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        kind = type(value).__name__
        raise UserError(
            f"{text}: {kind} is no tensor: let the data set give tensors, arrays or numbers"
        ) from None
    return tensor.float() if tensor.dtype in (torch.float64, torch.float16, torch.bfloat16) else tensor
