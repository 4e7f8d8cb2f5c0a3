"""What a net answers to samples, working out anew only what lies behind the layers that changed.

What each module gave is kept from the last time. One that is called before the first layer that changed
gives it again; batches, operations and their order are those of a whole run, so the answers are the
same to the last bit. (torch.fx would spare the operations between layers too, but while it traces, no
other thread may run a net.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.data import user_errors
from engine.data.sets import Samples
from engine.memory import MEMORY
from engine.net import answers as kept
from engine.net import zoo
from engine.net.answers import NotNumbers as NotNumbers
from engine.net.answers import checked as checked
from engine.types import Bundle

BATCH = 196_000  # numbers at once, 250 digits or 63 photos: larger batches leave the processor's cache
VECTOR = 100
MOST_BYTES = 100e6  # of modules' outputs that are kept


@dataclass(frozen=True, eq=False)
class Trace:
    """A run: the net's numbers, and for each batch what its modules gave, by their names."""

    arch: str
    state: Mapping[str, Tensor]
    samples: Samples
    given: list[dict[str, Any]]


@torch.inference_mode()
def logits(
    bundle: Bundle,
    samples: Samples,
    last: Trace | None = None,
    tell: Callable[[float], None] = lambda share: None,
    keep: bool = True,
) -> tuple[Tensor, Trace]:
    """The net's outputs (n, classes), and the trace of this run, to be given as `last` to the next.

    Where a text is read on they are (n, tokens, places), which is much: `answers` keeps less of them.
    Without `keep` the trace is empty, which spares memory. `last` may be of any bundle; it helps where
    architecture and samples are the same. `tell` hears before each batch which share is done; what it
    raises ends the run. Raises SlimscopeError for weights without a known architecture, and for outputs
    that are NaN.
    """
    return _run(bundle, samples, last, tell, keep, lambda outputs, some: outputs)


@torch.inference_mode()
def answers(
    bundle: Bundle,
    samples: Samples,
    last: Trace | None = None,
    tell: Callable[[float], None] = lambda share: None,
    keep: bool = True,
) -> tuple[Tensor, Trace]:
    """As `logits`, but what `engine.net.answers.of` keeps of the outputs, batch by batch."""
    return _run(bundle, samples, last, tell, keep, kept.of)


def _run(
    bundle: Bundle,
    samples: Samples,
    last: Trace | None,
    tell: Callable[[float], None],
    keep: bool,
    taken: Callable[[Tensor, Samples], Tensor],
) -> tuple[Tensor, Trace]:
    arch = bundle.arch.key
    if bundle.arch.source != "zoo":
        return _plain(bundle, samples, tell, taken), Trace(arch, {}, samples, [])
    net = zoo.build(bundle).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = net.state_dict()
    if last is not None and (last.arch != arch or last.samples is not samples):
        last = None
    changed = {
        name.rpartition(".")[0]
        for name, values in state.items()
        if last is None or not torch.equal(values, last.state[name])
    }
    memory, batch = _Memory(net, changed), _batch(samples)
    if not keep:
        memory.keep = set()
    found, given, bad = [], [], 0
    try:
        for i, start in enumerate(range(0, len(samples), batch)):
            tell(start / len(samples))
            memory.begin({} if last is None else last.given[i])
            rows = slice(start, start + batch)
            outputs = net(samples.inputs(rows))
            bad += kept.wrong(outputs)
            found.append(taken(outputs, samples.take(rows)))
            if memory.keep is None:
                memory.keep = _affordable(memory.given, len(samples) / min(batch, len(samples)))
            given.append({name: value for name, value in memory.given.items() if memory.keeps(name)})
    finally:
        memory.leave()
    kept.fail_at(bad, len(samples))
    return torch.cat(found), Trace(arch, state, samples, given)


def _plain(
    bundle: Bundle,
    samples: Samples,
    tell: Callable[[float], None],
    taken: Callable[[Tensor, Samples], Tensor],
) -> Tensor:
    """What is taken of the outputs of a net that nobody knows: it may change its inputs in place, or call a
    layer twice.

    Nothing of the last run is used.
    """
    batch = _batch(samples)
    layout = _layout(bundle, samples.inputs(slice(0, batch)))
    net = zoo.build(bundle).to(memory_format=layout)  # type: ignore[call-overload]
    found, bad = [], 0
    for start in range(0, len(samples), batch):
        tell(start / len(samples))
        rows = slice(start, start + batch)
        with user_errors.own_errors(bundle.arch.title):
            outputs = net(samples.inputs(rows).contiguous(memory_format=layout))
        bad += kept.wrong(outputs)
        found.append(taken(outputs, samples.take(rows)))
    kept.fail_at(bad, len(samples))
    return torch.cat(found)


def _layout(bundle: Bundle, some: Tensor) -> torch.memory_format:
    """The layout of a net and its inputs: channels last, in which pooling is several times as fast.

    As it came, if it can't run so (`view` refuses such tensors) or answers `some` of its inputs differently.
    It is asked once: what a net does with its inputs is a matter of its code, not of its weights.
    """
    if some.dim() != 4:
        return torch.contiguous_format
    return cast(torch.memory_format, MEMORY.get(("layout", bundle.arch.key), lambda: _tried(bundle, some)))


def _tried(bundle: Bundle, some: Tensor) -> torch.memory_format:
    net, last = zoo.build(bundle), torch.channels_last
    with suppress(Exception):  # a mistake of the net's own is made again, and told then
        said = net(some.clone())
        net.to(memory_format=last)  # type: ignore[call-overload]
        if torch.allclose(net(some.contiguous(memory_format=last)), said, rtol=1e-3, atol=1e-4):
            return last
    return torch.contiguous_format


def _batch(samples: Samples) -> int:
    """How many samples are run at once. A word piece becomes a vector of about VECTOR numbers."""
    each = VECTOR if samples.images.dtype == torch.int64 else 1
    return max(1, BATCH // (each * samples.images[0].numel()))


class _Memory:
    """Stands in the way of every module of a net, blocks of layers and the net itself among them."""

    def __init__(self, net: nn.Module, changed: set[str]) -> None:
        self.changed = changed
        self.keep: set[str] | None = None  # whose outputs are kept, once their sizes are known
        self.begin({})
        self.own = list(net.named_modules())
        for name, module in self.own:
            module.forward = self._guarded(name, module.forward)

    def begin(self, known: Mapping[str, Any]) -> None:
        """A new batch, of which the last run's modules gave `known`."""
        self.known, self.given, self.as_before = known, dict[str, Any](), True

    def keeps(self, name: str) -> bool:
        """Whether an output is kept: others are let go, so that their memory serves the next layers."""
        return self.keep is None or name in self.keep

    def _guarded(self, name: str, forward: Callable[..., Any]) -> Callable[..., Any]:
        inside = f"{name}." if name else ""
        is_same = not any(f"{each}.".startswith(inside) for each in self.changed)

        def guarded(*inputs: Any) -> Any:
            self.as_before = self.as_before and name not in self.changed
            if self.as_before and is_same and name in self.known:
                self.given |= {n: v for n, v in self.known.items() if n == name or n.startswith(inside)}
                return self.known[name]
            value = forward(*inputs)
            if self.keeps(name):
                self.given[name] = value
            return value

        return guarded

    def leave(self) -> None:
        """Modules that hold functions that hold modules would stay in memory for long."""
        for _, module in self.own:
            del module.forward


def _affordable(given: Mapping[str, Any], batches: float) -> set[str]:
    """As many as MOST_BYTES hold: blocks before what is in them, and the latest first.

    What a block gives spares all that is in it, and the latest are the smallest for the work in them.
    """
    chosen, seen, left = set[str](), set[int](), MOST_BYTES
    latest_first = list(given.items())[::-1]
    for name, value in sorted(latest_first, key=lambda item: item[0].count(".")):
        values = (value,) if isinstance(value, Tensor) else (value[0], *value[1])
        size = batches * sum(each.nbytes for each in values if id(each) not in seen)
        if size < left:
            left -= size
            seen |= set(map(id, values))
            chosen.add(name)
    return chosen
