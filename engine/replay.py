"""What a net answers to samples, working out anew only what lies behind the layers that changed.

What enters each layer is kept from the last time. Batches, operations and their order are those of a
whole run, so the answers are the same to the last bit.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from engine import zoo
from engine.data import Samples
from engine.types import Arch, Bundle

BATCH = 250  # samples at once: larger ones leave the processor's cache
MOST_BYTES = 100e6  # of layer inputs that are kept


@dataclass(frozen=True, eq=False)
class Trace:
    """A run: the net's numbers, and for each batch what entered its layers, by the name of its maker."""

    arch: str
    state: Mapping[str, Tensor]
    samples: Samples
    entered: list[dict[str, Tensor]]


@torch.inference_mode()
def logits(
    bundle: Bundle,
    samples: Samples,
    last: Trace | None = None,
    tell: Callable[[float], None] = lambda share: None,
) -> tuple[Tensor, Trace]:
    """The net's outputs (n, classes), and the trace of this run, to be given as `last` to the next.

    `last` may be of any bundle; it helps where architecture and samples are the same. `tell` hears
    before each batch which share is done; what it raises ends the run. Raises SlimscopeError for
    weights without a known architecture.
    """
    arch = json.dumps(bundle.arch.data)
    net, graph = zoo.build(bundle).to(memory_format=torch.channels_last), _graph(arch)  # type: ignore[call-overload]
    state = net.state_dict()
    if last is not None and (last.arch != arch or last.samples is not samples):
        last = None
    changed = {
        name.rpartition(".")[0]
        for name, values in state.items()
        if last is None or not torch.equal(values, last.state[name])
    }
    behind = _behind(graph, changed)
    keep = {node.args[0].name for node in graph.nodes if _is_layer(net, node)}
    found, entered = [], []
    for i, start in enumerate(range(0, len(samples), BATCH)):
        tell(start / len(samples))
        known = {} if last is None else {n: v for n, v in last.entered[i].items() if n not in behind}
        run = _Run(net, graph, keep, known)
        found.append(run.answers(samples.inputs(slice(start, start + BATCH))))
        if i == 0:
            keep = _affordable(run.kept, keep, len(samples) / min(BATCH, len(samples)))
        entered.append({name: run.kept[name] for name in keep if name in run.kept})
    return torch.cat(found), Trace(arch, state, samples, entered)


class _Run(fx.Interpreter):
    """One batch: nodes whose value is known, or that nobody asks for, are passed over."""

    def __init__(self, net: nn.Module, graph: fx.Graph, keep: set[str], known: Mapping[str, Tensor]) -> None:
        super().__init__(net, graph=graph)
        self.keep, self.kept = keep, dict(known)

    def answers(self, inputs: Tensor) -> Tensor:
        asked: set[fx.Node] = set()
        for node in reversed(self.graph.nodes):
            if node.op == "output" or (node in asked and node.name not in self.kept):
                asked |= {node, *node.all_input_nodes}
        passed = {node: self.kept.get(node.name) for node in self.graph.nodes if node not in asked}
        passed |= {node: self.kept[node.name] for node in asked if node.name in self.kept}
        return self.run(inputs, initial_env=passed)  # type: ignore[no-any-return]

    def run_node(self, n: fx.Node) -> object:
        value = super().run_node(n)
        if n.name in self.keep and isinstance(value, Tensor) and n.op != "placeholder":
            self.kept[n.name] = value
        return value


@functools.lru_cache(maxsize=32)
def _graph(arch: str) -> fx.Graph:
    return fx.symbolic_trace(zoo.skeleton(Arch.from_data(json.loads(arch)))).graph


def _behind(graph: fx.Graph, changed: set[str]) -> set[str]:
    """Names of the nodes whose value depends on a module of `changed`."""
    behind: set[str] = set()
    for node in graph.nodes:
        own = node.op == "call_module" and any(f"{m}.".startswith(f"{node.target}.") for m in changed)
        if own or any(before.name in behind for before in node.all_input_nodes):
            behind.add(node.name)
    return behind


def _is_layer(net: nn.Module, node: fx.Node) -> bool:
    layers = (nn.Linear, nn.Conv2d, nn.LSTM)
    return node.op == "call_module" and isinstance(net.get_submodule(str(node.target)), layers)


def _affordable(values: Mapping[str, Tensor], names: set[str], batches: float) -> set[str]:
    """As many as MOST_BYTES hold, the latest first: behind them least is left to work out."""
    chosen, left = set(), MOST_BYTES
    for name, value in reversed(list(values.items())):
        left -= value.nbytes * batches
        if name in names and left > 0:
            chosen.add(name)
    return chosen
