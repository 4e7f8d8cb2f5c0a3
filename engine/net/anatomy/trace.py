"""Who feeds whom, found by running a model once: every value knows the layers that it came from.

Layers of known kinds (`engine.net.kinds`) are followed from outside; between them every function of torch
is seen, so that any code of a user can be followed that works with torch's functions. A function of one value
passes its layers on, one of several values is a meeting: a sum, a concatenation, a product.
Values are known by their memory: what is written into a part of a tensor is in the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode

from engine.net import kinds
from engine.net.anatomy import words
from engine.net.anatomy.graph import (
    CONCATENATION,
    INPUT,
    LAYER,
    MEETING,
    OUTPUT,
    PRODUCT,
    SUM,
    Anatomy,
    Graph,
    Node,
)

ROLES = {
    SUM: "add iadd radd sub isub rsub addcmul lerp",
    CONCATENATION: "cat concat concatenate stack hstack vstack setitem",
    PRODUCT: "mul imul rmul matmul rmatmul bmm einsum mm baddbmm scaled_dot_product_attention truediv div",
}
OF_FUNCTION = {name: role for role, names in ROLES.items() for name in names.split()}
KINDS = {SUM: "values are added", CONCATENATION: "values side by side", PRODUCT: "values are multiplied"}


class Origin(NamedTuple):
    """Where a value comes from: nodes that made it together, and parameters that no node has used yet."""

    nodes: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()


def traced(model: nn.Module, inputs: Sequence[Tensor], ties: Mapping[str, str]) -> Anatomy:
    """The graph of a model in eval mode, found in one run. What the run did not pass comes last, unused.

    `ties` maps other names of a tensor to the one that it is stored under. What the model raises is raised.
    """
    trace = _Trace(model, ties)
    with trace.hooked(), torch.no_grad(), torch.random.fork_rng(devices=[]), trace:
        trace.begin(inputs)
        given = model(*inputs)
        trace.end(given)
    used = {node.layer for node in trace.graph.nodes.values()}
    for name, kind in trace.kinds.items():
        if name not in ties and name not in trace.graph.nodes and name not in used:
            trace.graph.add(Node(name, LAYER, kind, layer=name, used=False), ())
    return trace.graph.done()


class _Trace(TorchFunctionMode):
    def __init__(self, model: nn.Module, ties: Mapping[str, str]) -> None:
        super().__init__()
        self.graph, self.inside = Graph(), 0
        self.seen: list[StorageWeakRef] = []  # no other value gets their numbers, though their memory is free
        self.origins: dict[int, Origin] = {}
        self.modules = {module: name for name, module in model.named_modules()}
        self.kinds: dict[str, str] = {}  # label -> its kind in plain words
        self.weights: dict[nn.Module, dict[str, tuple[str, str]]] = {}  # layer -> own name -> (name, label)
        self.of_layers: set[str] = set()
        for module, prefix in self.modules.items():
            self._list(module, prefix, ties)
        self._own(model, ties)

    def _list(self, module: nn.Module, prefix: str, ties: Mapping[str, str]) -> None:
        """The weights of a layer of a known kind."""
        if kinds.kind_of(module) is None:
            return
        self.weights[module] = {}
        for own, tensor in _matrices(module).items():
            full = f"{prefix}.{own}".lstrip(".")
            name, label = _label(full), _label(ties.get(full, full))
            self.weights[module][own] = (name, label)
            kind = words.kind_of(module, own, tensor)
            kind = kind if name == label else f"{kind}, with the weights of {label}"
            self.kinds.setdefault(name, kind)  # the layer around it comes first, and says more
            self.of_layers.add(label)

    def _own(self, model: nn.Module, ties: Mapping[str, str]) -> None:
        """Every matrix of the model is an origin, for code that uses it without its layer."""
        for name, tensor in _matrices(model).items():
            label = _label(ties.get(name, name))
            self.kinds.setdefault(label, "parameter of the model itself")
            self.origins[_memory(tensor)] = Origin(bare=frozenset({label}))

    # -------- the ends

    def begin(self, inputs: Sequence[Tensor]) -> None:
        self.graph.add(Node(INPUT, INPUT, "input of the model", tuple(inputs[0].shape[1:])), ())
        for tensor in inputs:
            self._note(tensor, Origin(frozenset({INPUT})))

    def end(self, given: Any) -> None:
        tensors = list(_tensors(given))
        sources = self._sources(tensors)
        shape = tuple(tensors[0].shape[1:]) if tensors else ()
        self.graph.add(Node(OUTPUT, OUTPUT, "output of the model", shape), sources)

    # -------- calls of layers

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """With hooks on every layer of a known kind; they also keep torch from its fused encoder layers."""
        known = [module for module in self.modules if kinds.kind_of(module) is not None]
        handles = [module.register_forward_pre_hook(self._enter) for module in known]
        handles += [module.register_forward_hook(self._leave, with_kwargs=True) for module in known]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, module: nn.Module, args: Any) -> None:
        self.inside += 1

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, given: Any) -> None:
        self.inside -= 1
        if self.inside:
            return
        if self.weights[module]:
            origin = Origin(frozenset(self._called(module, (args, kwargs), given)))
        else:
            origin = self._met(type(module).__name__, (args, kwargs), given)
        for tensor in _tensors(given):
            self._note(tensor, origin)

    def _called(self, module: nn.Module, got: Any, given: Any) -> list[str]:
        """The nodes of a layer's weights, in rows that feed each other; who makes its output."""
        sources = self._sources(_tensors(got))
        shape = next((tuple(tensor.shape[1:]) for tensor in _tensors(given)), ())
        for row in _rows(module, list(self.weights[module])):
            made = []
            for own in row:
                name, label = self.weights[module][own]
                node = Node(name, LAYER, self.kinds[name], shape, label, loops=_is_recurrent(own))
                self.graph.add(node, () if node.loops else sources)
                made.append(name)
            sources = made
        return sources

    # -------- functions between layers

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = func(*args, **kwargs)
        if self.inside == 0:
            name = getattr(func, "__name__", str(func)).strip("_")
            changed = args[0] if name == "setitem" else given
            results = [tensor for tensor in _tensors(changed) if tensor.dtype != torch.bool]
            if results:  # a mask holds no values
                origin = self._met(name, (args, kwargs), changed)
                for tensor in results:
                    self._note(tensor, origin)
        return given

    def _met(self, name: str, got: Any, given: Any) -> Origin:
        """Where the result of a function comes from."""
        known = [origin for tensor in _tensors(got) if (origin := self._origin(tensor)) != Origin()]
        made = list(dict.fromkeys(origin.nodes for origin in known if origin.nodes))
        bare = sorted({label for origin in known for label in origin.bare})
        sources = self._sources(_tensors(got))
        shape = next((tuple(tensor.shape[1:]) for tensor in _tensors(given)), ())
        if not made:
            return Origin(bare=frozenset(bare))
        if bare:
            return Origin(frozenset(self._uses(label, sources, shape) for label in bare))
        if len(made) == 1:
            return Origin(made[0])
        role = OF_FUNCTION.get(name, MEETING)
        kind = KINDS.get(role, f"values meet in {name}")
        return Origin(frozenset({self.graph.meeting(role, kind, sources, shape)}))

    def _uses(self, label: str, sources: list[str], shape: tuple[int, ...]) -> str:
        """The node of a matrix that the model's own code uses; a layer's weight is used again."""
        name = f"{label} (again)" if label in self.of_layers else label
        self.graph.add(Node(name, LAYER, self.kinds[label], shape, label), sources)
        return name

    def _sources(self, tensors: Iterable[Tensor]) -> list[str]:
        """The nodes that these values come from, in the order of use."""
        names = {name for tensor in tensors for name in self._origin(tensor).nodes}
        return [name for name in self.graph.nodes if name in names]

    def _origin(self, tensor: Tensor) -> Origin:
        return self.origins.get(_memory(tensor), Origin())

    def _note(self, tensor: Tensor, origin: Origin) -> None:
        self.seen.append(StorageWeakRef(tensor.untyped_storage()))  # type: ignore[no-untyped-call]
        self.origins[_memory(tensor)] = origin


def _rows(module: nn.Module, names: list[str]) -> list[list[str]]:
    """A layer's weights in the order in which values pass them; those of one row stand beside each other."""
    if isinstance(module, nn.MultiheadAttention):
        last = [name for name in names if name.startswith("out_proj")]
        return [row for row in ([name for name in names if name not in last], last) if row]
    rows: dict[tuple[str, bool], list[str]] = {}
    for name in names:
        number = name.partition("_l")[2].removesuffix("_reverse") if isinstance(module, nn.RNNBase) else ""
        rows.setdefault((number, name.startswith("weight_hr")), []).append(name)
    return list(rows.values())


def _is_recurrent(name: str) -> bool:
    """Whether a layer's weight reads what the layer made before, and not what enters it."""
    return name.startswith("weight_hh")


def _label(name: str) -> str:
    return name.removesuffix(".weight")


def _matrices(module: nn.Module) -> dict[str, Tensor]:
    """What is saved of a module and has two or more dimensions: what `weight_layers` calls a layer."""
    saved = module.state_dict(keep_vars=True).items()
    return {name: tensor for name, tensor in saved if tensor.dim() >= 2 and tensor.is_floating_point()}


def _memory(tensor: Tensor) -> int:
    where: int = tensor.untyped_storage()._cdata
    return where


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
