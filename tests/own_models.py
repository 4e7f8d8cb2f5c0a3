"""Small nets that are in no zoo, with data of their own, as a user would bring them."""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

CLASSES = 3
Parts = tuple[TensorDataset, TensorDataset, TensorDataset]


class Depthwise(nn.Module):
    """A residual block whose convolutions look at one channel each, and at one place each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.point = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.point(F.relu(self.norm(self.place(x)))))


class Residual(nn.Module):
    """Twenty layers: a stem, nine depthwise blocks, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 3, padding=1)
        self.blocks = nn.ModuleList(Depthwise(12) for _ in range(9))
        self.out = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((2, 3)))  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A transformer encoder of two layers over tokens, with learned places."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(20, 16)
        self.places = nn.Parameter(torch.randn(7, 16) * 0.1)
        layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layers(self.tokens(x) + self.places).mean(1))  # type: ignore[no-any-return]


class Recurrent(nn.Module):
    """A GRU over a sequence, and a classifier of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(5, 16, batch_first=True)
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.gru(x)[0][:, -1])  # type: ignore[no-any-return]


class Sound(nn.Module):
    """Convolutions over one dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv1d(2, 8, 5, padding=2), nn.Conv1d(8, 16, 3, stride=2)
        self.out = nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(F.gelu(self.second(F.gelu(self.first(x)))).mean(2))  # type: ignore[no-any-return]


class Branches(nn.Module):
    """Two branches that are laid side by side, with batch-norm behind."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(3, 8, 1)
        self.norm, self.hidden = nn.BatchNorm2d(16), nn.Linear(16, 12)
        self.out = nn.Linear(12, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(torch.cat([self.wide(x), self.narrow(x)], 1)))
        return self.out(F.relu(self.hidden(x.mean((2, 3)))))  # type: ignore[no-any-return]


def _inputs(kind: type[nn.Module], n: int) -> Tensor:
    if kind is Encoder:
        return torch.randint(20, (n, 7))
    shapes = {Recurrent: (6, 5), Sound: (2, 20)}
    return torch.randn(n, *shapes.get(kind, (3, 8, 8)))


KINDS: dict[str, type[nn.Module]] = {
    "residual depthwise": Residual,
    "transformer": Encoder,
    "GRU": Recurrent,
    "convolutions 1-D": Sound,
    "branches": Branches,
}


def model(kind: str) -> nn.Module:
    """A net of this kind, the same each time, with statistics of normalisation that are its own."""
    torch.manual_seed(1)
    net = KINDS[kind]()
    with torch.no_grad():
        net.train()(_inputs(KINDS[kind], 32))
    return net.eval()


def parts(kind: str) -> Parts:
    """Train, validation and test of the shape that the net reads; its classes can be learned."""
    torch.manual_seed(2)
    found = []
    for n in (120, 60, 80):
        inputs = _inputs(KINDS[kind], n)
        found.append(TensorDataset(inputs, (inputs.flatten(1).float().sum(1) * 7).long().abs() % CLASSES))
    return found[0], found[1], found[2]


def _factories() -> None:
    """`gru`, `gru_data`, `gru_student` and so on: what a command line names."""
    for kind in KINDS:
        name = kind.replace(" ", "_").replace("-", "_").lower()
        globals()[name] = functools.partial(model, kind)
        globals()[f"{name}_data"] = functools.partial(parts, kind)
        globals()[f"{name}_student"] = KINDS[kind]


_factories()
