"""Rounded inputs for some layers of a model: of those that are to multiply integers, and of their readers."""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import channels, rounded_inputs
from engine.net.rounded_inputs import Plan
from engine.net.taps import CALIBRATION, module_of
from engine.types import Arch, Bundle, Param, SlimscopeError, weight_layers

PLAN = Plan(bits=8, symmetric=False, dynamic=False, range="minmax", percentile=100.0)


def round_for(after: Bundle, before: Bundle, weights: Sequence[str], samples: Samples) -> Bundle:
    """`after` with rounded inputs where these weights multiply, on ranges that `before` shows.

    In ONNX Runtime a convolution multiplies codes where it gives codes, too, and so does a linear layer
    before a ReLU. So what reads one of these layers has a rounded input as well, whatever its own weights
    are.
    """
    whole = _calibrated(before, samples)
    wanted = {module_of(name) for weight in weights for name in (weight, *_readers(before, weight))}
    arch: Arch = after.arch
    params: dict[str, Param] = dict(after.params)
    for verb, own in whole.arch.edits[len(before.arch.edits) :]:
        if own["layer"] in wanted:
            arch = arch.edit(verb, **own)
            names = (f"{own['layer']}.input_quantizer.{part}" for part in ("scale", "zero"))
            params |= {name: whole.params[name] for name in names}
    return after.become(params, arch)


@remembered
def _calibrated(bundle: Bundle, samples: Samples) -> Bundle:
    """The bundle with rounded inputs of all its layers."""
    images = samples.stratified(CALIBRATION).inputs()
    return rounded_inputs.calibrated(bundle, images, weight_layers(bundle), PLAN)[0]


def _readers(bundle: Bundle, weight: str) -> tuple[str, ...]:
    """The weights that read what a layer alone makes."""
    try:
        groups = channels.groups(bundle).values()
    except SlimscopeError:  # nobody knows how its layers are connected
        return ()
    own = [group for group in groups if not group.stream and weight in {part.param for part in group.makes}]
    return tuple(part.param for group in own for part in group.reads)
