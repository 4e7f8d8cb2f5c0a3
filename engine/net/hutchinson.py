"""The trace of the loss's Hessian over each weight, estimated without the Hessian (Hutchinson 1990).

The mean of v^T H v over vectors v of random signs is the trace of H, and H v is a derivative of the gradient.
Each weight has vectors of its own, which are zero in all others: with one vector for all, what the others
bring in would be noise, larger than the trace of a small layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import curvature, zoo
from engine.types import Bundle

BATCH = 10  # samples at once; each batch has vectors of its own, and more vectors are worth more than samples


def traces(net: nn.Module, samples: Samples, seed: int, draws: int = 1) -> dict[str, Tensor]:
    """Estimates of the trace of the Hessian of the mean cross-entropy: weight's name -> (n,) float64.

    Their mean is the estimate, and their spread says how good it is: there are `draws` for each batch of
    samples, from vectors of random signs that the seed fixes. None is biased. `net` is a fork, and answers in
    eval mode; inputs that are rounded pass derivatives straight through.
    (Hutchinson 1990; HAWQ-V2: Dong et al. 2020, arXiv 1911.03852, section 3.2)
    """
    samples.check_loss()
    weights = curvature.weights_of(net)
    chance = torch.Generator().manual_seed(seed)
    found: dict[str, list[float]] = {name: [] for name in weights}
    batches = -(-len(samples) // BATCH)
    for start in range(0, len(samples), BATCH):
        part = samples.take(slice(start, start + BATCH))
        share = len(part) * batches / len(samples)
        with sdpa_kernel(SDPBackend.MATH):  # a fused attention has no second derivative
            loss = F.cross_entropy(net(part.inputs()), part.labels)
            gradients = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            found[name] += [share * _curved(gradient, weight, chance) for _ in range(draws)]
    return {name: torch.tensor(each, dtype=torch.float64) for name, each in found.items()}


def _curved(gradient: Tensor, weight: nn.Parameter, chance: torch.Generator) -> float:
    """v^T H v for a vector of random signs."""
    signs = torch.randint(2, weight.shape, generator=chance).to(weight.dtype).mul_(2).sub_(1)
    (bent,) = torch.autograd.grad(gradient, weight, signs, retain_graph=True, materialize_grads=True)
    return float((bent.double() * signs).sum())


@remembered
def traces_of(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, Tensor]:
    """`traces` of a bundle's net on `count` of the samples, picked by the seed, each class in its share."""
    return MappingProxyType(traces(zoo.fork(bundle), samples.stratified(count, seed), seed))
