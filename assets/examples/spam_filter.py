"""A spam filter of your own, that reads the bundled mails.

    code=assets/examples/spam_filter.py
    slimscope app --model $code:model --data $code:data

`data` returns one of slimscope's own sets, so mails are shown as texts, and one can be typed;
`python assets/examples/spam_filter.py` trained the weights beside it, in under a minute.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data import sets
from engine.data.sets import Data

WEIGHTS = Path(__file__).with_suffix(".safetensors")


class SpamFilter(nn.Module):
    """Looks for runs of five word pieces, wherever they are in a mail (Kim 2014, arXiv 1408.5882)."""

    def __init__(self, pieces: int = 2048, width: int = 32, runs: int = 48) -> None:
        super().__init__()
        self.tokens = nn.Embedding(pieces, width, padding_idx=0)
        self.runs = nn.Conv1d(width, runs, 5, padding=2)
        self.out = nn.Linear(runs, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = F.relu(self.runs(self.tokens(x).transpose(1, 2)))  # (n, runs, places)
        return self.out(found.amax(2))


def model() -> nn.Module:
    """The trained net."""
    net = SpamFilter()
    net.load_state_dict(load_file(WEIGHTS))
    return net


def data() -> Data:
    """3,543 mails for training, 368 for validation, 615 for test, as numbers of word pieces."""
    return sets.load("spam")


def train(epochs: int = 12) -> None:
    """Train the net, with one word piece in five masked, and keep its weights."""
    torch.manual_seed(0)
    net, mails = SpamFilter(), data().train
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(mails)).split(50):
            inputs, labels = mails.inputs(rows), mails.labels[rows]
            masked = (torch.rand(inputs.shape) < 0.2) & (inputs > 0)
            loss = F.cross_entropy(net(inputs.masked_fill(masked, 1)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    save_file(net.state_dict(), WEIGHTS)


if __name__ == "__main__":
    train()
