"""What a layer is, in plain words."""

from __future__ import annotations

from torch import Tensor, nn

from engine.net.compact import CondensedConv2d

GATES = {"ih": "input weights", "hh": "recurrent weights", "hr": "projection"}
ATTENTION = {
    "in_proj_weight": "queries, keys and values of attention",
    "q_proj_weight": "queries of attention",
    "k_proj_weight": "keys of attention",
    "v_proj_weight": "values of attention",
    "out_proj.weight": "output of attention",
}


def kind_of(module: nn.Module, name: str, weight: Tensor) -> str:
    """A module's weight in plain words; `name` is the weight's name in the module.

    >>> kind_of(nn.Conv2d(8, 8, 3, stride=2, groups=8), "weight", Tensor(8, 1, 3, 3))
    'depthwise 3x3 convolution, stride 2'
    >>> kind_of(nn.LSTM(3, 4, 2), "weight_hh_l1", Tensor(16, 4))
    'recurrent weights of an LSTM, layer 2'
    """
    if "parametrizations" in name:
        return f"part of the weight of a {type(module).__bases__[0].__name__}"
    match module:
        case nn.Linear():
            return "fully connected layer"
        case nn.Embedding() | nn.EmbeddingBag():
            return f"embedding of {len(weight):,} entries"
        case nn.MultiheadAttention():
            return ATTENTION.get(name, "attention")
        case nn.RNNBase() | nn.RNNCellBase():
            return _recurrent(module, name)
        case nn.modules.conv._ConvNd():
            return _convolution(module)
    return type(module).__name__


def _recurrent(module: nn.Module, name: str) -> str:
    part = next((words for short, words in GATES.items() if f"_{short}" in name), name)
    sort = type(module).__name__.removesuffix("Cell")
    words = f"{part} of {'an' if sort in ('LSTM', 'RNN') else 'a'} {sort}"
    number = name.partition("_l")[2].removesuffix("_reverse")
    if getattr(module, "num_layers", 1) != 1 and number.isdigit():
        words += f", layer {int(number) + 1}"
    return words + (", backwards" if name.endswith("_reverse") else "")


def _convolution(module: nn.modules.conv._ConvNd) -> str:
    size = "x".join(map(str, module.kernel_size))
    words = f"{size} convolution" if len(module.kernel_size) > 1 else f"convolution of length {size}"
    if isinstance(module, CondensedConv2d):
        words = f"condensed {words} in {module.groups} groups"
    elif module.groups != 1 and module.groups == module.in_channels:
        words = f"depthwise {words}"
    elif module.groups != 1:
        words = f"{words} in {module.groups} groups"
    if module.transposed:
        words = f"transposed {words}"
    return words if set(module.stride) == {1} else f"{words}, stride {_once(module.stride)}"


def _once(stride: tuple[int, ...]) -> str:
    return str(stride[0]) if len(set(stride)) == 1 else "x".join(map(str, stride))
