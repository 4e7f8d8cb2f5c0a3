"""Where nets come from: a source makes a net, and says what it looks at and which data judge it.

The name of an architecture says its source: a name of the zoo, `bare`, or `source:what`. A source is
registered once, beside what it knows: the zoo in `engine.net.zoo`, the user's own nets here.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from engine.data import user, user_errors
from engine.data.sets import READ_ON, Data
from engine.data.user import GIVEN
from engine.data.user_errors import UserError
from engine.net import identity, surgery
from engine.net.identity import COUNTER as COUNTER
from engine.tensor.formats import Dense
from engine.types import TIES, Arch, Bundle, SlimscopeError

CODE = "code"  # of a user's net: a digest of the code that its weights were made for
SETTINGS = "settings"  # a digest of what its modules hold beside weights; files of before do not say it


@dataclass(frozen=True)
class Source:
    """How the nets of one kind of name come to be; each is asked with an architecture.

    `make` gives a fresh net; floating tensors of its state_dict may lie on the meta device, all others
    hold their numbers. `inputs` is an example of its inputs (1, ...), `task` names its data, and `data`
    reads them. `student` is the net that may learn from it, and `seeded` a net with first weights that a
    seed fixes. All raise SlimscopeError for a net that they do not know.
    """

    make: Callable[[Arch], nn.Module]
    inputs: Callable[[Arch], Tensor]
    task: Callable[[Arch], str]
    data: Callable[[Arch], Data]
    student: Callable[[Arch], Arch | None]
    seeded: Callable[[Arch, int], nn.Module]


SOURCES: dict[str, Source] = {}


def register(name: str, source: Source) -> None:
    """Make a source known. Raises ValueError where the name is taken."""
    if name in SOURCES:
        raise ValueError(f"source {name!r} is registered already")
    SOURCES[name] = source


def of(arch: Arch) -> Source:
    """The source of an architecture. Raises SlimscopeError where there is none."""
    if not arch.runs:
        raise SlimscopeError("these weights have no known architecture: they can be explored, not run")
    if arch.source not in SOURCES:
        raise SlimscopeError(
            f"architecture {arch.name[:80]!r} is of no known source: there are {', '.join(SOURCES)}"
        )
    return SOURCES[arch.source]


def inputs(arch: Arch) -> Tensor:
    """An example of what the net looks at: (1, ...)."""
    return of(arch).inputs(arch)


def task(arch: Arch) -> str:
    """The name of the net's data, as `engine.jobs.keys.read_data` takes it."""
    return of(arch).task(arch)


def data(arch: Arch) -> Data:
    """The data that the net is judged by."""
    return of(arch).data(arch)


def is_read_on(arch: Arch) -> bool:
    """Whether the net says how a text goes on: it is judged by perplexity."""
    return arch.source == "zoo" and task(arch) in READ_ON


def need_classes(bundle: Bundle) -> None:
    """Raise SlimscopeError for a net that says how a text goes on: its samples are in no class."""
    if bundle.arch.runs and is_read_on(bundle.arch):
        raise SlimscopeError(f"{bundle.arch.title} says how a text goes on: it has no classes to look at")


def student(arch: Arch) -> Arch | None:
    """The net that may learn from this one; None where there is none."""
    return of(arch).student(arch) if arch.runs else None


def seeded(arch: Arch, seed: int) -> nn.Module:
    """A fresh net with its usual random first weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return of(arch).seeded(arch, seed)


def bundle_of(arch: Arch, state: Mapping[str, Tensor]) -> Bundle:
    """A state_dict of a net without edits as an original bundle, in the net's own order of names."""
    made = of(arch).make(arch).state_dict()
    names = [n for n, tensor in made.items() if tensor.is_floating_point() and n not in arch.ties]
    for other, name in arch.ties.items():
        if other in state and not torch.equal(state[other], state[name]):
            raise SlimscopeError(f"{other!r} and {name!r} are one tensor in {arch.title}: here they differ")
    return Bundle(arch, {n: Dense(state[n].detach().to(torch.float32).contiguous()) for n in names})


def check(arch: Arch) -> None:
    """Raise SlimscopeError where the net can't be made; code that nobody named is not imported."""
    of(arch).make(arch)


# ---------------------------------------------------------------- the user's own


@dataclass(frozen=True, eq=False)
class _Net:
    """A user's net: a pattern without memory for its numbers, the numbers, and whose code it is."""

    pattern: nn.Module
    state: dict[str, Tensor]
    digests: dict[str, str]  # `CODE` and `SETTINGS`
    ties: dict[str, str]  # another name of a tensor -> its first, under which `state` has it

    @property
    def config(self) -> dict[str, Any]:
        """What an architecture says of it beside its name."""
        return {**self.digests, **({TIES: self.ties} if self.ties else {})}

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether weights whose architecture says this were made for it."""
        return all(config.get(name) in (None, digest) for name, digest in self.digests.items())

    def filled(self) -> nn.Module:
        """The net with its numbers, in eval mode."""
        net = copy.deepcopy(self.pattern)
        names = {**{name: name for name in self.state}, **self.ties}
        surgery.fill(net, {**net.state_dict(), **{own: self.state[name] for own, name in names.items()}})
        return net.eval()


def load_user(name: str = "") -> Bundle:
    """The net of the factory `name` (what was named at the start unless told) with its weights.

    Raises UserError where its code fails, where nobody named it, or where its weights can't be used.
    """
    name = name or user.named().model
    if not name:
        raise UserError("no model was named: --model package.module:factory names one")
    found = _net(name)
    params = {own: Dense(tensor) for own, tensor in found.state.items()}
    return Bundle(Arch(f"user:{name}", (), found.config), params)


def reload_user() -> Bundle:
    """As `load_user`, after the user's files were read again; where that fails, all stays as it was."""
    kept, tasks = dict(_nets), dict(user.tasks)
    _nets.clear()
    user.forget()
    try:
        bundle = load_user()
        if task(bundle.arch):
            probe(bundle, data(bundle.arch))
    except SlimscopeError:
        _nets.update(kept)
        user.tasks.update(tasks)
        raise
    return bundle


def without_settings(bundle: Bundle) -> Bundle:
    """A user's net as it was known when its identity was its code and weights alone."""
    config = {name: value for name, value in bundle.arch.config.items() if name != SETTINGS}
    return Bundle(Arch(bundle.arch.name, (), config), bundle.params)


def adopt(net: nn.Module, task: Data | None = None) -> tuple[Bundle, dict[str, Any], str]:
    """A net of this process as a bundle, what another process needs of it, and the digest of that."""
    with user_errors.own_errors("the model can't be described"):
        digests = {CODE: identity.settings_of(net, by_file=False)}
    found = _taken(net, digests, "the model", copied=True)
    params = {own: Dense(tensor) for own, tensor in found.state.items()}
    own = Bundle(Arch("user:given", (), found.config), params).fingerprint
    digest = hashlib.sha256(f"{own} {task and task.key}".encode()).hexdigest()[:16]
    objects = {"model": net, "data": task, "digests": digests}
    user.hold(objects, digest)
    return load_user(f"{GIVEN}{digest}"), objects, digest


_nets: dict[str, _Net] = {}  # the name of a factory -> what it gave


def _net(name: str) -> _Net:
    if name not in _nets:
        _nets[name] = _handed(name) if name.startswith(GIVEN) else _made(name)
        while len(_nets) > user.MOST_HELD:
            _nets.pop(next(iter(_nets)))
    return _nets[name]


def _handed(name: str) -> _Net:
    found = user.held(name)
    return _taken(found["model"], found["digests"], "the model", copied=True)


def _is_named(name: str) -> bool:
    return name in (user.named().model, user.named().student)


def _made(name: str) -> _Net:
    if not name or not _is_named(name):
        raise UserError(
            f"model {name[:80]!r} is code that nobody named at the start: it is not run{user.advice(name)}"
        )
    net = _called(name)
    with user_errors.own_errors(f"{name} can't be described"):
        digests = {CODE: identity.code_of(net, name), SETTINGS: identity.settings_of(net, by_file=True)}
    return _taken(net, digests, name)


def _called(name: str) -> nn.Module:
    factory = user.fetch(name)
    with user_errors.own_errors(name):
        net = factory()
    if not isinstance(net, nn.Module) or isinstance(net, torch.jit.ScriptModule):
        raise UserError(f"{name} must return an nn.Module that Python runs, got {type(net).__name__}")
    return net


def _taken(net: nn.Module, digests: dict[str, str], name: str, copied: bool = False) -> _Net:
    """The net with its numbers as 32-bit floats, `copied` where its owner goes on with it.

    Raises UserError for numbers that nobody can use.
    """
    state, ties = {}, {other: first for first, *others in surgery.shared(net) for other in others}
    for own, tensor in net.state_dict().items():
        if not isinstance(tensor, Tensor) or nn.parameter.is_lazy(tensor):
            raise UserError(f"{name}: {own!r} has no numbers yet: run the model once before it is returned")
        if tensor.is_complex() or tensor.is_quantized or tensor.layout != torch.strided:
            raise UserError(f"{name}: {own!r} is {tensor.dtype}: allowed are plain floating-point weights")
        if tensor.is_floating_point() and own not in ties:
            shared = copied or tensor.untyped_storage().nbytes() > tensor.nbytes
            state[own] = tensor.detach().cpu().to(torch.float32, copy=shared).contiguous()
            if tensor.numel() == 0 or not bool(torch.isfinite(state[own]).all()):
                raise UserError(f"{name}: {own!r} is empty, or holds NaN or infinity")
    if not any(tensor.dim() >= 2 for tensor in state.values()):
        raise UserError(f"{name} has no weight of two or more dimensions: there is nothing to compress")
    with user_errors.own_errors(f"{name} can't be copied"):
        floating = {other: first for other, first in ties.items() if first in state}
        return _Net(_pattern(net), state, digests, floating)


def _pattern(net: nn.Module) -> nn.Module:
    """A copy whose floating parameters and saved buffers take no memory; all else is as it was."""
    memo: dict[int, Any] = {}
    saved = net.state_dict(keep_vars=True)
    for tensor in saved.values():
        if tensor.is_floating_point():
            empty = torch.empty(tensor.shape, dtype=torch.float32, device="meta")
            is_trained = isinstance(tensor, nn.Parameter)
            memo[id(tensor)] = nn.Parameter(empty, tensor.requires_grad) if is_trained else empty
    with torch.no_grad():
        pattern = copy.deepcopy(net, memo)
    for module in pattern.modules():  # what is not saved is kept in 32 bits as well
        for own, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point() and not buffer.is_meta:
                module._buffers[own] = buffer.cpu().float()
    return pattern.train()


def _make(arch: Arch) -> nn.Module:
    if not _net(arch.what).fits(arch.config) and not arch.what.startswith(GIVEN):
        reload_user()  # another process may have been told of an edit before this one
    found = _net(arch.what)
    if not found.fits(arch.config):
        raise UserError(
            f"the code and settings of {arch.title} are not those of these weights: "
            "they were edited since, or are another's"
        )
    return copy.deepcopy(found.pattern)


def _named_data(arch: Arch) -> str:
    if arch.what.startswith(GIVEN):
        return arch.what if user.held(arch.what)["data"] is not None else ""
    return user.named().data


def _task(arch: Arch) -> str:
    name = _named_data(arch)
    return f"user:{name}@{user.task(name).name.removeprefix('user-')}" if name else ""


def _data(arch: Arch) -> Data:
    name = _named_data(arch)
    if not name:
        raise UserError(f"no data are known for {arch.title}: --data package.module:factory names some")
    return user.task(name)


def _inputs(arch: Arch) -> Tensor:
    return _data(arch).test.inputs(slice(0, 1))


def _student(arch: Arch) -> Arch | None:
    name = user.named().student
    if not name or name == arch.what:
        return None
    return Arch(f"user:{name}", (), _net(name).config)


def _seeded(arch: Arch, seed: int) -> nn.Module:
    if arch.what.startswith(GIVEN) or not _is_named(arch.what):
        raise UserError(f"{arch.title} has no factory that makes it anew")
    net = _called(arch.what).float()
    return net.train()


register("user", Source(_make, _inputs, _task, _data, _student, _seeded))


def probe(bundle: Bundle, task: Data) -> None:
    """Run a user's net once on two samples. Raises UserError where it fails or gives no scores of classes."""
    net, title, inputs = _net(bundle.arch.what).filled(), bundle.arch.title, task.test.inputs(slice(0, 2))
    with torch.no_grad(), user_errors.own_errors(f"{title} on inputs {tuple(inputs.shape)}"):
        outputs = net(inputs)
    if not isinstance(outputs, Tensor):
        raise UserError(f"{title} gives a {type(outputs).__name__}: one tensor of outputs is needed")
    if task.metric is not None and not task.test.is_labelled:
        return
    if outputs.dim() != 2 or outputs.shape[1] < len(task.classes):
        raise UserError(
            f"{title} gives {tuple(outputs.shape)} for {len(inputs)} samples: a score for each of the "
            f"{len(task.classes)} classes is needed, ({len(inputs)}, {len(task.classes)}), or a --metric"
        )
