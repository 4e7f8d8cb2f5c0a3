"""First and second derivatives of the loss by each weight, exact, for scores that need them.

The loss is the mean cross-entropy over samples. Only weights (two axes or more) are looked at; the net
answers in eval mode. What is made of the numbers is for `engine.tensor.scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from engine.data.sets import Samples
from engine.memory import remembered
from engine.net import surgery, zoo
from engine.net.matching import is_matched
from engine.net.surgery import InputQuantizer
from engine.types import Bundle, SlimscopeError

BATCH = 20  # samples at once: of convolutions, all patches of all layers are held


def _gauss_newton(logits: Tensor) -> Tensor:
    """sqrt(p_c) (e_c - p) for each class c: their outer products add up to diag(p) - p p^T.

    Derivatives by the logits (n, classes) as (draws, n, classes): the sum of the squares of what each draw
    gives at a weight is what one sample adds to the diagonal.
    """
    if logits.dim() != 2:
        raise SlimscopeError(
            "the curvature of a model that says how a text goes on is not worked out: "
            "it would take a pass for each token at each place"
        )
    p = logits.softmax(1)
    classes = torch.eye(p.shape[1], dtype=p.dtype)
    return p.sqrt().T.unsqueeze(2) * (classes.unsqueeze(1) - p)


def gradient(net: nn.Module, samples: Samples) -> dict[str, Tensor]:
    """The gradient of the mean cross-entropy: weight's name -> its shape, float32. `net` is a fork."""
    samples.check_loss()
    weights, total = _start(net)
    for inputs, labels in _batches(samples):
        loss = F.cross_entropy(net(inputs), labels, reduction="sum")
        for name, part in zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True):
            total[name] += part
    return {name: (value / len(samples)).float() for name, value in total.items()}


def diagonal(net: nn.Module, samples: Samples) -> dict[str, Tensor]:
    """The diagonal of the Gauss-Newton matrix of the mean cross-entropy: weight's name -> its shape, float32.

    J^T (diag(p) - p p^T) J per sample, J the derivatives of the logits. It is never negative,
    and it is the Fisher information. Where logits are piecewise linear in each single weight, it is the
    diagonal of the Hessian itself, at every point that is not on a kink: so in feed-forward nets of linear
    and convolutional layers, each used once, with ReLU, pooling and batch-norm in eval mode. In recurrent
    nets it is not.

    Exact for these samples. Linear layers and convolutions take one backward pass per class for a
    whole batch; weights of all others one per class and sample. Inputs that are rounded pass
    derivatives straight through. `net` is a fork. A tensor with several names has one diagonal, of all its
    uses. Raises SlimscopeError for weights that are made of other parameters.
    (LeCun 1989; Schraudolph 2002)
    """
    weights, total = _start(net)
    layers = _by_sample(net, _plain_layers(net, weights), samples.inputs(slice(0, BATCH)))
    for inputs, _ in _batches(samples):
        seen = _squares(net, layers, inputs)
        rest = {name: weight for name, weight in weights.items() if name not in seen}
        for name, part in chain(seen.items(), _one_by_one(net, rest, inputs)):
            total[name] += part
    return {name: (value / len(samples)).float() for name, value in total.items()}


def weights_of(net: nn.Module) -> dict[str, nn.Parameter]:
    """The weights by name. The net answers as in use from here on, and rounded inputs pass derivatives."""
    net.eval()
    for module in net.modules():
        if isinstance(module, InputQuantizer):
            module.train()  # the same values; in eval mode rounding has derivative zero
    return {name: p for name, p in net.named_parameters() if p.dim() >= 2}


def _start(net: nn.Module) -> tuple[dict[str, nn.Parameter], dict[str, Tensor]]:
    """The weights of a net, and a sum for each, float64."""
    weights = weights_of(net)
    return weights, {name: torch.zeros(p.shape, dtype=torch.float64) for name, p in weights.items()}


def _batches(samples: Samples) -> Iterator[tuple[Tensor, Tensor]]:
    for start in range(0, len(samples), BATCH):
        rows = slice(start, start + BATCH)
        yield samples.inputs(rows), samples.labels[rows]


def _plain_layers(net: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, nn.Module]:
    """Weight's name -> its layer, where `_squares` may know its derivatives; shared ones have several uses.

    Raises SlimscopeError for a layer whose weight is made of other parameters.
    """
    plain = {name: module for name, module in net.named_modules() if _is_plain(module)}
    tied = {name for names in surgery.shared(net) for name in names}
    for name, module in plain.items():
        if "weight" not in module._parameters:
            raise SlimscopeError(
                f"the weight of layer {name!r} is made of other parameters, as in weight_norm: "
                "curvature is known for plain weights only"
            )
    named = {f"{name}.weight": module for name, module in plain.items()}
    return {name: module for name, module in named.items() if name in weights and name not in tied}


def _is_plain(module: nn.Module) -> bool:
    """Whether a weight's derivative is a sum of products of what enters the layer and what comes back."""
    return not isinstance(module, nn.Conv1d) and is_matched(module)


Uses = dict[str, tuple[Tensor, Tensor]]  # weight's name -> what enters its layer, and what the layer gives


def _used_once(net: nn.Module, layers: Mapping[str, nn.Module], inputs: Tensor) -> tuple[Tensor, Uses]:
    """The logits, and what goes through each layer that is used once."""
    used: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}

    def note(name: str) -> Callable[..., None]:
        return lambda module, args, output: used[name].append((args[0].detach(), output))

    hooks = [module.register_forward_hook(note(name)) for name, module in layers.items()]
    try:
        logits = net(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return logits, {name: uses[0] for name, uses in used.items() if len(uses) == 1}


def _by_sample(net: nn.Module, layers: Mapping[str, nn.Module], inputs: Tensor) -> dict[str, nn.Module]:
    """Those of the layers whose inputs have a row for each sample, and nothing else in their first axis.

    What the first half of the samples is answered must not change with the other half's rows: in a
    transformer that wants places before samples it does, though there may be as many of both.
    """
    logits, once = _used_once(net, layers, inputs)
    once = {name: ends for name, ends in once.items() if all(len(end) == len(inputs) for end in ends)}
    if not once:
        return {}
    half = (len(inputs) + 1) // 2
    outputs = [output for _, output in once.values()]
    backs = torch.autograd.grad(logits[:half].square().sum(), outputs, allow_unused=True)
    apart = (back is not None and not bool(back[half:].any()) for back in backs)
    return {name: layers[name] for name, is_apart in zip(once, apart, strict=True) if is_apart}


def _squares(net: nn.Module, layers: Mapping[str, nn.Module], inputs: Tensor) -> dict[str, Tensor]:
    """For each layer used once: squared derivatives, summed over samples and draws, in its weight's shape."""
    logits, once = _used_once(net, layers, inputs)
    if not once:
        return {}
    outputs = [output for _, output in once.values()]
    draws = [
        torch.autograd.grad(logits, outputs, back, retain_graph=True)
        for back in _gauss_newton(logits.detach())
    ]
    return {
        name: _squared(layers[name], entered, torch.stack(back))
        for (name, (entered, _)), back in zip(once.items(), zip(*draws, strict=True), strict=True)
    }


def _squared(layer: nn.Module, entered: Tensor, back: Tensor) -> Tensor:
    """Sum of squares over samples and draws, from layer inputs (n, ...) and derivatives (draws, n, ...)."""
    if isinstance(layer, nn.Conv2d):
        assert not isinstance(layer.padding, str)
        patches = F.unfold(entered, layer.kernel_size, layer.dilation, layer.padding, layer.stride)
        return _over_places(back.flatten(3), patches).view(layer.weight.shape)
    if entered.dim() > 2:  # a linear layer at each place of a text, or of an image
        return _over_places(back.flatten(2, -2).mT, entered.flatten(1, -2).mT)
    return back.square().sum(0).T @ entered.square()


def _over_places(back: Tensor, entered: Tensor) -> Tensor:
    """The same where a sample uses a weight at each place.

    From (draws, n, outputs, places) and (n, inputs, places): (outputs, inputs).
    """
    total, each = (torch.zeros(back.shape[2], entered.shape[1]) for _ in range(2))
    for of_draw in back:  # one at a time: they stay in the processor's cache
        for pulled, seen in zip(of_draw, entered, strict=True):
            torch.mm(pulled, seen.T, out=each)  # (outputs, places) @ (places, inputs)
            total.addcmul_(each, each)
    return total


def _one_by_one(
    net: nn.Module, weights: Mapping[str, nn.Parameter], inputs: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """The same for any weight: squared derivatives of each sample and draw."""
    for i in range(len(inputs) if weights else 0):
        logits = net(inputs[i : i + 1])
        for back in _gauss_newton(logits.detach()):
            parts = torch.autograd.grad(logits, list(weights.values()), back, retain_graph=True)
            yield from zip(weights, (part.square() for part in parts), strict=True)


# ---------------------------------------------------------------- of a bundle, remembered


@remembered  # a slider moves many times over the same net
def gradient_of(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, Tensor]:
    """`gradient` of a bundle's net on `count` of the samples, picked by the seed, each class in its share."""
    return MappingProxyType(gradient(zoo.fork(bundle), samples.stratified(count, seed)))


@remembered
def diagonal_of(bundle: Bundle, samples: Samples, count: int, seed: int) -> Mapping[str, Tensor]:
    """`diagonal` (Gauss-Newton) of a bundle's net on the same choice of samples."""
    return MappingProxyType(diagonal(zoo.fork(bundle), samples.stratified(count, seed)))
