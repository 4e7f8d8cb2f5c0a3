"""Rounded numbers around some layers of a model, those that are to multiply integers."""

from __future__ import annotations

from collections.abc import Sequence

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import channels, rounded_inputs, rounded_sums
from engine.net.rounded_inputs import Plan
from engine.net.taps import CALIBRATION, module_of
from engine.types import Arch, Bundle, Param, SlimscopeError, weight_layers

PLAN = Plan(bits=8, symmetric=False, dynamic=False, range="minmax", percentile=100.0)


def round_for(after: Bundle, before: Bundle, weights: Sequence[str], samples: Samples) -> Bundle:
    """`after` with rounded inputs where these weights multiply, on ranges that `before` shows.

    In ONNX Runtime a convolution multiplies codes where it gives codes, too, and so does a linear layer
    before a ReLU. So what reads one of these layers has a rounded input as well, whatever its own weights
    are, and what it gives to a sum is rounded before.
    """
    whole = _calibrated(before, samples)
    giving, modules = rounded_sums.giving(before), set(map(module_of, weights))
    readers = {module_of(name) for weight in weights for name in _readers(before, weight)}
    wanted = {
        "quantize_input": modules | readers,
        "quantize_output": {giving[name] for name in modules if name in giving},
    }
    arch: Arch = after.arch
    params: dict[str, Param] = dict(after.params)
    for verb, own in whole.arch.edits[len(before.arch.edits) :]:
        if own["layer"] in wanted[verb]:
            arch = arch.edit(verb, **own)
            own_side = f"{own['layer']}.{verb.removeprefix('quantize_')}_quantizer."
            params |= {name: param for name, param in whole.params.items() if name.startswith(own_side)}
    return after.become(params, arch)


@remembered
def _calibrated(bundle: Bundle, samples: Samples) -> Bundle:
    """The bundle with rounded inputs of all its layers, and with rounded terms of its sums."""
    images = samples.stratified(CALIBRATION).inputs()
    after = rounded_inputs.calibrated(bundle, images, weight_layers(bundle), PLAN)[0]
    return rounded_sums.round_outputs(after, images, rounded_sums.giving(bundle).values(), PLAN)[0]


def _readers(bundle: Bundle, weight: str) -> tuple[str, ...]:
    """The weights that read what a layer alone makes."""
    try:
        groups = channels.groups(bundle).values()
    except SlimscopeError:  # nobody knows how its layers are connected
        return ()
    own = [group for group in groups if not group.stream and weight in {part.param for part in group.makes}]
    return tuple(part.param for group in own for part in group.reads)
