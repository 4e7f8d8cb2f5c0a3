"""Images distilled from batch-norm: the loss by hand, statistics that are reached, one result for a seed."""

import pytest
import torch
from torch import Tensor, nn

from engine.data.sets import CIFAR_SCALE
from engine.net import distilled, zoo
from engine.types import Cancelled, Progress, SlimscopeError

PHOTOS = distilled.Pixels(*CIFAR_SCALE)


def test_the_gap_of_a_batch_norm_by_hand() -> None:
    """Two channels: means 2 and 0, deviations 1 and 2 (biased), against 0 and 0, and 1 and 1."""
    entering = torch.tensor([[1.0, -2.0], [3.0, 2.0]])
    assert float(distilled.gap(entering, torch.zeros(2), torch.ones(2))) == pytest.approx((4 + 0 + 0 + 1) / 2)


def entering(name: str, images: Tensor) -> list[tuple[Tensor, nn.Module]]:
    net, met = zoo.fork(zoo.load(name)).eval(), list[tuple[Tensor, nn.Module]]()
    for layer in net.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.register_forward_pre_hook(lambda layer, args: met.append((args[0].detach(), layer)))
    with torch.no_grad():
        net(images)
    return met


def distance(name: str, images: Tensor) -> float:
    """Of means, in deviations, over all channels of all layers."""
    gaps = [
        (x.transpose(0, 1).flatten(1).mean(1) - layer.running_mean) / layer.running_var.sqrt()  # type: ignore
        for x, layer in entering(name, images)
    ]
    return float(torch.cat(gaps).abs().mean())


def test_what_batch_norm_sees_of_them_is_what_it_saw_in_training() -> None:
    net, told = zoo.load("resnet-8"), list[float]()
    progress = Progress(lambda share, row: told.append(share))
    found = distilled.distil(net, 16, 45, 0, PHOTOS, progress)
    assert found.losses[-1] < 0.2 * found.losses[0]
    assert distance("resnet-8", found.images) < 0.4 * distance(
        "resnet-8", distilled.noise(net, 16, 0, PHOTOS)
    )
    assert list(found.seen) == [0, 15, 30, 45]
    assert torch.equal(found.seen[45], found.images)
    assert told[-1] == 1.0
    low, high = PHOTOS.ends()
    assert bool(((found.images >= low) & (found.images <= high)).all())


def test_a_seed_fixes_them_and_a_run_can_be_stopped() -> None:
    net = zoo.load("mlp-500-300")
    one, same, other = (distilled.distil(net, 16, 5, seed, None, Progress()).images for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    with pytest.raises(Cancelled):
        distilled.distil(net, 16, 5, 0, None, Progress(cancelled=lambda: True))


def test_models_without_batch_norm_are_refused() -> None:
    with pytest.raises(SlimscopeError, match="has no batch-norm: it keeps no statistics"):
        distilled.check(zoo.load("mlp-32"))
