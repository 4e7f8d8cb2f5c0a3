"""What layers give to sums, rounded: as runtimes need it whose convolutions of codes give codes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from engine.data.sets import Data
from engine.net import channels
from engine.net.channels import Group
from engine.net.rounded_inputs import Plan
from engine.net.taps import calibration, normal_behind, outputs_seen
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, Param, SlimscopeError


def giving(bundle: Bundle) -> dict[str, str]:
    """Layer -> the module whose output is added up: the layer's own, or its batch-norm's.

    Added to others, as in a residual net, or place by place, as before an average that a linear layer reads.
    None where nobody knows how layers are connected.
    """
    try:
        groups = channels.groups(bundle).values()
    except SlimscopeError:
        return {}
    normal = normal_behind(bundle.arch)
    layers = [
        layer for group in groups if group.stream or _is_averaged(bundle, group) for layer in group.layers
    ]
    return {layer: normal.get(layer, layer) for layer in layers if f"{layer}.weight" in bundle.params}


def _is_averaged(bundle: Bundle, group: Group) -> bool:
    """Whether a linear layer reads one number of each channel of a convolution."""
    makes, reads = (
        [len(bundle.params[x.param].shape) for x in parts] for parts in (group.makes, group.reads)
    )
    blocks = [part.block for part, dims in zip(group.reads, reads, strict=True) if dims == 2]
    return max(makes) > 2 and 1 in blocks


def round_for(
    bundle: Bundle, data: Data | None, names: Mapping[str, str], plan: Plan
) -> tuple[Bundle, list[str]]:
    """The bundle with rounded terms of its sums, of those that these layers give; which modules give them."""
    if data is None:
        return bundle, []
    terms = giving(bundle)
    modules = [terms[layer] for layer in names if layer in terms]
    return round_outputs(bundle, calibration(data, plan.images), modules, plan)


def round_outputs(
    bundle: Bundle, images: Tensor, modules: Iterable[str], plan: Plan
) -> tuple[Bundle, list[str]]:
    """The bundle with rounded outputs of these modules, on ranges from these images; which were called."""
    arch: Arch = bundle.arch
    params: dict[str, Param] = dict(bundle.params)
    seen = outputs_seen(bundle, images, [*modules], plan.seen_as)
    for name, values in seen.items():
        arch = arch.edit("quantize_output", layer=name, bits=plan.bits, symmetric=plan.symmetric)
        grid = plan.grid(values)
        params[f"{name}.output_quantizer.scale"] = Dense(grid.scale)
        params[f"{name}.output_quantizer.zero"] = Dense(grid.zero.float())
    return bundle.become(params, arch), list(seen)
