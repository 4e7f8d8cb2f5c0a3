"""What every net from outside must hold before anything is done with it, whatever file it came in.

`check_net` needs names and shapes alone and takes no memory for numbers; `check` looks at the numbers too.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from engine.net import sources, surgery, zoo
from engine.recipe import technique
from engine.types import TIES, Arch, Bundle, Param, Recipe, SlimscopeError

MOST_TENSORS = 10_000
MOST_AXES = 8
MOST_EDITS = 1_000
MOST_STEPS = 200  # of a lineage: a file that is opened and compressed again has more steps than a recipe
LONGEST_NAME = 300  # characters
DEEPEST_NAME = 12  # dots in the name of a layer: one that is split is split again inside
LARGEST_VALUE = 1e12  # squares of larger numbers overflow 32-bit floats where they are added up
WHOLE = range(1 << 31)  # what a number in an edit may be
# What torch raises where layers do not fit together.
UNFIT = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, ArithmeticError)

Shapes = Mapping[str, Sequence[int]]


class CheckError(SlimscopeError):
    """A net that cannot be taken in; the text names what is wrong, its value and what is allowed."""


def check(bundle: Bundle) -> None:
    """Refuse a net that cannot be shown, compressed and packed, with CheckError.

    Everything of `check_net` holds; every value and scale is finite and at most LARGEST_VALUE; a net
    with a known architecture answers with finite numbers.
    """
    check_net(bundle.arch, bundle.lineage, {name: param.shape for name, param in bundle.params.items()})
    for name, param in bundle.params.items():
        _check_numbers(name, param)
    if bundle.arch.runs:
        _check_answers(bundle)


def check_net(arch: Arch, lineage: Recipe, shapes: Shapes) -> None:
    """Refuse what can be refused without numbers: `shapes` maps the name of each tensor to its extents.

    Raises CheckError for bad names, empty tensors, too many of anything, techniques, architectures and edits
    that are not known, and tensors that do not fit their architecture or a net that does not run.
    """
    _check_shapes(shapes)
    _check_lineage(lineage)
    _check_edits(arch)
    _check_ties(arch, shapes)
    if arch.runs:
        _check_fit(arch, shapes)


# ---------------------------------------------------------------- names and shapes


def _check_shapes(shapes: Shapes) -> None:
    if not 1 <= len(shapes) <= MOST_TENSORS:
        raise CheckError(f"there are {len(shapes):,} tensors: allowed are 1 to {MOST_TENSORS:,}")
    for name, shape in shapes.items():
        check_name(name)
        if len(shape) > MOST_AXES:
            raise CheckError(f"tensor {name!r} has {len(shape)} axes: allowed are at most {MOST_AXES}")
        if 0 in shape:
            raise CheckError(f"tensor {name!r} is empty (shape {tuple(shape)})")


def check_name(name: str) -> None:
    """Refuse a tensor's name that could not be written down or shown, with CheckError."""
    if not 1 <= len(name) <= LONGEST_NAME:
        text = f"tensor {name[:40]!r} has a name of {len(name):,} characters"
        raise CheckError(f"{text}: allowed are 1 to {LONGEST_NAME}")
    try:
        name.encode()
    except UnicodeEncodeError:
        raise CheckError(f"tensor {name!a} has a name that is no text: half a character in it") from None


# ---------------------------------------------------------------- recipe and architecture


def _check_lineage(lineage: Recipe) -> None:
    if len(lineage) > MOST_STEPS:
        raise CheckError(f"its recipe has {len(lineage):,} steps: allowed are at most {MOST_STEPS}")
    # The registry is empty where only packed files are read and no technique was loaded.
    for step in lineage if technique.REGISTRY else ():
        technique.get(step.technique)


def check_arch_data(raw: Any) -> None:
    """Refuse an architecture that is not `[name, [[edit, settings], ...]]`, or has too many edits.

    A third item holds what else the net's source must know: text by name, and a table of ties.
    """
    if isinstance(raw, list) and len(raw) == 3 and isinstance(raw[2], dict) and raw[2]:
        rest = {name: value for name, value in raw[2].items() if name != TIES}
        if _is_of(rest, dict[str, str]) and _is_of(raw[2].get(TIES, {}), dict[str, str]):
            raw = raw[:2]
    match raw:
        case [str(), list(edits)] if len(edits) > MOST_EDITS:
            raise CheckError(f"there are {len(edits):,} edits: allowed are at most {MOST_EDITS:,}")
        case [str(), list(edits)] if all(_is_edit(edit) for edit in edits):
            return
    raise CheckError(f"an architecture is a name and a list of edits, got {ascii(raw)[:80]}")


def _is_edit(raw: Any) -> bool:
    match raw:
        case [str(), dict(settings)]:
            return "self" not in settings and "verb" not in settings
    return False


def _check_edits(arch: Arch) -> None:
    if len(arch.edits) > MOST_EDITS:
        raise CheckError(f"there are {len(arch.edits):,} edits: allowed are at most {MOST_EDITS:,}")
    if arch.source == "user":
        sources.check(arch)  # imports nothing that was not named at the start
    elif arch.runs and arch.name not in zoo.KNOWN:
        known = ", ".join(("bare", *zoo.ENTRIES))
        raise CheckError(f"architecture {ascii(arch.name)[:60]} is unknown; there are {known}")
    for verb, settings in arch.edits:
        _check_settings(verb, settings)


def _check_ties(arch: Arch, shapes: Shapes) -> None:
    """Whether each tie gives another name to a tensor that is there."""
    for other, name in arch.ties.items():
        check_name(other)
        if name not in shapes or other in shapes or arch.source == "zoo":
            raise CheckError(f"its ties say that {other!r} is {name!r}: allowed is a new name of one")


def _check_settings(verb: str, settings: Mapping[str, Any]) -> None:
    if verb not in surgery.EDITS:
        raise CheckError(f"edit {ascii(verb)[:60]} is unknown; there are {', '.join(surgery.EDITS)}")
    wanted, needed = _settings_of(verb), _needed(verb)
    if not set(needed) <= set(settings) <= set(wanted):
        given = ascii(sorted(settings))[:80]
        raise CheckError(f"edit {verb!r} has the settings {given}: needed are {', '.join(needed)}")
    for name, value in settings.items():
        if not _is_of(value, wanted[name]):
            kind = inspect.formatannotation(wanted[name])
            raise CheckError(f"{name} of edit {verb!r} is {ascii(value)[:60]}: allowed is {kind}")
    layer = settings.get("layer", "")
    if layer.count(".") > DEEPEST_NAME or len(layer) > LONGEST_NAME:
        raise CheckError(f"layer {layer[:40]!r} lies deeper than {DEEPEST_NAME} layers in each other")


@cache
def _settings_of(verb: str) -> Mapping[str, Any]:
    """Name -> type of each setting of an edit, read off its function."""
    hints = get_type_hints(surgery.EDITS[verb])
    return {name: hint for name, hint in hints.items() if name not in ("net", "return")}


@cache
def _needed(verb: str) -> tuple[str, ...]:
    """The settings without a default: one that an edit got later has one, and older files do not say it."""
    parameters = inspect.signature(surgery.EDITS[verb]).parameters.values()
    return tuple(p.name for p in parameters if p.name != "net" and p.default is p.empty)


def _is_of(value: Any, hint: Any) -> bool:
    """Whether plain data is what a type hint says; whole numbers are those of WHOLE."""
    inner = get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list) and all(_is_of(item, inner[0]) for item in value)
    if inner:
        return isinstance(value, Mapping) and all(
            _is_of(key, inner[0]) and _is_of(item, inner[1]) for key, item in value.items()
        )
    return type(value) is hint and (hint is not int or value in WHOLE)


def _check_fit(arch: Arch, shapes: Shapes) -> None:
    """Whether the tensors are those of the edited net, and what goes through it comes out as it should."""
    try:
        net = zoo.skeleton(arch).eval()
        floating = {n: tuple(t.shape) for n, t in net.state_dict().items() if t.is_floating_point()}
        ties = {o: first for first, *others in surgery.shared(net) for o in others if o in floating}
        if dict(arch.ties) != ties:
            raise CheckError(f"its ties are {ascii(dict(arch.ties))[:80]}, those of {arch.title} {ties}")
        needed = {name: shape for name, shape in floating.items() if name not in ties}
        if wrong := _first_difference(needed, shapes):
            raise CheckError(f"its tensors do not fit {arch.name}: {wrong}")
        if arch.source == "user":
            return
        answers = tuple(_answers(net, _input(arch.name).example().to("meta")).shape)
    except CheckError:
        raise
    except (SlimscopeError, *UNFIT) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise CheckError(f"its architecture can't be built or run: {why}") from None
    if answers != (usual := _usual_answers(arch.name)):
        raise CheckError(f"its answers have the shape {answers}: those of {arch.name} have {usual}")


def _first_difference(needed: Shapes, shapes: Shapes) -> str:
    for name in [*needed, *shapes]:
        if name not in shapes:
            return f"{name!r} is missing"
        if name not in needed:
            return f"{name!r} is not in the model"
        if tuple(needed[name]) != tuple(shapes[name]):
            return f"{name!r} has the shape {tuple(shapes[name])}, needed is {tuple(needed[name])}"
    return ""


def _input(name: str) -> zoo.Input:
    return zoo.INPUTS[zoo.entry(name).data]


@cache
def _usual_answers(name: str) -> tuple[int, ...]:
    net = zoo.skeleton(Arch(name)).eval()
    return tuple(_answers(net, _input(name).example().to("meta")).shape)


def _answers(net: nn.Module, inputs: Tensor) -> Tensor:
    with torch.inference_mode():
        answers: Tensor = net(inputs)
    return answers


# ---------------------------------------------------------------- numbers


def _check_numbers(name: str, param: Param) -> None:
    stored = {part: tensor for part, tensor in param.tensors().items() if tensor.is_floating_point()}
    for part, tensor in stored.items():
        _check_values(f"{part} of" if len(param.tensors()) > 1 else "", name, tensor)
    if len(stored) < len(param.tensors()):
        _check_values("", name, param.decode())  # codes and scales may be sound, and their products too large


def _check_values(part: str, name: str, values: Tensor) -> None:
    whose = f"{part} tensor {name!r}".strip()
    low, high = (float(end) for end in values.aminmax())  # NaN is passed on; nothing is copied
    if not (math.isfinite(low) and math.isfinite(high)):
        bad = int((~torch.isfinite(values)).sum())
        raise CheckError(f"{whose} holds {bad:,} values that are NaN or infinite")
    if (largest := max(-low, high)) > LARGEST_VALUE:
        raise CheckError(f"{whose} holds {largest:g}: allowed are values up to {LARGEST_VALUE:g} in size")


def _check_answers(bundle: Bundle) -> None:
    if bundle.arch.source == "user":
        return
    inputs = _input(bundle.arch.name).extremes(torch.Generator().manual_seed(0))
    if not bool(torch.isfinite(_answers(zoo.build(bundle), inputs)).all()):
        raise CheckError("the model answers with NaN or infinity: its numbers overflow when it is run")
