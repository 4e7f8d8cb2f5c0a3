"""A ResNet-18 for inputs of 32 x 32: 11 million random weights as a user brings them, and small data."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

CLASSES = 10


class Block(nn.Module):
    """Two convolutions beside a shortcut, which has one of its own where shapes change."""

    def __init__(self, before: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != width:
            self.shortcut = nn.Sequential(
                nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class ResNet18(nn.Module):
    """He 2016, with a first convolution of 3 x 3 for small pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.BatchNorm2d(64)
        widths = (64, 64, 128, 256, 512)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(Block(before, width, 1 if width == 64 else 2), Block(width, width, 1))
                for before, width in pairwise(widths)
            )
        )
        self.fc = nn.Linear(512, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layers(F.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


def model() -> nn.Module:
    """The same weights each time."""
    torch.manual_seed(0)
    return ResNet18().eval()


def data(test: int = 50) -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Train, validation and test: noise, of which the model knows nothing."""
    torch.manual_seed(1)
    parts = [TensorDataset(torch.randn(n, 3, 32, 32), torch.arange(n) % CLASSES) for n in (30, 30, test)]
    return parts[0], parts[1], parts[2]
