"""Which channel goes where: channel numbers are sent through a net in place of values.

A function that works on each channel by itself, and of zero makes zero, passes the numbers on. A layer
reads those that enter and makes new ones; where values are added up, their numbers become one. All else
pins what enters it: pinned channels stay, so what comes out is the same before and after a cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.net import surgery

FIXED = 0  # the number of every channel that stays
Ids = tuple[int, ...]
Rule = Callable[[Callable[..., Any], Any, Any], Any]  # of a function and what it got: None: not followed


class Where(NamedTuple):
    """A tensor axis that carries channels, each over `block` places; `role` is `makes` or `reads`."""

    role: str
    param: str
    axis: int
    block: int


class Trace:
    """The record of a run of a net on channel numbers.

    Numbers that must go together are joined in one tree (union-find): `parent` points to the
    smaller, so that what is joined with FIXED is fixed. `reasons` says why channels were pinned.
    """

    def __init__(
        self, net: nn.Module, inputs: Tensor, rules: Mapping[str, Rule], tied: Sequence[str] = ()
    ) -> None:
        named = (*net.named_parameters(), *net.named_buffers())
        self.net, self.rules, self.names = net, rules, {id(t): name for name, t in named if name not in tied}
        self.parent = [FIXED]
        self.notes: dict[Where, Ids] = {}
        self.summed: list[int] = []
        self.pads: dict[str, tuple[Ids, Ids]] = {}
        self.block = ""  # the block with a padded shortcut that was entered last
        self.reasons: list[str] = []
        for name, module in net.named_modules():
            if hasattr(module, "pad"):
                module.register_forward_pre_hook(lambda _, __, name=name: setattr(self, "block", name))
        self.inputs = torch.empty((2, *inputs.shape[1:]), dtype=inputs.dtype, device="meta")
        answers = list(flows(net(fixed(self, self.inputs))))
        self.answers = [flow.value.shape for flow in answers]
        for flow in answers:
            self.pin(flow)

    def fresh(self, count: int) -> Ids:
        ids = tuple(range(len(self.parent), len(self.parent) + count))
        self.parent += ids
        return ids

    def root(self, channel: int) -> int:
        while self.parent[channel] != channel:
            channel = self.parent[channel]
        return channel

    def join(self, a: Sequence[int], b: Sequence[int]) -> None:
        for one, other in zip(a, b, strict=True):
            low, high = sorted((self.root(one), self.root(other)))
            self.parent[high] = low

    def pin(self, flow: Flow, reason: str = "") -> None:
        """Let these channels stay, for this reason."""
        if reason and not flow.is_fixed:
            self.reasons.append(reason)
        self.join(flow.ids, (FIXED,) * len(flow.ids))

    def note(self, role: str, tensor: Tensor, axis: int, ids: Ids, block: int = 1) -> None:
        """A layer that is passed twice has one set of channels, or keeps all where their runs differ."""
        where = Where(role, self.names[id(tensor)], axis, block)
        self.join(ids, self.notes.setdefault(where, ids))
        others = [other for other in self.notes if other[:3] == where[:3]]
        for other in others if len(others) > 1 else ():
            self.join(self.notes[other], (FIXED,) * len(self.notes[other]))

    def owner(self, tensor: object) -> nn.Module | None:
        """The layer that a weight belongs to, where surgery can make it narrower."""
        name = self.names.get(id(tensor), "")
        module = self.net.get_submodule(name.rpartition(".")[0])
        return module if name and surgery.widths(module) else None

    def opaque(self, func: Callable[..., Any], args: Any, kwargs: Any, reason: str = "") -> Any:
        """What no rule follows: what enters stays, and so does what comes out."""
        name = name_of(func)
        result = plainly(func, args, kwargs)
        if name != "setitem" and not list(tensors(result)):
            return result
        for flow in flows((args, kwargs)):
            self.pin(flow, reason or f"channels can't be followed through {name}")
        return _mapped(result, Tensor, lambda tensor: fixed(self, tensor))


class Flow:
    """What stands for a tensor in a trace: its shape, and the numbers of its channels along one axis.

    `value` has the shape and no memory; each channel has as many places in a row along `axis`.
    Torch hands its functions over to `__torch_function__`, and only those that got this object:
    nets that run in other threads at the same time notice nothing, as they would of torch.fx.
    """

    def __init__(self, trace: Trace, value: Tensor, axis: int, ids: Ids) -> None:
        self.trace, self.value, self.axis, self.ids = trace, value, axis % max(value.dim(), 1), ids

    @property
    def block(self) -> int:
        """Places of one channel along the axis."""
        return self.value.shape[self.axis] // len(self.ids) if self.ids else 1

    @property
    def is_fixed(self) -> bool:
        return all(self.trace.root(channel) == FIXED for channel in self.ids)

    def like(self, value: Tensor) -> Flow:
        """The same channels in a tensor of this shape."""
        return Flow(self.trace, value, self.axis, self.ids)

    @classmethod
    def __torch_function__(
        cls, func: Callable[..., Any], types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        trace = next(flows((args, kwargs))).trace
        rule = trace.rules.get(name_of(func))
        result = rule(func, args, kwargs) if rule else None
        if result is None:
            result = trace.opaque(func, args, kwargs)
        if _is_in_place(func) and isinstance(result, Flow) and isinstance(args[0], Flow):
            args[0].__dict__.update(result.__dict__)
            return args[0]
        return result

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = getattr(self.value, name)
        if callable(found):
            method = getattr(Tensor, name)
            return lambda *args, **kwargs: Flow.__torch_function__(method, (), (self, *args), kwargs)
        if isinstance(found, Tensor):
            return Flow.__torch_function__(lambda x: getattr(x, name), (), (self,))
        return found

    def __len__(self) -> int:
        return len(self.value)

    def __bool__(self) -> bool:
        # `user_errors.own_errors` adds the file and line of the code that asked.
        raise TypeError("what this code does depends on the values of its activations")

    __float__ = __int__ = __index__ = item = tolist = __bool__


def _operator(name: str) -> Callable[..., Any]:
    method = getattr(Tensor, name)
    return lambda self, *args: Flow.__torch_function__(method, (), (self, *args))


ARITHMETIC = ("add", "sub", "mul", "truediv", "matmul", "pow", "floordiv", "mod")
OTHERS = ("neg", "abs", "getitem", "setitem", "lt", "le", "gt", "ge", "eq", "ne", "invert", "and", "or")
for _name in (*(way + name for name in ARITHMETIC for way in ("", "r", "i")), *OTHERS):
    if hasattr(Tensor, f"__{_name}__"):
        setattr(Flow, f"__{_name}__", _operator(f"__{_name}__"))


# ---------------------------------------------------------------- of functions and what they are given


def name_of(func: Callable[..., Any]) -> str:
    """One name for a function of torch, the method of a tensor and its form that works in place."""
    return getattr(func, "__name__", str(func)).strip("_")


def _is_in_place(func: Callable[..., Any]) -> bool:
    name = getattr(func, "__name__", "")
    if name.startswith("__i") and name.removeprefix("__i").strip("_") in ARITHMETIC:
        return True
    return name.endswith("_") and not name.startswith("_")


def fixed(trace: Trace, value: Tensor, axis: int = 1) -> Flow:
    """A tensor of which nothing goes; along which axis it is read is left to who reads it."""
    axis = min(axis, max(value.dim() - 1, 0))
    return Flow(trace, value, axis, (FIXED,) * (value.shape[axis] if value.dim() else 0))


def along(flow: Flow, axis: int) -> Flow:
    """The flow with its channels along this axis; where they lie along another, they stay."""
    axis %= flow.value.dim()
    if axis == flow.axis:
        return flow
    flow.trace.pin(flow, f"channels of {_text(flow.value)} are mixed along another axis")
    return fixed(flow.trace, flow.value, axis)


def plainly(func: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    """The function on tensors without memory: what it gives has the right shape."""
    given = _mapped((args, kwargs), Flow, lambda flow: flow.value)
    args, kwargs = _mapped(given, Tensor, lambda tensor: tensor.to("meta"))
    return func(*args, **kwargs)


def flows(given: Any) -> Iterator[Flow]:
    yield from _found(given, Flow)


def tensors(given: Any) -> Iterator[Tensor]:
    yield from _found(given, Tensor)


def _found(given: Any, kind: type) -> Iterator[Any]:
    if isinstance(given, kind):
        yield given
    elif isinstance(given, Mapping):
        yield from _found(tuple(given.values()), kind)
    elif isinstance(given, tuple | list):
        for each in given:
            yield from _found(each, kind)


def _mapped(given: Any, kind: type, change: Callable[[Any], Any]) -> Any:
    """The same nest of lists, tuples and mappings with each object of a kind changed."""
    if isinstance(given, kind):
        return change(given)
    if isinstance(given, Mapping):
        return {key: _mapped(each, kind, change) for key, each in given.items()}
    if isinstance(given, tuple | list):
        each = [_mapped(one, kind, change) for one in given]
        return each if isinstance(given, list) else tuple(each)
    return given


def _text(value: Tensor) -> str:
    return " x ".join(map(str, value.shape[1:]))


def places(value: Tensor, upto: int) -> int:
    """How many numbers the axes before `upto` span."""
    return math.prod(value.shape[:upto])
