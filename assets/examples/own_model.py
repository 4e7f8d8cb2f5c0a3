"""A net of your own, and its data.

    code=assets/examples/own_model.py
    slimscope app --model $code:model --data $code:data --student $code:student

`model` returns the net with its weights, `data` returns (train, validation, test) as data sets of
(input, target). Nothing in this file is known to slimscope; `python assets/examples/own_model.py`
trained the weights beside it.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from engine.data import sets

WEIGHTS = Path(__file__).with_suffix(".safetensors")


class Squeeze(nn.Module):
    """Two looks at the same input, one wide and one narrow, side by side."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(inputs, outputs // 2, 3, padding=1, bias=False)
        self.narrow = nn.Conv2d(inputs, outputs // 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(torch.cat([self.wide(x), self.narrow(x)], 1)))


class PhotoNet(nn.Module):
    """Sorts 32 x 32 photos into ten classes; its forward is no plain row of layers."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.first = Squeeze(width, 2 * width)
        self.second = Squeeze(2 * width, 2 * width)
        self.hidden = nn.Linear(4 * width, 64)
        self.out = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.stem(x)), 2)  # (n, width, 16, 16)
        x = F.max_pool2d(self.first(x), 2)  # (n, 2 width, 8, 8)
        x = x + self.second(x)
        seen = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)  # (n, 4 width)
        return self.out(F.relu(self.hidden(seen)))


def model() -> nn.Module:
    """The trained net."""
    net = PhotoNet()
    net.load_state_dict(load_file(WEIGHTS))
    return net


def student() -> nn.Module:
    """A net of half the width with first weights, to learn from the trained one."""
    return PhotoNet(16)


def data() -> tuple[TensorDataset, TensorDataset, TensorDataset]:
    """Train, validation and test: the bundled CIFAR-10 images, standardised."""
    found = sets.load("cifar10")
    train, validation, test = (
        TensorDataset(part.inputs(), part.labels) for part in (found.train, found.validation, found.test)
    )
    for part in (train, validation, test):
        part.classes = found.classes
    return train, validation, test


def train(epochs: int = 10) -> None:
    """Train the net on the 5,000 training images, mirrored by chance, and keep its weights."""
    torch.manual_seed(0)
    net, (images, labels) = PhotoNet(), data()[0].tensors
    steps = epochs * (len(labels) // 50)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, steps)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(50):
            inputs = images[rows]
            mirrored = torch.rand(len(rows), 1, 1, 1) < 0.5
            loss = F.cross_entropy(net(torch.where(mirrored, inputs.flip(3), inputs)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    save_file(net.state_dict(), WEIGHTS)


if __name__ == "__main__":
    train()
