"""The zoo: the nets that slimscope knows, their trained and initial weights, and their cards.

`build` derives a net from a bundle; a bundle never holds one. The weights were trained by
`python -m engine.net.zoo train NAME` and lie in assets/models as safetensors with a JSON card.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.data import language, pieces, sets, topics
from engine.data.sets import ASSETS
from engine.net import sources, surgery
from engine.net.sources import COUNTER
from engine.net.zoo.bert import Bert
from engine.net.zoo.llama import LanguageModel
from engine.net.zoo.nets import VGG, LeNet5, Perceptron, ResNet, RowLSTM
from engine.net.zoo.text import TextLSTM, Transformer
from engine.types import Arch, Bundle, SlimscopeError

MODELS = ASSETS / "models"


@dataclass(frozen=True)
class Input:
    """One input: its shape, and where it is a text, how many word pieces there are."""

    shape: tuple[int, ...]
    pieces: int = 0

    def example(self) -> Tensor:
        """One input (1, ...): a grey image, or a text of unknown pieces."""
        return torch.full((1, *self.shape), pieces.UNKNOWN) if self.pieces else torch.zeros(1, *self.shape)

    def extremes(self, rng: torch.Generator) -> Tensor:
        """Four inputs that differ widely: all zeros, all ones, and two drawn ones."""
        drawn = (
            torch.randint(self.pieces, (2, *self.shape), generator=rng)
            if self.pieces
            else torch.randn(2, *self.shape, generator=rng)
        )
        return torch.cat([torch.zeros_like(drawn[:1]), torch.ones_like(drawn[:1]), drawn])


INPUTS = {
    "mnist": Input((1, 28, 28)),
    "cifar10": Input((3, 32, 32)),
    "debian-topics": Input((topics.PLACES,), topics.PIECES),
    "debian-topics-minilm": Input((topics.PLACES,), topics.FRAMED),
    "language": Input((language.PLACES,), language.TOKENS),
}


@dataclass(frozen=True)
class Entry:
    """One net of the zoo: how it is made, what it looks at, what it is, and who learns from it."""

    make: Callable[[], nn.Module]
    data: str
    title: str
    about: str
    student: str | None = None
    activation: str = "ReLU"
    is_ours: bool = True  # trained by this project, so that its first weights are known
    command: str = ""  # makes a file of its weights, where they are too many to be bundled
    larger: str = ""  # a model of the same task with such a file


ENTRIES = {
    "lenet-300-100": Entry(
        lambda: Perceptron(784, 300, 100, 10),
        "mnist",
        "LeNet-300-100",
        "three fully connected layers that read handwritten digits",
        "mlp-32",
    ),
    "lenet-5": Entry(
        LeNet5,
        "mnist",
        "LeNet-5",
        "Caffe's version: two convolutions and two fully connected layers",
        "lenet-5-small",
        "ReLU after the first fully connected layer only",
    ),
    "resnet-20": Entry(
        lambda: ResNet(3),
        "cifar10",
        "ResNet-20",
        "twenty layers with shortcuts that sort small photos into ten classes",
        "resnet-8",
    ),
    "vgg-small": Entry(
        lambda: VGG(32, 32, 64, 64, 128, 128, 256, 256),
        "cifar10",
        "VGG small",
        "eight convolutions in a row, without shortcuts, that sort small photos into ten classes",
    ),
    "lstm-mnist": Entry(
        lambda: RowLSTM(128, 2),
        "mnist",
        "LSTM on rows",
        "two recurrent layers that read a digit row by row",
        "lstm-32",
        "sigmoid and tanh of an LSTM",
    ),
    "mlp-500-300": Entry(
        lambda: Perceptron(784, 500, 300, 10, normal=True),
        "mnist",
        "MLP-500-300",
        "network slimming's own: three fully connected layers with batch-norm between",
        "mlp-32",
    ),
    "mlp-32": Entry(
        lambda: Perceptron(784, 32, 10), "mnist", "MLP-32", "a student: one hidden layer of 32 units"
    ),
    "lenet-5-small": Entry(
        lambda: LeNet5(4, 8, 32),
        "mnist",
        "LeNet-5 small",
        "a student: LeNet-5 with 4, 8 and 32 units",
        activation="ReLU after the first fully connected layer only",
    ),
    "resnet-8": Entry(
        lambda: ResNet(1), "cifar10", "ResNet-8", "a student: one block for each of ResNet-20's three"
    ),
    "lstm-32": Entry(
        lambda: RowLSTM(32, 1),
        "mnist",
        "LSTM-32",
        "a student: one recurrent layer of 32 units",
        activation="sigmoid and tanh of an LSTM",
    ),
    "transformer-topics": Entry(
        lambda: Transformer(topics.PIECES, topics.PLACES, topics.CLASSES, 96, 4, 192, 4),
        "debian-topics",
        "Transformer on topics",
        "four encoders of a transformer that sort one-line descriptions of packages into 15 topics",
        "bilstm-topics",
        "ReLU between the two fully connected layers of each encoder",
        larger="minilm-topics",
    ),
    "bilstm-topics": Entry(
        lambda: TextLSTM(topics.PIECES, topics.CLASSES, 32, 64),
        "debian-topics",
        "BiLSTM on topics",
        "a student: one recurrent layer that reads a description in both directions",
        activation="sigmoid and tanh of an LSTM",
    ),
    "glass-en": Entry(
        lambda: LanguageModel(language.TOKENS, 128, 4, 2, 341, 4),
        "language",
        "GlassLM, English",
        "a small language model that read Lewis Carroll: says how a text goes on, token by token",
        activation="SiLU, which gates a second layer, in each decoder",
        is_ours=False,
    ),
}


def _resnet(depth: int) -> Entry:
    about = f"He's model for CIFAR of {depth} layers, with shortcuts without weights"
    return Entry(lambda: ResNet((depth - 2) // 6), "cifar10", f"ResNet-{depth}", about)


def _vgg(depth: int, stages: tuple[int, ...], bias: bool) -> Entry:
    """`stages` are the convolutions at each of VGG's five widths."""
    widths = [w for w, times in zip((64, 128, 256, 512, 512), stages, strict=True) for _ in range(times)]
    pools = tuple(itertools.accumulate(stages))
    kind = "with biases" if bias else "without biases, its last map averaged"
    return Entry(
        lambda: VGG(*widths, pools=pools if bias else pools[:-1], bias=bias),
        "cifar10",
        f"VGG-{depth}",
        f"{depth - 3} convolutions with batch-norm in a row, {kind}, and one fully connected layer",
    )


STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3)}
# Nets that others train and publish, or that are too large to be bundled: known by their shapes.
PUBLIC = {
    "minilm-topics": Entry(
        lambda: Bert(topics.FRAMED, 512, topics.CLASSES, 384, 12, 1536, 6),
        "debian-topics-minilm",
        "MiniLM on topics",
        "six encoders that read much of the web's English, then descriptions of packages",
        "bilstm-minilm",
        "GELU between the two fully connected layers of each encoder",
        is_ours=False,
        command="python -m engine.net.zoo tune minilm-topics.safetensors",
    ),
    "bilstm-minilm": Entry(
        lambda: TextLSTM(topics.FRAMED, topics.CLASSES, 64, 64),
        "debian-topics-minilm",
        "BiLSTM for MiniLM",
        "a student: one recurrent layer that reads MiniLM's word pieces in both directions",
        activation="sigmoid and tanh of an LSTM",
    ),
    **{f"resnet-{depth}": _resnet(depth) for depth in (32, 44, 56, 110)},
    **{f"vgg-{depth}": _vgg(depth, stages, True) for depth, stages in STAGES.items()},
    **{f"vgg-{depth}-unbiased": _vgg(depth, stages, False) for depth, stages in STAGES.items()},
}
KNOWN = {**ENTRIES, **PUBLIC}


def entry(name: str) -> Entry:
    """What is known of the net `name`, of the zoo or published. Raises SlimscopeError for a stranger."""
    if name not in KNOWN:
        raise SlimscopeError(f"model {name!r} is not in the zoo; there are {', '.join(ENTRIES)}")
    return KNOWN[name]


def bundle_of(name: str, state: dict[str, Tensor]) -> Bundle:
    """A state_dict of a zoo net as an original bundle, in the net's own order of names."""
    return sources.bundle_of(Arch(name), state)


def load(name: str) -> Bundle:
    """The trained net `name` from assets/models.

    Raises SlimscopeError where the zoo does not know it, or where it is not trained yet.

    >>> load("lenet-300-100").params["fc3.weight"].shape
    (10, 100)
    """
    return _read(name, f"{name}.safetensors")


def initial(name: str) -> Bundle:
    """The same net before training: what the lottery-ticket page rewinds to.

    Raises SlimscopeError where the net was trained elsewhere, and its first weights were not published.
    """
    if not entry(name).is_ours:
        raise SlimscopeError(f"model {name!r} was trained elsewhere: its first weights are not known")
    return _read(name, f"{name}.initial.safetensors")


def _read(name: str, file: str) -> Bundle:
    entry(name)
    if name in PUBLIC:
        made = f", which `{KNOWN[name].command}` makes" if KNOWN[name].command else ""
        raise SlimscopeError(
            f"model {name!r} is known by its shapes alone: bring a file of its weights{made}"
        )
    if not (MODELS / file).exists():
        raise SlimscopeError(f"assets/models/{file} is missing: run `python -m engine.net.zoo train {name}`")
    return bundle_of(name, load_file(MODELS / file))


def trained() -> list[str]:
    """Names of the nets that have trained weights, in the order of the zoo."""
    return [name for name in ENTRIES if (MODELS / f"{name}.safetensors").exists()]


def card(name: str) -> dict[str, Any]:
    """The model card: data, accuracy on the full test set, size, seed, epochs, versions."""
    entry(name)
    content: dict[str, Any] = json.loads((MODELS / f"{name}.json").read_text())
    return content


def tested(name: str) -> dict[str, Any]:
    """The figure of the full test set on the card: accuracy or perplexity."""
    found: dict[str, Any] = card(name)[
        "test perplexity" if entry(name).data in sets.READ_ON else "test accuracy"
    ]
    return found


def seeded(name: str, seed: int) -> nn.Module:
    """A fresh net with its usual random initial weights, the same for the same seed."""
    return sources.seeded(Arch(name), seed)


sources.register(
    "zoo",
    sources.Source(
        lambda arch: _on_meta(entry(arch.name).make),
        lambda arch: INPUTS[entry(arch.name).data].example(),
        lambda arch: entry(arch.name).data,
        lambda arch: sets.load(entry(arch.name).data),
        lambda arch: _student(entry(arch.name)),
        lambda arch, seed: entry(arch.name).make(),
    ),
)


def _student(teacher: Entry) -> Arch | None:
    return None if teacher.student is None else Arch(teacher.student)


def title(arch: Arch) -> str:
    """What the net is called, for people."""
    return KNOWN[arch.name].title if arch.name in KNOWN else arch.title


def _on_meta(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"), _Unfilled():
        return make()


class _Unfilled(TorchFunctionMode):
    """First weights are not drawn: on the meta device torch does that in Python, and imports its compiler."""

    DRAWN = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in self.DRAWN:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def skeleton(arch: Arch) -> nn.Module:
    """The edited net without memory for its numbers (on torch's meta device), whatever its source."""
    net = sources.of(arch).make(arch)
    with torch.device("meta"):
        return surgery.edit(net, arch)


def blank(arch: Arch) -> nn.Module:
    """The edited net in eval mode, for what depends on shapes alone: all numbers of a tensor are one zero.

    Each tensor has its own, and can be told from others by its memory.
    """
    net = skeleton(arch)
    state = net.state_dict()
    for name, tensor in state.items():
        if tensor.is_meta:
            state[name] = torch.zeros((), dtype=tensor.dtype).expand(tensor.shape)
    surgery.fill(net, state)
    return net.eval()


def build(bundle: Bundle) -> nn.Module:
    """The net that a bundle stands for, in eval mode, sharing the bundle's memory: do not train it.

    Raises SlimscopeError where parameters do not fit the architecture.
    """
    return _filled(bundle, bundle.state()).eval().requires_grad_(False)


def fork(bundle: Bundle) -> nn.Module:
    """A copy of the net that may be trained or tapped; the bundle stays as it is."""
    return _filled(bundle, {name: tensor.clone() for name, tensor in bundle.state().items()})


def _filled(bundle: Bundle, state: dict[str, Tensor]) -> nn.Module:
    net = skeleton(bundle.arch)
    # What no bundle holds, counters and wiring in whole numbers, is the net's own.
    rest = {
        name: torch.zeros((), dtype=tensor.dtype) if name.endswith(COUNTER) else tensor
        for name, tensor in net.state_dict().items()
        if name not in state and not tensor.is_floating_point()
    }
    try:
        surgery.fill(net, {**state, **rest})
    except RuntimeError as error:
        raise SlimscopeError(f"parameters do not fit {bundle.arch.title}: {error}") from None
    return net
