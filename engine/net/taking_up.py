"""Operations that can take up factors of the channels that they give: who reads these, and what is divided.

A layer that reads a channel times s may have its weights divided by s, and give the same, where what makes
the channel gives it times 1 / s: the scale and shift of a normalisation before it, or the rows of a layer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from torch import Tensor, fx, nn

from engine.memory import remembered
from engine.net import readers, zoo
from engine.net.channels import scaling
from engine.net.walk import Tracer
from engine.tensor.formats import AffineGrid, Dense, Scaled
from engine.types import Arch, Bundle, Param, SlimscopeError


@dataclass(frozen=True)
class Maker:
    """What makes channels (a normalisation or a layer, by name), and the labels of all that read them."""

    name: str
    is_layer: bool
    readers: tuple[str, ...]


def makers(arch: Arch) -> Mapping[str, Maker]:
    """Layer -> who makes its inputs, where that can take up a factor for each, and nobody else reads them.

    Normalisations directly before linear layers (LayerNorm and RMSNorm with a scale), and layers with nothing
    but ReLU, pooling or the like between (`channels.scaling`). Left out are layers whose inputs are rounded,
    since these would be rounded otherwise, and tensors that are tied. Nothing where a net can't be followed.
    """
    rounded = {settings["layer"] for verb, settings in arch.edits if verb == "quantize_input"}
    tied = {name.rpartition(".")[0] for pair in arch.ties.items() for name in pair}
    found = {**_by_layers(arch.key), **_by_norms(arch.key)}
    return {
        label: maker
        for label, maker in found.items()
        if not rounded & set(maker.readers) and not tied & {maker.name, *maker.readers}
    }


@remembered
def _by_layers(key: str) -> dict[str, Maker]:
    try:
        pairs = scaling.pairs(Arch.from_key(key))
    except SlimscopeError:
        return {}
    found: dict[str, Maker] = {}
    for name, group in pairs.items():
        (read,) = group.reads
        label, whole = read.param.removesuffix(".weight"), tuple(range(group.channels))
        straight = all(part.block == 1 and part.at == whole for part in (*group.makes, read))
        if read.axis == 1 and straight:
            found[label] = Maker(name, True, (label,))
    return found


@remembered
def _by_norms(key: str) -> dict[str, Maker]:
    net = zoo.skeleton(Arch.from_key(key)).eval()
    try:
        with readers.ALONE:
            nodes = list(Tracer().trace(net).nodes)
    except Exception:  # whatever a user's code does when it is traced: factors are then stored beside
        return {}
    calls = Counter(str(node.target) for node in nodes if node.op == "call_module")
    found: dict[str, Maker] = {}
    for node in nodes:
        if node.op != "call_module" or not _has_scales(net.get_submodule(str(node.target))):
            continue
        read_by = [str(user.target) for user in node.users if _is_linear(net, user, node)]
        if len(read_by) == len(node.users) > 0 and all(calls[x] == 1 for x in (*read_by, str(node.target))):
            maker = Maker(str(node.target), False, tuple(read_by))
            found |= dict.fromkeys(read_by, maker)
    return found


def _has_scales(module: nn.Module) -> bool:
    """Whether it is a normalisation of the last axis with a scale for each channel."""
    if not isinstance(module, nn.LayerNorm | nn.RMSNorm):
        return False
    return len(module.normalized_shape) == 1 and module.elementwise_affine


def _is_linear(net: nn.Module, user: fx.Node, node: fx.Node) -> bool:
    is_call = user.op == "call_module" and user.args == (node,)
    return is_call and isinstance(net.get_submodule(str(user.target)), nn.Linear)


def taken_up(bundle: Bundle, chosen: Iterable[Maker], factors: Mapping[str, Tensor]) -> Bundle:
    """The bundle with the factors of all readers of the `chosen` makers taken up; it answers as before.

    `factors` is reader -> (inputs,). A reader that is stored as `Scaled` becomes its grid alone. What a maker
    gives is divided: its scale and shift, or its rows and its bias, whatever format its rows are in.
    """
    params = dict(bundle.params)
    for maker in {each.name: each for each in chosen}.values():
        factor = factors[maker.readers[0]]
        if bool((factor == 1).all()):
            continue
        for label in maker.readers:
            params[f"{label}.weight"] = _without(params[f"{label}.weight"])
        for own in ("weight", "bias"):
            name = f"{maker.name}.{own}"
            if name in params:
                params[name] = _divided(params[name], factor)
    return bundle.become(params)


def _without(param: Param) -> Param:
    assert isinstance(param, Scaled)
    return param.grid


def _divided(param: Param, factor: Tensor) -> Param:
    """Each place of axis 0 over its factor: a grid in groups of a row has them in its scales."""
    if isinstance(param, Scaled):
        divided = _divided(param.grid, factor)
        assert isinstance(divided, AffineGrid)
        return replace(param, grid=divided)
    if isinstance(param, AffineGrid):
        tiles = len(param.scale) // len(factor)
        return replace(param, scale=param.scale / factor.repeat_interleave(tiles))
    values = param.decode()
    return Dense(values / factor.reshape(-1, *[1] * (values.dim() - 1)))
