"""The nets of the zoo as plain torch modules. Inputs are image batches (n, channels, h, w)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Perceptron(nn.Module):
    """LeNet-300-100 and its kin: fully connected layers fc1, fc2, ... with ReLU between.

    With `normal`, each layer but the last has batch-norm (bn1, bn2, ...) in place of a bias.
    """

    def __init__(self, *widths: int, normal: bool = False) -> None:
        super().__init__()
        self.depth = len(widths) - 1
        self.normal = normal
        for i in range(1, self.depth + 1):
            normed = normal and i < self.depth
            self.add_module(f"fc{i}", nn.Linear(widths[i - 1], widths[i], bias=not normed))
            if normed:
                self.add_module(f"bn{i}", nn.BatchNorm1d(widths[i]))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)  # (n, 784)
        for i in range(1, self.depth):
            x = self.get_submodule(f"fc{i}")(x)
            x = F.relu(self.get_submodule(f"bn{i}")(x) if self.normal else x)
        return self.get_submodule(f"fc{self.depth}")(x)  # type: ignore[no-any-return]


class LeNet5(nn.Module):
    """Caffe's LeNet-5: two 5x5 convolutions, each max-pooled, then two fully connected layers."""

    def __init__(self, first: int = 20, second: int = 50, hidden: int = 500) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, first, 5)
        self.conv2 = nn.Conv2d(first, second, 5)
        self.fc1 = nn.Linear(second * 16, hidden)
        self.fc2 = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.conv1(x), 2)  # (n, first, 12, 12)
        x = F.max_pool2d(self.conv2(x), 2)  # (n, second, 4, 4)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)  # type: ignore[no-any-return]


class VGG(nn.Module):
    """VGG's pattern for small photos: 3x3 convolutions conv1, conv2, ..., each with batch-norm and ReLU.

    After every second one, or those of `pools` (from 1), the image is halved; after the last, each
    channel is averaged. `bias` is about the convolutions.
    """

    def __init__(self, *widths: int, pools: tuple[int, ...] | None = None, bias: bool = False) -> None:
        super().__init__()
        self.depth = len(widths)
        self.pools = tuple(range(2, self.depth, 2)) if pools is None else pools
        for i, (inputs, outputs) in enumerate(zip((3, *widths), widths, strict=False), 1):
            self.add_module(f"conv{i}", nn.Conv2d(inputs, outputs, 3, 1, 1, bias=bias))
            self.add_module(f"bn{i}", nn.BatchNorm2d(outputs))
        self.fc = nn.Linear(widths[-1], 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        for i in range(1, self.depth + 1):
            x = F.relu(self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(x)))
            if i in self.pools:
                x = F.max_pool2d(x, 2)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut; a narrower input is padded with zero channels (option A)."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.pad = ((outputs - inputs) // 2,) * 2  # zero channels before and after
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.stride != 1:
            x = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, *self.pad))
        return F.relu(x + y)


class ResNet(nn.Module):
    """The CIFAR ResNet of He 2016: 6n + 2 layers, 16, 32 and 64 channels."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, blocks, 1)
        self.layer2 = self._stage(16, 32, blocks, 2)
        self.layer3 = self._stage(32, 64, blocks, 2)
        self.fc = nn.Linear(64, 10)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    @staticmethod
    def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
        rest = [Block(outputs, outputs, 1) for _ in range(blocks - 1)]
        return nn.Sequential(Block(inputs, outputs, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # (n, 64, 8, 8)
        return self.fc(x.mean((2, 3)))  # type: ignore[no-any-return]


class RowLSTM(nn.Module):
    """Reads a 28x28 image as 28 rows of 28 and classifies from the last hidden state."""

    def __init__(self, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(28, hidden, layers, batch_first=True)
        self.fc = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.squeeze(1))  # (n, 28, hidden)
        return self.fc(states[:, -1])  # type: ignore[no-any-return]
