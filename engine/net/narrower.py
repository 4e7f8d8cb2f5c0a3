"""A narrower copy of a net: the same layers with fewer channels, and first weights of its own."""

from __future__ import annotations

import torch
from torch import nn

from engine.net import channels, sources, surgery, zoo
from engine.net.input_quantizer import VERBS
from engine.net.sources import COUNTER
from engine.tensor.formats import Dense
from engine.types import Arch, Bundle, SlimscopeError


def narrower(bundle: Bundle, width: float) -> Arch:
    """The architecture with the share `width` of each group of channels, evenly spaced, at least one of each.

    Channels that can't go stay, and inputs are not rounded. Raises SlimscopeError where none can go.

    >>> narrower(zoo.load("lenet-5"), 0.5).edits[0][1]["outputs"]
    {'conv1': 10, 'conv2': 25, 'fc1': 250}
    """
    known = channels.groups(bundle)
    if not known:
        raise SlimscopeError(f"{bundle.arch.title} has no channels that can go: it has no narrower copy")
    kept = {name: spaced(group.channels, width) for name, group in known.items()}
    arch = channels.keep(bundle, kept).arch
    return Arch(arch.name, tuple(edit for edit in arch.edits if edit[0] not in VERBS), arch.config)


def spaced(total: int, share: float) -> list[int]:
    """A share of the numbers below `total`, evenly spaced: at least one.

    >>> spaced(6, 0.5), spaced(5, 0.01)
    ([0, 2, 4], [0])
    """
    count = max(1, round(total * share))
    return [number * total // count for number in range(count)]


def fresh(arch: Arch, seed: int) -> nn.Module:
    """A net with random first weights that a seed fixes: its source's own, or torch's where it was edited.

    Raises SlimscopeError for an edited net with numbers that no module of torch draws.
    """
    if not arch.edits:
        return sources.seeded(arch, seed)
    net = zoo.skeleton(arch)
    state = {
        name: torch.full(t.shape, torch.nan) for name, t in net.state_dict().items() if t.is_floating_point()
    }
    rest = {
        name: torch.zeros((), dtype=t.dtype) if name.endswith(COUNTER) else t
        for name, t in net.state_dict().items()
        if name not in state
    }
    surgery.fill(net, {**state, **rest})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in net.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()
    unknown = [name for name, t in net.state_dict().items() if name in state and bool(t.isnan().any())]
    if unknown:
        raise SlimscopeError(
            f"no first values are known for {unknown[0]!r} of {arch.title}: it can't be trained anew"
        )
    return net


def bundle_of(arch: Arch, net: nn.Module) -> Bundle:
    """A net of this architecture as an original bundle, whatever was edited."""
    state = net.state_dict()
    names = [name for name, tensor in state.items() if tensor.is_floating_point() and name not in arch.ties]
    return Bundle(arch, {name: Dense(state[name].detach().to(torch.float32).contiguous()) for name in names})
