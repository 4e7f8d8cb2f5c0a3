"""What reads the states of an LSTM: the layers behind it, found by running its net once."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from engine.data import user_errors
from engine.types import SlimscopeError

WIDTHS: dict[type[nn.Module], str] = {nn.Linear: "in_features", nn.LSTM: "input_size"}  # which may shrink


class Unfit(SlimscopeError):
    """Why an LSTM can't have a projection: what follows its name."""


def readers(net: nn.Module, label: str, inputs: Tensor) -> list[str]:
    """The layers that the states of the LSTM `label` enter directly: where gradients would come back from.

    The net is tapped, so it should be a fork. Raises Unfit where something else reads them than linear
    layers and LSTMs, or reads other numbers beside them, and where the LSTM is called several times.
    """
    net.eval().requires_grad_(False)
    calls, found = list[str](), dict[str, nn.Module]()

    def given(module: nn.Module, args: Any, output: Any) -> Any:
        calls.append(label)
        if not isinstance(output[0], Tensor):
            raise Unfit("gives packed sequences")
        states, (last, cells) = output
        return states.detach().requires_grad_(), (last.detach().requires_grad_(), cells)

    def enters(name: str) -> Any:
        def look(module: nn.Module, args: Any, kwargs: Any) -> None:
            if _follows((args, kwargs)):
                found[name] = module

        return look

    for name, module in net.named_modules():
        if name == label:
            module.register_forward_hook(given)
        elif name and next(module.parameters(recurse=False), None) is not None:
            module.register_forward_pre_hook(enters(name), with_kwargs=True)
            module.register_forward_hook(_cut)
    with torch.enable_grad():
        open_end = _follows(answers(net, inputs))
    if len(calls) != 1:
        raise Unfit(f"is called {len(calls)} times")
    if open_end or not found:
        raise Unfit("gives its states to something else than a layer that could read fewer")
    states = net.get_submodule(label).hidden_size
    for name, module in found.items():
        width = WIDTHS.get(type(module))
        if width is None or getattr(module, width) != states:
            kind = type(module).__name__
            raise Unfit(f"has {states} states that enter {name} ({kind}), which can't read fewer")
    return list(found)


def answers(net: nn.Module, inputs: Tensor) -> list[Tensor]:
    """All tensors that a net gives. Raises UserError where it fails."""
    with user_errors.own_errors("the model fails"):
        return [x for x in tree_leaves(net(inputs)) if isinstance(x, Tensor)]


def _follows(values: Any) -> bool:
    return any(isinstance(x, Tensor) and x.requires_grad for x in tree_leaves(values))


def _cut(module: nn.Module, args: Any, output: Any) -> Any:
    """What is behind a layer that reads them does not read the states itself."""
    return tree_map(lambda x: x.detach() if isinstance(x, Tensor) else x, output)
