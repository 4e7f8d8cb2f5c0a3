"""Layer kinds: for each type of module, how many multiply-adds each of its weights takes part in.

The table below says it from shapes; `engine.net.watch` runs a model once and finds them. By convention
biases, normalisation, activations, pooling and look-ups multiply nothing. A type that is not listed and
multiplies with parameters of its own is refused where its number is needed, and never counted as zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from engine.memory import remembered
from engine.net import sources, surgery, watch, zoo
from engine.net.compact import CondensedConv2d
from engine.net.surgery import InputQuantizer
from engine.net.watch import BETWEEN, Shape
from engine.types import Arch, Bundle, SlimscopeError

Macs = Mapping[str, int]  # a weight of the module -> multiply-adds with it; BETWEEN -> of two activations
Formula = Callable[[Any, Sequence[Shape], Sequence[Shape]], Macs]


# ---------------------------------------------------------------- one formula for each kind


def linear(module: nn.Linear, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Macs:
    """Each weight is used once for each row of the input (..., in_features).

    >>> linear(nn.Linear(3, 4), [(1, 7, 3)], [(1, 7, 4)])
    {'weight': 84}
    """
    return {"weight": module.weight.numel() * math.prod(inputs[0][:-1])}


def convolution(module: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Macs:
    """Each weight is used once for each place of the output (n, channels, ...); padding counts.

    >>> convolution(nn.Conv2d(3, 8, 3), [(1, 3, 10, 10)], [(1, 8, 8, 8)])
    {'weight': 13824}
    """
    return {"weight": module.weight.numel() * (math.prod(outputs[0]) // module.out_channels)}


def transposed(module: Any, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Macs:
    """Each weight is used once for each place of the input (n, channels, ...)."""
    return {"weight": module.weight.numel() * (math.prod(inputs[0]) // module.in_channels)}


def recurrent(module: nn.Module, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Macs:
    """Each matrix is used once for each time step of the input (..., features); gates do not count.

    >>> sum(recurrent(nn.GRU(5, 16), [(6, 1, 5)], [(6, 1, 16)]).values())
    6048
    """
    steps = math.prod(inputs[0][:-1])
    return {name: p.numel() * steps for name, p in module.named_parameters() if p.dim() >= 2}


def attention(module: nn.MultiheadAttention, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Macs:
    """The projections of queries, keys, values and outputs, and both products: QK^T, and with the values."""
    query, key, value = inputs[:3]
    width = module.embed_dim
    samples = 1 if len(query) == 2 else query[0 if module.batch_first else 1]
    asked, known, read = (math.prod(shape[:-1]) for shape in (query, key, value))  # rows of each
    if module.in_proj_weight is not None:
        macs = {"in_proj_weight": width * width * (asked + known + read)}
    else:
        used = {"q_proj_weight": asked, "k_proj_weight": known, "v_proj_weight": read}
        macs = {name: getattr(module, name).numel() * rows for name, rows in used.items()}
    places = known // samples + (module.bias_k is not None) + module.add_zero_attn
    return {**macs, "out_proj.weight": width * width * asked, BETWEEN: 2 * asked * places * width}


def nothing(module: nn.Module, inputs: Sequence[Shape], outputs: Sequence[Shape]) -> Macs:
    """Multiplies nothing, by convention."""
    return {name: 0 for name, p in module.named_parameters(recurse=False) if p.dim() >= 2}


FORMULAS: dict[Formula, tuple[type[nn.Module], ...]] = {
    linear: (nn.Linear,),
    convolution: (nn.Conv1d, nn.Conv2d, nn.Conv3d, CondensedConv2d),
    transposed: (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    recurrent: (nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell, nn.RNNCell),
    attention: (nn.MultiheadAttention,),
    nothing: (
        *(nn.Embedding, nn.EmbeddingBag, InputQuantizer),
        *(nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, nn.LocalResponseNorm),
        *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
        *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
        *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
        *(nn.Mish, nn.Sigmoid, nn.LogSigmoid, nn.Tanh, nn.Hardtanh, nn.Hardsigmoid, nn.Hardswish, nn.GLU),
        *(nn.Softplus, nn.Softsign, nn.Softshrink, nn.Hardshrink, nn.Tanhshrink, nn.Threshold),
        *(nn.Softmax, nn.Softmax2d, nn.LogSoftmax, nn.Softmin),
        *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
        *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.LPPool1d, nn.LPPool2d),
        *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
        *(nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout),
        *(nn.Identity, nn.Flatten, nn.Unflatten, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle),
        *(nn.ZeroPad1d, nn.ZeroPad2d, nn.ConstantPad1d, nn.ConstantPad2d, nn.ReflectionPad1d),
        *(nn.ReflectionPad2d, nn.ReplicationPad1d, nn.ReplicationPad2d, nn.Upsample),
    ),
}
KINDS: dict[type[nn.Module], Formula] = {type_: rule for rule, types in FORMULAS.items() for type_ in types}


def kind_of(module: nn.Module) -> Formula | None:
    """The formula of a module, also of a subclass that has no `forward` of its own; None: not known.

    >>> kind_of(nn.Bilinear(2, 3, 4)) is None
    True
    """
    for type_ in type(module).__mro__:
        if type_ in KINDS:
            return KINDS[type_] if type(module).forward is type_.forward else None
    return None


# ---------------------------------------------------------------- of one model


@dataclass(frozen=True)
class Tally:
    """What a model multiplies in one run, layer by layer, and what about it can't be said."""

    layers: tuple[watch.Use, ...]
    refusals: tuple[str, ...]

    def checked(self) -> tuple[watch.Use, ...]:
        """The layers. Raises SlimscopeError where one of them can't be counted."""
        if self.refusals:
            raise SlimscopeError(self.refusals[0])
        return self.layers


def layer_table(model: nn.Module, inputs: Tensor | Sequence[Tensor]) -> pd.DataFrame:
    """What a model multiplies for these inputs: one row per layer, as `layer_macs` has them.

    A layer that is called twice counts twice. The model runs once, in eval mode, and is left as it was.
    Raises SlimscopeError for a layer of an unknown kind that multiplies with parameters of its own.

    >>> import torch
    >>> layer_table(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), torch.zeros(1, 3))["macs"].tolist()
    [12]
    """
    return _table(_tallied(model, inputs).checked())


def _tallied(model: nn.Module, inputs: Tensor | Sequence[Tensor]) -> Tally:
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    return Tally(*watch.watched(model, given, kind_of))


def _table(layers: Sequence[watch.Use]) -> pd.DataFrame:
    rows = [(u.layer, u.type, _text(u.input), _text(u.output), sum(u.macs.values())) for u in layers]
    return pd.DataFrame(rows, columns=["layer", "type", "input", "output", "macs"])


def _text(shape: Shape) -> str:
    return " x ".join(map(str, shape[1:]))


# ---------------------------------------------------------------- of a bundle

SAMPLES = 3  # of its data on which a user's net is run, each with other weights


@remembered
def _tally(key: str) -> Tally:
    arch = Arch.from_key(key)
    first = _tallied(zoo.blank(arch), sources.inputs(arch))
    if arch.source != "user" or first.refusals:
        return first
    return Tally(first.layers, tuple(_differences(arch, first)))


def _differences(arch: Arch, first: Tally) -> Iterator[str]:
    """A sentence where another sample, or other weights, take another way through the user's code."""
    samples = sources.data(arch).test
    for seed in range(SAMPLES):
        given = samples.inputs(slice(seed, seed + 1) if seed < len(samples) else slice(0, 1))
        other = _tallied(random_model(arch, seed), given)
        if [use.macs for use in other.layers] != [use.macs for use in first.layers]:
            counts = sorted(sum(sum(use.macs.values()) for use in each.layers) for each in (first, other))
            yield (
                f"the multiply-adds of {arch.title} are not known: they depend on its inputs, "
                f"{counts[0]:,} and {counts[1]:,} were counted"
            )
            return


def random_model(arch: Arch, seed: int) -> nn.Module:
    """The net with one random number for each row of a weight: they take no memory in large nets."""
    net, rng = zoo.skeleton(arch), torch.Generator().manual_seed(seed)
    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.is_meta and tensor.dim():
            row = torch.randn(len(tensor), *[1] * (tensor.dim() - 1), generator=rng)
            # Variances are positive; sums over a row's inputs neither vanish nor grow from layer to layer.
            row = row / math.sqrt(tensor[0].numel()) if tensor.dim() > 1 else row.abs()
            state[name] = row.expand(tensor.shape)
        elif tensor.is_meta:
            state[name] = torch.ones((), dtype=tensor.dtype)
    surgery.fill(net, state)
    return net.eval()


def layer_macs(bundle: Bundle) -> pd.DataFrame:
    """One row per layer that has weights or multiplies: layer, type, input, output, macs (batch 1).

    The model runs once for each architecture, a user's on several samples. Raises SlimscopeError where the
    architecture is unknown, where a layer is of an unknown kind, and where samples differ.
    """
    return _table(_tally(bundle.arch.key).checked())


def macs_by_layer(bundle: Bundle) -> dict[str, int]:
    """Layer label -> multiply-adds at batch 1. Raises as `layer_macs` does."""
    return {use.layer: sum(use.macs.values()) for use in _tally(bundle.arch.key).checked()}


def uses(bundle: Bundle) -> tuple[watch.Use, ...]:
    """What each layer multiplies, weight by weight. Raises as `layer_macs` does."""
    return _tally(bundle.arch.key).checked()


def weight_table(bundle: Bundle) -> pd.DataFrame:
    """One row per parameter that is used: name (the index), type and output of its layer, macs (batch 1).

    Each element of a parameter takes part in equally many multiply-adds; those of two activations stand
    under BETWEEN. Raises as `layer_macs` does.
    """
    rows: dict[str, dict[str, Any]] = {}
    for use in _tally(bundle.arch.key).checked():
        for name, macs in use.macs.items():
            row = rows.setdefault(name, {"type": use.type, "output": _text(use.output), "macs": 0})
            row["macs"] += macs
    return pd.DataFrame.from_dict(rows, orient="index", columns=["type", "output", "macs"])


def layer_count(bundle: Bundle) -> int:
    """How many layers multiply, as far as they are known."""
    return len(_tally(bundle.arch.key).layers)


VALUE = 100  # multiply-adds that take as long as writing and reading one number between two layers


def work(bundle: Bundle) -> float:
    """What one sample costs, in multiply-adds: those of the layers, and VALUE for each number they give.

    Counted of small convolutions alone, multiply-adds are off by ten times: lenet-5-small takes 18 us a
    sample for 0.1 million, lenet-300-100 takes 7 us for 0.3 million. It is an estimate of time only, so
    layers of an unknown kind are left out of it.
    """
    layers = _tally(bundle.arch.key).layers
    return float(sum(sum(use.macs.values()) + VALUE * use.values for use in layers))
