"""Find and replace layers. An architecture is a zoo name plus edits from one closed table.

An edit is JSON (`["split", {"layer": "fc1", "rank": 8, "form": "linear"}]`), so that a packed
file rebuilds what surgery changed. Edits change the shape of a net; the numbers that go
into it always come from the bundle's parameters.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.net import compact
from engine.net.input_quantizer import VERBS, alone_of
from engine.net.input_quantizer import InputQuantizer as InputQuantizer
from engine.tensor.compact import Design
from engine.types import Arch, SlimscopeError

MOST_BITS = 16  # of what enters a layer
# torch says that it runs them without oneDNN: which takes nothing from the answers.
warnings.filterwarnings("ignore", "LSTM with projections")


def get_layer(net: nn.Module, name: str) -> nn.Module:
    """The submodule called `name`. Raises SlimscopeError where there is none."""
    try:
        return net.get_submodule(name)
    except AttributeError:
        known = ", ".join(n for n, m in net.named_modules() if n and not list(m.children()))
        raise SlimscopeError(f"layer {name!r} is not in this model; there are {known}") from None


def shared(net: nn.Module) -> list[list[str]]:
    """The names of each saved tensor that has several, in the order of the state_dict."""
    names: dict[int, list[str]] = {}
    for name, tensor in net.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return [group for group in names.values() if len(group) > 1]


def fill(net: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Let the net use these tensors as its own; what was one tensor under several names stays one.

    Raises RuntimeError where names or shapes do not fit.
    """
    groups = shared(net)
    net.load_state_dict(state, assign=True)
    for first, *others in groups:
        tensor = net.state_dict(keep_vars=True)[first]
        for other in others:
            module, _, leaf = other.rpartition(".")
            setattr(net.get_submodule(module), leaf, tensor)


def is_read_past(net: nn.Module, name: str) -> bool:
    """Whether the module around this layer takes its numbers without calling it, as torch's attention does.

    Such a layer can't be replaced by others.
    """
    around = get_layer(net, name.rpartition(".")[0]) if "." in name else net
    return isinstance(around, nn.MultiheadAttention | nn.TransformerEncoderLayer)


def replace_layer(net: nn.Module, name: str, new: nn.Module) -> None:
    """Put `new` where `name` was; its parameters keep the old name as a prefix."""
    parent, _, leaf = name.rpartition(".")
    setattr(get_layer(net, parent) if parent else net, leaf, new)


# ---------------------------------------------------------------- the edits


def split(net: nn.Module, *, layer: str, rank: int, form: str) -> None:
    """Replace a layer by two thin ones in a row: first `layer.0`, then `layer.1` (with the bias)."""
    old = get_layer(net, layer)
    if rank < 1:
        raise SlimscopeError(f"the rank of layer {layer!r} is {rank}: allowed are numbers from 1 on")
    match old, form:
        case nn.Linear(), "linear":
            pair: list[nn.Module] = [
                nn.Linear(old.in_features, rank, bias=False),
                nn.Linear(rank, old.out_features, bias=old.bias is not None),
            ]
        case nn.Conv2d(groups=1), "channel":
            pair = [_reading(old, old.in_channels, rank), _pointwise(rank, old.out_channels, old.bias)]
        case nn.Conv2d(groups=1), "spatial":
            (kh, kw), (sh, sw), (dh, dw) = old.kernel_size, old.stride, old.dilation
            if isinstance(old.padding, str):
                raise SlimscopeError(f"layer {layer!r} pads by {old.padding!r}: only numbers can be split")
            (ph, pw), mode, biased = old.padding, old.padding_mode, old.bias is not None
            down, across = ((kh, 1), (sh, 1), (ph, 0), (dh, 1), 1), ((1, kw), (1, sw), (0, pw), (1, dw), 1)
            pair = [
                nn.Conv2d(old.in_channels, rank, *down, bias=False, padding_mode=mode),
                nn.Conv2d(rank, old.out_channels, *across, bias=biased, padding_mode=mode),
            ]
        case _:
            raise SlimscopeError(f"layer {layer!r} ({type(old).__name__}) has no {form!r} split")
    replace_layer(net, layer, nn.Sequential(*pair))


def tucker(net: nn.Module, *, layer: str, outputs: int, inputs: int) -> None:
    """Replace a convolution by 1x1 to `inputs` channels, its kernel to `outputs`, and 1x1 with the bias."""
    old = get_layer(net, layer)
    if not isinstance(old, nn.Conv2d) or old.groups != 1:
        raise SlimscopeError(f"layer {layer!r} ({type(old).__name__}) has no 'tucker' split")
    if min(outputs, inputs) < 1:
        ranks = f"{outputs} and {inputs}"
        raise SlimscopeError(f"the ranks of layer {layer!r} are {ranks}: allowed are numbers from 1 on")
    narrow, wide = _pointwise(old.in_channels, inputs), _pointwise(outputs, old.out_channels, old.bias)
    replace_layer(net, layer, nn.Sequential(narrow, _reading(old, inputs, outputs), wide))


def _reading(old: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """A convolution between other channels that reads the same places as the old one, without a bias."""
    same: dict[str, Any] = {"stride": old.stride, "padding": old.padding, "dilation": old.dilation}
    same |= {"padding_mode": old.padding_mode, "bias": False}
    return nn.Conv2d(inputs, outputs, old.kernel_size, **same)  # type: ignore[arg-type]


def _pointwise(inputs: int, outputs: int, bias: Tensor | None = None) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=bias is not None)


def _to_quantize(net: nn.Module, layer: str, end: str, bits: int) -> nn.Module:
    """The layer whose "input" or "output" is to be rounded.

    Raises SlimscopeError where it is already, or where the bits are not allowed.
    """
    target = get_layer(net, layer)
    if hasattr(target, f"{end}_quantizer"):
        raise SlimscopeError(
            f"the {end} of layer {layer!r} is quantized already; remove one of the two steps"
        )
    if not 1 <= bits <= MOST_BITS:
        raise SlimscopeError(f"the {end} of layer {layer!r} has {bits} bits: allowed are 1 to {MOST_BITS}")
    return target


def _quantize_argument(layer: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    return (layer.input_quantizer(args[0]), *args[1:])  # type: ignore[operator]


def quantize_input(
    net: nn.Module,
    *,
    layer: str,
    bits: int,
    symmetric: bool,
    dynamic: bool,
    tokens: bool = False,
    prunes: bool = False,
) -> None:
    """Round what enters `layer`, with `tokens` each by a range of its own; parameters keep their names.

    With `prunes` it is taken down first by a number found in training.
    """
    target = _to_quantize(net, layer, "input", bits)
    if tokens and not dynamic:
        raise SlimscopeError(f"the input of layer {layer!r} has a static range: no token has one of its own")
    if prunes and dynamic:
        raise SlimscopeError(f"the input of layer {layer!r} has a dynamic range: it can't be pruned")
    alone = alone_of(target) if tokens else 0
    target.add_module("input_quantizer", InputQuantizer(bits, symmetric, dynamic, alone, prunes))
    target.register_forward_pre_hook(_quantize_argument)


def _quantize_result(layer: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    return layer.output_quantizer(output)  # type: ignore[operator, no-any-return]


def quantize_output(net: nn.Module, *, layer: str, bits: int, symmetric: bool) -> None:
    """Round what leaves `layer`, on a range that was found beforehand."""
    target = _to_quantize(net, layer, "output", bits)
    target.add_module("output_quantizer", InputQuantizer(bits, symmetric, False))
    target.register_forward_hook(_quantize_result)


CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def widths(module: nn.Module) -> tuple[str, ...]:
    """The attributes of a layer that can be made narrower: along the first axis of its weight and the second.

    Nothing for any other layer. A convolution that looks at one channel each has as many inputs as outputs.
    """
    match module:
        case nn.Linear():
            return ("out_features", "in_features")
        case nn.Conv1d(groups=1) | nn.Conv2d(groups=1) | nn.Conv3d(groups=1):
            return ("out_channels", "in_channels")
        case nn.Conv1d() | nn.Conv2d() | nn.Conv3d():
            return ("out_channels",) if module.groups == module.in_channels == module.out_channels else ()
        case nn.Embedding():
            return ("num_embeddings", "embedding_dim")
        case nn.BatchNorm1d() | nn.BatchNorm2d() | nn.BatchNorm3d():
            return ("num_features",)
    return ()


def narrow(
    net: nn.Module, *, outputs: Mapping[str, int], inputs: Mapping[str, int], pads: Mapping[str, list[int]]
) -> None:
    """Give the named layers fewer outputs (batch-norm: channels) and inputs; names stay.

    `pads` says how many zero channels a block's shortcut gets before and after its input's own.
    """
    for layer in dict.fromkeys([*outputs, *inputs]):
        old = get_layer(net, layer)
        names = widths(old)
        if not names:
            raise SlimscopeError(f"layer {layer!r} ({type(old).__name__}) can't be made narrower")
        for name, left in zip(names, (outputs, inputs), strict=False):
            now = getattr(old, name)
            if not 1 <= left.get(layer, now) <= now:
                raise SlimscopeError(f"{name} of {layer!r} is {left[layer]}: allowed is 1 to {now}")
            setattr(old, name, left.get(layer, now))
        cut = tuple(slice(getattr(old, name)) for name in names)
        if isinstance(old, CONVOLUTIONS) and old.groups > 1:  # one filter for each channel
            old.in_channels = old.groups = old.out_channels
        for key, weight in old.named_parameters(recurse=False):
            setattr(old, key, nn.Parameter(weight[cut[: weight.dim()]], weight.requires_grad))
        for key, statistic in old.named_buffers(recurse=False):
            if statistic.dim():  # not the counter of batches
                setattr(old, key, statistic[cut[0]])
    for block, zeros in pads.items():
        padded = get_layer(net, block)
        now = getattr(padded, "pad", ())
        if len(now) != 2 or len(zeros) != 2 or not (0 <= zeros[0] <= now[0] and 0 <= zeros[1] <= now[1]):
            text = f"can't be padded by {str(zeros)[:40]}: it has {now} now"
            raise SlimscopeError(f"the shortcut of {block!r} {text}")
        padded.pad = tuple(zeros)  # type: ignore[assignment]


def condense(net: nn.Module, *, layer: str, reads: list[list[int]]) -> None:
    """Replace a convolution by one in groups; `reads` has the input channels of each group, in order."""
    old = get_layer(net, layer)
    if not isinstance(old, nn.Conv2d) or old.groups != 1 or old.padding_mode != "zeros":
        raise SlimscopeError(f"layer {layer!r} ({type(old).__name__}) can't be condensed")
    widths = {len(group) for group in reads}
    if len(reads) < 2 or old.out_channels % len(reads) or len(widths) != 1 or 0 in widths:
        raise SlimscopeError(
            f"{layer!r} has {old.out_channels} filters: they can't be in {len(reads)} groups of equal "
            "size, each with equally many inputs"
        )
    if any(len(set(group)) < len(group) for group in reads):
        raise SlimscopeError(f"a group of {layer!r} reads a channel twice")
    for channel in (channel for group in reads for channel in group):
        if type(channel) is not int or not 0 <= channel < old.in_channels:
            top = old.in_channels - 1
            raise SlimscopeError(f"{layer!r} reads no channel {channel!r}: allowed is 0 to {top}")
    replace_layer(net, layer, compact.CondensedConv2d(old, reads))


def replace_conv(net: nn.Module, *, layer: str, design: str, groups: int, expansion: int) -> None:
    """Replace a convolution by a chain of cheaper ones: `layer.0` and so on (`engine.net.compact`)."""
    old = get_layer(net, layer)
    wanted = Design(design, groups, expansion)
    if why := compact.why_not(old, wanted):
        raise SlimscopeError(f"layer {layer!r} can't be {design}: {why}")
    assert isinstance(old, nn.Conv2d)  # all else has a reason why not
    replace_layer(net, layer, compact.chain(old, wanted))


def shrink_kernel(net: nn.Module, *, layer: str, size: int) -> None:
    """Give a convolution a smaller square kernel, which reads from the same places."""
    replace_layer(net, layer, compact.with_kernel(get_layer(net, layer), size))


def skip(net: nn.Module, *, layer: str) -> None:
    """Take a layer or a block of layers out: what enters it leaves it as it is."""
    if not layer:
        raise SlimscopeError("the whole model can't be skipped: allowed is a layer or a block in it")
    get_layer(net, layer)
    replace_layer(net, layer, Skipped())


class Skipped(nn.Module):
    """Gives the first of what it reads."""

    def forward(self, x: Any, *rest: Any, **named: Any) -> Any:
        return x


SMALLEST = 0.5  # of an image's sides: of fewer points bilinear interpolation would pass some over


def shrink_input(net: nn.Module, *, share: float) -> None:
    """Make the images smaller before the first layer sees them: this share of their height and width."""
    if not SMALLEST <= share < 1:
        raise SlimscopeError(f"images are to have {share} of their sides: allowed is {SMALLEST} to below 1")
    net.register_forward_pre_hook(partial(_shrink_argument, share))


def _shrink_argument(share: float, net: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    images, *others = args
    if images.dim() != 4 or not images.is_floating_point():
        raise SlimscopeError(
            f"inputs of shape {tuple(images.shape)} are no images: they can't be made smaller"
        )
    return (F.interpolate(images, scale_factor=share, mode="bilinear"), *others)


def project(net: nn.Module, *, layer: str, rank: int, readers: list[str]) -> None:
    """Give an LSTM a projection of its states to `rank` numbers, which the layers behind it then read."""
    old = get_layer(net, layer)
    if not isinstance(old, nn.LSTM) or old.proj_size or old.bidirectional:
        raise SlimscopeError(f"layer {layer!r} ({type(old).__name__}) can't have a projection")
    if not 1 <= rank < old.hidden_size:
        raise SlimscopeError(f"the rank of {layer!r} is {rank}: allowed is 1 to {old.hidden_size - 1}")
    for reader in readers:
        match behind := get_layer(net, reader):
            case nn.Linear(in_features=old.hidden_size):
                thin: nn.Module = nn.Linear(rank, behind.out_features, behind.bias is not None)
            case nn.LSTM(input_size=old.hidden_size):
                thin = _lstm_like(behind, input_size=rank)
            case _:
                kind = type(behind).__name__
                raise SlimscopeError(
                    f"{reader!r} ({kind}) doesn't read the {old.hidden_size} states of {layer!r}"
                )
        replace_layer(net, reader, thin)
    replace_layer(net, layer, _lstm_like(old, proj_size=rank))


def _lstm_like(old: nn.LSTM, **changed: int) -> nn.LSTM:
    same = (
        "input_size",
        "hidden_size",
        "num_layers",
        "bias",
        "batch_first",
        "dropout",
        "bidirectional",
        "proj_size",
    )
    return nn.LSTM(**{**{name: getattr(old, name) for name in same}, **changed})


NORMALS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def fold(net: nn.Module, *, layer: str, normal: str) -> None:
    """Take away a batch-norm that has become a part of the layer before it; that layer has a bias then."""
    own, gone = get_layer(net, layer), get_layer(net, normal)
    if not isinstance(own, (nn.Linear, *CONVOLUTIONS)) or not isinstance(gone, NORMALS):
        kinds = f"{type(gone).__name__} can't be folded into {type(own).__name__}"
        raise SlimscopeError(f"{normal!r} can't become a part of {layer!r}: {kinds}")
    if gone.num_features != len(own.weight):
        raise SlimscopeError(
            f"{normal!r} has {gone.num_features} channels: allowed are the {len(own.weight)} of {layer!r}"
        )
    if own.bias is None:
        own.bias = nn.Parameter(torch.zeros(len(own.weight)))
    replace_layer(net, normal, nn.Identity())


EDITS: Mapping[str, Callable[..., None]] = {
    "split": split,
    "tucker": tucker,
    "quantize_input": quantize_input,
    "quantize_output": quantize_output,
    "narrow": narrow,
    "condense": condense,
    "fold": fold,
    "replace_conv": replace_conv,
    "shrink_kernel": shrink_kernel,
    "skip": skip,
    "shrink_input": shrink_input,
    "project": project,
}


def layers_of(verb: str, settings: Mapping[str, Any]) -> set[str]:
    """The layers whose numbers get another shape by an edit."""
    if verb in VERBS or verb == "shrink_input":
        return set()
    if verb == "narrow":
        return {*settings.get("outputs", ()), *settings.get("inputs", ())}
    if verb == "project":
        return {str(settings.get("layer")), *settings.get("readers", ())}
    if verb == "fold":
        return {str(settings.get("layer")), str(settings.get("normal"))}
    return {str(settings.get("layer"))}


def edit(net: nn.Module, arch: Arch) -> nn.Module:
    """Apply the architecture's edits, in order, to a fresh net."""
    tied = {name.rpartition(".")[0] for pair in arch.ties.items() for name in pair}
    for verb, settings in arch.edits:
        changed = tuple(f"{layer}." for layer in layers_of(verb, settings))
        if lost := [layer for layer in tied if f"{layer}.".startswith(changed)]:
            raise SlimscopeError(
                f"layer {min(lost)!r} shares its numbers with another layer: it can't be changed by {verb!r}"
            )
        if verb not in EDITS:
            raise SlimscopeError(f"edit {verb!r} is unknown; there are {', '.join(EDITS)}")
        EDITS[verb](net, **settings)
    return net
