"""Which LSTMs of a bundle can have a projection, what reads their states, and the bundle after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.data import user_errors
from engine.memory import remembered
from engine.net import sources, zoo
from engine.net.state_readers import Unfit, answers, readers
from engine.net.surgery import get_layer
from engine.tensor import projection
from engine.tensor.formats import Dense
from engine.tensor.projection import Joint
from engine.types import Arch, Bundle, Param, SlimscopeError

CLOSE = (
    1e-4  # of the largest answer, between a net with a projection and one with the products of its matrices
)


@dataclass(frozen=True, eq=False)
class Level:
    """One layer of an LSTM: names of its recurrent matrix, of its P, and of all matrices of `joint`."""

    projection: str
    names: tuple[str, ...]
    joint: Joint


@dataclass(frozen=True, eq=False)
class Recurrent:
    """An LSTM that can have a projection: its layers, and the modules that read the states of the last."""

    label: str
    levels: tuple[Level, ...]
    readers: tuple[str, ...]

    @property
    def joints(self) -> list[Joint]:
        return [level.joint for level in self.levels]

    @property
    def weights(self) -> int:
        """Of all matrices that would change."""
        return sum(joint.weights for joint in self.joints)

    def weights_at(self, rank: int) -> int:
        """Of the thin matrices and the projections."""
        return rank * sum(joint.weights_per_rank for joint in self.joints)

    def saves(self, rank: int) -> bool:
        return self.weights_at(rank) < self.weights


@remembered  # a slider moves many times over the same net
def found(bundle: Bundle, stacked: bool) -> tuple[tuple[Recurrent, ...], Mapping[str, str]]:
    """The LSTMs that can have a projection, and why others can't: module -> reason.

    `stacked`: P is cut from the recurrent matrix and its readers together. Raises SlimscopeError where no
    LSTM can, or where no model runs.
    """
    if not bundle.arch.runs:
        raise SlimscopeError(
            "what reads the states of an LSTM is known only where a model runs: it needs a known architecture"
        )
    net, title = zoo.skeleton(bundle.arch), zoo.title(bundle.arch)
    modules = {name: x for name, x in net.named_modules() if isinstance(x, nn.RNNBase | nn.RNNCellBase)}
    able, unfit = list[Recurrent](), dict[str, str]()
    for label in modules:
        try:
            able.append(_recurrent(bundle, net, label, stacked))
        except Unfit as why:
            unfit[label] = str(why)
    if not any(isinstance(module, nn.LSTM) for module in modules.values()):
        others = "; ".join(f"{label} {why}" for label, why in unfit.items())
        raise SlimscopeError(f"{title} has no LSTM to factorize" + (f" ({others})" if others else ""))
    if not able:
        reasons = "; ".join(f"{label} {reason}" for label, reason in unfit.items())
        raise SlimscopeError(f"no LSTM of {title} can have a projection: {reasons}")
    return tuple(able), unfit


def level_of(bundle: Bundle, weight: str, stacked: bool) -> Level | None:
    """The layer of an LSTM whose states this matrix reads; None where there is none that `found` finds."""
    try:
        levels = [level for layer in found(bundle, stacked)[0] for level in layer.levels]
    except SlimscopeError:
        return None
    return next((level for level in levels if weight in level.names), None)


def _recurrent(bundle: Bundle, net: nn.Module, label: str, stacked: bool) -> Recurrent:
    module = get_layer(net, label)
    _check(bundle, label, module)
    assert isinstance(module, nn.LSTM)
    inputs = sources.inputs(bundle.arch)
    if inputs.is_floating_point():
        inputs = torch.randn(inputs.shape, generator=torch.Generator().manual_seed(0))
    behind_it = readers(zoo.fork(bundle), label, inputs)
    for reader in behind_it:
        _check_numbers(bundle, reader, get_layer(net, reader), _weights_of(bundle, reader)[0])
    behind = [name for reader in behind_it for name in _weights_of(bundle, reader)]
    levels = []
    for number in range(module.num_layers):
        last = number == module.num_layers - 1
        names = (
            f"{label}.weight_hh_l{number}",
            *(behind if last else [f"{label}.weight_ih_l{number + 1}"]),
        )
        recurrent, *others = (bundle.params[name].decode() for name in names)
        joint = projection.joint(recurrent, others, stacked)
        levels.append(Level(f"{label}.weight_hr_l{number}", names, joint))
    recurrent_layer = Recurrent(label, tuple(levels), tuple(behind_it))
    _check_exact(bundle, recurrent_layer, max(module.hidden_size // 2, 1), inputs)
    return recurrent_layer


def _check(bundle: Bundle, label: str, module: nn.Module) -> None:
    """Raises Unfit where the module itself has no place for a projection."""
    if not isinstance(module, nn.LSTM) or type(module).forward is not nn.LSTM.forward:
        raise Unfit(f"is of type {type(module).__name__}, which has no projection")
    if module.proj_size:
        raise Unfit("has a projection already")
    if module.bidirectional:
        raise Unfit("reads its sequence both ways")
    if module.hidden_size < 2:
        raise Unfit("has a single state")
    _check_numbers(bundle, label, module, f"{label}.weight_hh_l0")


def _check_numbers(bundle: Bundle, label: str, module: nn.Module, weight: str) -> None:
    """Raises Unfit where a layer's matrices can't get another shape."""
    if weight not in bundle.params or not label:
        raise Unfit(f"has no matrix {weight!r} of its own")
    tied = {name.rpartition(".")[0] for pair in bundle.arch.ties.items() for name in pair}
    if label in tied:
        raise Unfit(f"can't change its shape: {label} shares its numbers with another layer")
    if hasattr(module, "input_quantizer"):
        raise Unfit(f"can't change its shape: what enters {label} is quantized; quantize after this step")


def _weights_of(bundle: Bundle, reader: str) -> list[str]:
    """The matrices by which a layer reads what enters it."""
    names = [f"{reader}.weight_ih_l0", f"{reader}.weight_ih_l0_reverse"]
    return [name for name in names if name in bundle.params] or [f"{reader}.weight"]


def _check_exact(bundle: Bundle, layer: Recurrent, rank: int, inputs: Tensor) -> None:
    """Raises Unfit where the net with a projection isn't the one with Z_h P and Z_x P as its matrices.

    It is not where something lies between the states and their readers that does not go on in fewer numbers.
    """
    products = dict(bundle.params)
    for level in layer.levels:
        p = level.joint.projection(rank)
        for name, matrix in zip(level.names, level.joint.matrices, strict=True):
            products[name] = Dense((projection.thin(matrix, p) @ p.double()).float())
    with torch.no_grad():
        wide = answers(zoo.build(bundle.become(products)), inputs)
        try:
            narrow = answers(zoo.build(bundle.become(*projected(bundle, [(layer, rank)]))), inputs)
        except user_errors.UserError as error:
            raise Unfit(f"can't give fewer states: {error}") from None
    for one, other in zip(wide, narrow, strict=True):
        if one.shape != other.shape or not torch.allclose(one, other, atol=CLOSE * float(one.abs().max())):
            raise Unfit("has states that are changed on their way to the layers that read them")


# ---------------------------------------------------------------- the bundle after


def projected(bundle: Bundle, ranks: Sequence[tuple[Recurrent, int]]) -> tuple[dict[str, Param], Arch]:
    """Parameters and architecture with these LSTMs projected to their ranks; all else keeps its place.

    Z_h and Z_x are 32-bit floats, found in 64 bits for the P that is stored.
    """
    params, arch = dict(bundle.params), bundle.arch
    for layer, rank in ranks:
        for level in layer.levels:
            p = level.joint.projection(rank)
            thin = {
                name: Dense(projection.thin(matrix, p).float())
                for name, matrix in zip(level.names, level.joint.matrices, strict=True)
            }
            params = _with(params, thin, level.projection, Dense(p))
        arch = arch.edit("project", layer=layer.label, rank=rank, readers=list(layer.readers))
    return params, arch


def _with(params: Mapping[str, Param], thin: Mapping[str, Param], name: str, p: Param) -> dict[str, Param]:
    """With thin matrices in the place of the wide ones, and P behind the last parameter of its layer."""
    module, _, leaf = name.rpartition(".")
    level = leaf.removeprefix("weight_hr")  # of one layer's names the ends are alike
    mine = [x for x in params if x.startswith(f"{module}.") and x.endswith(level)]
    found = dict[str, Param]()
    for x, param in params.items():
        found[x] = thin.get(x, param)
        if x == mine[-1]:
            found[name] = p
    return found
