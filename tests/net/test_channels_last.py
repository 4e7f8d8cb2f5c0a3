"""A user's net of images is run with channels last where it can be, and answers as it would without."""

from __future__ import annotations

import own_models
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data import user_parts
from engine.net import incremental, sources, zoo

LAST = torch.channels_last
SEEN: list[bool] = []


class Photos(nn.Module):
    """A convolution and a classifier; SEEN tells whether channels came last."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.out = nn.Conv2d(3, 6, 3), nn.Linear(6 * 9, own_models.CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        SEEN.append(x.is_contiguous(memory_format=LAST) and not x.is_contiguous())
        return self.out(self.flat(F.max_pool2d(self.conv(x), 2)))  # type: ignore[no-any-return]

    def flat(self, x: Tensor) -> Tensor:
        return x.flatten(1)


class Views(Photos):
    def flat(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


class Memories(Photos):
    """A net that reads what lies in memory, in the order in which it lies there."""

    def flat(self, x: Tensor) -> Tensor:
        return x.as_strided((len(x), 54), (54, 1))


class Counts(Photos):
    """A net that answers differently each time."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def flat(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x.flatten(1) * self.calls


@pytest.mark.parametrize(
    ("kind", "is_last"), [(Photos, True), (Views, False), (Memories, False), (Counts, False)]
)
def test_a_net_of_images_answers_as_it_does_alone(kind: type[Photos], is_last: bool) -> None:
    data = user_parts.task_of(own_models.parts("branches"), "own")
    torch.manual_seed(3)
    bundle, _, _ = sources.adopt(kind(), data)
    with torch.no_grad():
        expected = zoo.build(bundle)(data.test.inputs())
    SEEN.clear()
    found, _ = incremental.logits(bundle, data.test)
    assert torch.allclose(found, expected, atol=1e-5)
    assert SEEN[-1] == is_last


@pytest.mark.parametrize("kind", list(own_models.KINDS))
def test_nets_of_all_kinds_answer_as_they_do_alone(kind: str) -> None:
    data = user_parts.task_of(own_models.parts(kind), kind)
    bundle, _, _ = sources.adopt(own_models.model(kind), data)
    found, _ = incremental.logits(bundle, data.test)
    with torch.no_grad():
        assert torch.allclose(found, own_models.model(kind)(data.test.inputs()), atol=1e-5)
