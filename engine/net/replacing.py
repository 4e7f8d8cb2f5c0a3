"""Convolutions of a bundle in a compact design: which can be replaced, and one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from engine.net import compact, zoo
from engine.net.surgery import is_read_past
from engine.tensor.compact import Design, error, refitted, start
from engine.tensor.formats import Dense
from engine.types import Bundle, Param, SlimscopeError, weight_layers

FEWEST = 4  # channels: a layer that reads the image has too few to be taken apart


def fitting(
    bundle: Bundle, design: Design, leave_out: Sequence[str] = ()
) -> tuple[list[str], dict[str, str]]:
    """Convolutions that can be replaced, and why the others can't. Raises SlimscopeError where none can."""
    modules = dict(zoo.skeleton(bundle.arch).named_modules()) if bundle.arch.runs else {}
    labels, unfit = [], {}
    for label, name in weight_layers(bundle).items():
        if why := "left out" if label in leave_out else _why_not(bundle, modules, label, name, design):
            unfit[label] = why
        else:
            labels.append(label)
    if not labels:
        convolutions = {x: why for x, why in unfit.items() if isinstance(modules.get(x), nn.Conv2d)}
        if not convolutions:
            raise SlimscopeError(f"{zoo.title(bundle.arch)} has no 2-D convolution to replace")
        why = "; ".join(f"{label}: {reason}" for label, reason in convolutions.items())
        raise SlimscopeError(f"no convolution of {zoo.title(bundle.arch)} can be {design.name} ({why})")
    return labels, unfit


def _why_not(bundle: Bundle, modules: Mapping[str, nn.Module], label: str, name: str, design: Design) -> str:
    layer = modules.get(label)
    if layer is None:
        return "it shares its layer with other matrices"
    if why := compact.why_not(layer, design):
        return why
    assert isinstance(layer, nn.Conv2d)
    if layer.in_channels < FEWEST:
        return f"too few channels to be taken apart enter it ({layer.in_channels})"
    if name in bundle.arch.ties.values():
        return "another layer shares its numbers"
    if is_read_past(modules[""], label):
        return "the module around it reads its numbers itself"
    return "its input is quantized: replace it first" if hasattr(layer, "input_quantizer") else ""


# ---------------------------------------------------------------- one layer


def replaced(
    now: Bundle, teacher: nn.Module, label: str, design: Design, images: Tensor, rounds: int
) -> tuple[Bundle, tuple[float, float]]:
    """The bundle with one more layer in the design, and the error of its outputs at the start and fitted."""
    weight = now.params[f"{label}.weight"].decode()
    moments, read, given = compact.moments(teacher, zoo.build(now), label, images)
    factors = start(weight.flatten(2), design)
    first = error(factors.kernel, moments)
    for _ in range(rounds):
        factors = refitted(factors, moments, design)
    last = error(factors.kernel, moments)
    state = compact.state_of(factors, design, weight.shape[2:])
    bias = None
    if f"{label}.bias" in now.params:  # it makes up for the means
        bias = Dense((given - factors.kernel.flatten(1) @ read).float())
    arch = now.arch.edit(
        "replace_conv", layer=label, design=design.name, groups=design.groups, expansion=design.expansion
    )
    return now.become(_in_place(now.params, label, state, bias), arch), (first, last)


def _in_place(
    params: Mapping[str, Param], label: str, state: Mapping[str, Tensor], bias: Param | None
) -> dict[str, Param]:
    """The parameters with those of the new layer where the old one's were."""
    found: dict[str, Param] = {}
    for name, param in params.items():
        if name == f"{label}.weight":
            found |= {f"{label}.{part}": Dense(values) for part, values in state.items()}
        elif name == f"{label}.bias" and bias is not None:
            last = max(state).removesuffix(".weight")
            found[f"{label}.{last}.bias"] = bias
        else:
            found[name] = param
    return found
