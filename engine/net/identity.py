"""What a user's model is beside its weights: digests of its code, and of the settings of its modules.

Equal models have equal digests in every process: no address and no order of a set goes into them.
"""

from __future__ import annotations

import ast
import copyreg
import dis
import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from engine.data import user_errors

COUNTER = "num_batches_tracked"  # batch-norm's counter: no prediction depends on it
DEEPEST = 8  # objects inside objects; modules inside modules are not counted
ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...), torch.dtype, torch.device)
APART = {"training", "_parameters", "_buffers", "_modules", "_non_persistent_buffers_set"}
OF_CLASSES = {"__module__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__firstlineno__"}
INSIDE = ("__dict__", "__wrapped__", "fget", "fset", "fdel", "cell_contents")


def code_of(net: nn.Module, factory: str) -> str:
    """16 hex digits that change with the user's files, except for their comments and documentation."""
    kinds = {type(module) for module in net.modules()}
    files = {sys.modules[factory.partition(":")[0]].__file__ or ""}
    files |= {_file_of(kind) for kind in kinds if _is_users(kind) and kind.__module__ != "__main__"}
    meanings = (_meaning(file) for file in sorted(files, key=lambda f: Path(f).name) if file)
    return hashlib.sha256("".join(meanings).encode()).hexdigest()[:16]


def settings_of(net: nn.Module, by_file: bool) -> str:
    """16 hex digits that change with what decides the net's outputs, beside the weights in its state_dict.

    That is: the classes of its modules, their attributes, hooks and other tensors. Functions and classes of
    the user count by their compiled code, which another version of Python compiles otherwise; with
    `by_file`, those at the top of a file count by the text of that file.
    """
    return _Description(net, by_file).of(net)[:16]


def _is_users(thing: Any) -> bool:
    name = getattr(thing, "__module__", None) or ""
    is_made_up = bool(name) and name not in sys.modules
    return name == "__main__" or is_made_up or (bool(_file_of(thing)) and user_errors.is_own(_file_of(thing)))


def _file_of(thing: Any) -> str:
    module = sys.modules.get(getattr(thing, "__module__", None) or "")
    return getattr(module, "__file__", None) or ""


def _meaning(file: str) -> str:
    tree = ast.parse(Path(file).read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
            node.body = body[1:]  # type: ignore[attr-defined, index]
    return ast.dump(tree)


def _name(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


class _Description:
    """Digests of values: each object once, by what it consists of."""

    def __init__(self, net: nn.Module, by_file: bool) -> None:
        state = net.state_dict(keep_vars=True)
        self.weights = {id(t): n for n, t in state.items() if isinstance(t, Tensor) and t.is_floating_point()}
        self.by_file = by_file
        self.known: dict[int, str] = {}
        self.kept: list[Any] = []  # so that no id is used again

    def of(self, value: Any, depth: int = 0) -> str:
        if type(value) in ATOMS:
            return f"{type(value).__name__} {value!r}"
        if id(value) in self.weights:
            return f"weight {self.weights[id(value)]} {value.requires_grad}"
        if depth > DEEPEST:
            return _name(type(value))
        if id(value) not in self.known:
            self.kept.append(value)
            self.known[id(value)] = "itself"  # for what it holds and refers back
            text = "\n".join((_name(type(value)), *self._parts(value, depth + 1)))
            self.known[id(value)] = hashlib.sha256(text.encode(errors="replace")).hexdigest()
        return self.known[id(value)]

    def _parts(self, value: Any, depth: int) -> Iterable[str]:
        match value:
            case Tensor():
                return self._tensor(value)
            case nn.Module():
                return self._module(value, depth)
            case type():
                return self._class(value, depth)
            case FunctionType():
                return self._function(value, depth)
            case CodeType():
                return self._code(value, depth)
            case ModuleType():
                file = value.__file__ if hasattr(value, "__file__") else None
                return [value.__name__, _meaning(file) if file and user_errors.is_own(file) else ""]
            case set() | frozenset():
                return sorted(self.of(each, depth) for each in value)
            case list() | tuple():
                return [self.of(each, depth) for each in value]
            case dict():
                return [self.of(each, depth) for pair in value.items() for each in pair]
        return self._reduced(value, depth)

    def _tensor(self, tensor: Tensor) -> Iterator[str]:
        yield f"{tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}"
        if tensor.layout == torch.strided and not tensor.is_meta and not tensor.is_quantized:
            numbers = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            yield hashlib.sha256(numbers.numpy().data).hexdigest()

    def _module(self, module: nn.Module, depth: int) -> Iterator[str]:
        yield self.of(type(module), depth)
        for name, value in sorted(vars(module).items()):
            if name.endswith("_hooks") and isinstance(value, dict):
                yield from (name, self.of(list(value.values()), depth))  # their keys count all hooks ever
            elif name not in APART:
                yield from (name, self.of(value, depth))
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if name != COUNTER:
                yield from (name, self.of(tensor, depth))
        for name, child in module._modules.items():
            yield from (name, self.of(child))

    def _is_filed(self, thing: Any) -> bool:
        return self.by_file and thing.__module__ in sys.modules and "<" not in thing.__qualname__

    def _class(self, kind: type, depth: int) -> Iterator[str]:
        yield _name(kind)
        if not _is_users(kind):
            return
        if self._is_filed(kind):
            yield _meaning(_file_of(kind))
            return
        yield from (self.of(base, depth) for base in kind.__bases__)
        for name, value in sorted(vars(kind).items()):
            if name not in OF_CLASSES:
                yield from (name, self.of(value, depth))

    def _function(self, function: FunctionType, depth: int) -> Iterator[str]:
        yield _name(function)
        if _is_users(function) and self._is_filed(function):
            yield _meaning(_file_of(function))
            return
        held = (function.__defaults__, function.__kwdefaults__, function.__closure__)
        yield from (self.of(each, depth) for each in held)
        if _is_users(function):
            yield self.of(function.__code__, depth)
            for name in sorted(set(_globals(function.__code__)) & function.__globals__.keys()):
                yield from (name, self.of(function.__globals__[name], depth))

    def _code(self, code: CodeType, depth: int) -> Iterator[str]:
        yield f"{code.co_code.hex()} {code.co_exceptiontable.hex()} {code.co_names}"
        yield from (self.of(each, depth) for each in code.co_consts)

    def _reduced(self, value: Any, depth: int) -> Iterator[str]:
        """What a copy of any other object is made from; of one that can't be copied, what it holds."""
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            made = reduce(value) if reduce else value.__reduce_ex__(4)
        except Exception:  # whatever a stranger's class may raise
            made = [getattr(value, name, None) for name in INSIDE]
        if isinstance(made, str):
            made = [made, getattr(value, "__module__", None), getattr(value, "__wrapped__", None)]
        yield from (self.of(list(each) if isinstance(each, Iterator) else each, depth) for each in made)


def _globals(code: CodeType) -> Iterator[str]:
    """The names of what a function, or one inside it, reads from its module."""
    yield from (step.argval for step in dis.get_instructions(code) if step.opname == "LOAD_GLOBAL")
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _globals(inner)
