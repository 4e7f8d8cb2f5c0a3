"""The zoo: the nets that slimscope knows, their trained and initial weights, and their cards.

`build` derives a net from a bundle; a bundle never holds one. The weights were trained by
`python -m engine.net.zoo train NAME` and lie in assets/models as safetensors with a JSON card.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.data.sets import ASSETS
from engine.net import surgery
from engine.net.zoo.nets import VGG, LeNet5, Perceptron, ResNet, RowLSTM
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError

MODELS = ASSETS / "models"
COUNTER = "num_batches_tracked"  # batch-norm's counter: no prediction depends on it


@dataclass(frozen=True)
class Entry:
    """One net of the zoo: how it is made, what it looks at, what it is, and who learns from it."""

    make: Callable[[], nn.Module]
    data: str
    title: str
    about: str
    student: str | None = None


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
        lambda: LeNet5(4, 8, 32), "mnist", "LeNet-5 small", "a student: LeNet-5 with 4, 8 and 32 units"
    ),
    "resnet-8": Entry(
        lambda: ResNet(1), "cifar10", "ResNet-8", "a student: one block for each of ResNet-20's three"
    ),
    "lstm-32": Entry(
        lambda: RowLSTM(32, 1), "mnist", "LSTM-32", "a student: one recurrent layer of 32 units"
    ),
}


def entry(name: str) -> Entry:
    """What the zoo knows of `name`. Raises SlimscopeError for a stranger."""
    if name not in ENTRIES:
        raise SlimscopeError(f"model {name!r} is not in the zoo; there are {', '.join(ENTRIES)}")
    return ENTRIES[name]


def bundle_of(name: str, state: dict[str, Tensor]) -> Bundle:
    """A state_dict of a zoo net as an original bundle, in the net's own order of names."""
    names = [n for n in skeleton(Arch(name)).state_dict() if not n.endswith(COUNTER)]
    return Bundle(Arch(name), {n: Dense(state[n].detach().to(torch.float32).contiguous()) for n in names})


def load(name: str) -> Bundle:
    """The trained net `name` from assets/models.

    Raises SlimscopeError where the zoo does not know it, or where it is not trained yet.

    >>> load("lenet-300-100").params["fc3.weight"].shape
    (10, 100)
    """
    return _read(name, f"{name}.safetensors")


def initial(name: str) -> Bundle:
    """The same net before training: what the lottery-ticket page rewinds to."""
    return _read(name, f"{name}.initial.safetensors")


def _read(name: str, file: str) -> Bundle:
    entry(name)
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


def seeded(name: str, seed: int) -> nn.Module:
    """A fresh net with its usual random initial weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return entry(name).make()


def skeleton(arch: Arch) -> nn.Module:
    """The edited net without memory for its numbers (on torch's meta device)."""
    if not arch.runs:
        raise SlimscopeError("these weights have no known architecture: they can be explored, not run")
    with torch.device("meta"):
        return surgery.edit(entry(arch.name).make(), arch)


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
    counters = {n: torch.zeros((), dtype=torch.int64) for n in net.state_dict() if n.endswith(COUNTER)}
    try:
        net.load_state_dict({**state, **counters}, assign=True)
    except RuntimeError as error:
        raise SlimscopeError(f"parameters do not fit {bundle.arch.name}: {error}") from None
    return net
