"""A model as frozen data: its architecture, and how each of its parameters is stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

from torch import Tensor

from engine.types.params import Param
from engine.types.recipes import Recipe, frozen

TIES = "ties"  # in the config of an architecture


@dataclass(frozen=True)
class Arch:
    """A net's shape as data: where it comes from, and JSON edits from `engine.net.surgery.EDITS`.

    The name is one of the zoo, `bare`, or `source:what` of a source in `engine.net.sources`. `bare` is for
    weights without a known architecture: they can be looked at, compressed and packed, but not run.
    `config` is what else the source must know; it is written only where there is any. Its `ties` map the
    second name of a tensor that has several to the name that it is stored under.

    >>> Arch("user:shop.nets:model").source
    'user'
    """

    name: str
    edits: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)

    def edit(self, verb: str, **settings: Any) -> Arch:
        """This architecture with one more edit at its end."""
        return Arch(self.name, (*self.edits, (verb, frozen(settings))), self.config)

    @property
    def source(self) -> str:
        """`zoo`, `bare`, or the source in the name."""
        source, said, _ = self.name.partition(":")
        return source if said else "bare" if self.name == "bare" else "zoo"

    @property
    def what(self) -> str:
        """The name without its source."""
        return self.name.partition(":")[2] or self.name

    @property
    def title(self) -> str:
        """The name for people."""
        return "your model" if self.what.startswith("given:") else self.what

    @property
    def runs(self) -> bool:
        return self.name != "bare"

    @property
    def ties(self) -> Mapping[str, str]:
        """Another name of a parameter -> the name that a bundle has it under."""
        found: Mapping[str, str] = self.config.get(TIES, {})
        return found

    @property
    def plain(self) -> Arch:
        """The same net before any edit."""
        return Arch(self.name, (), self.config)

    @property
    def data(self) -> list[Any]:
        """The architecture as JSON-ready data."""
        known = [self.name, [[verb, dict(settings)] for verb, settings in self.edits]]
        return [*known, dict(self.config)] if self.config else known

    @property
    def key(self) -> str:
        """The architecture as text: equal for equal ones, and what is remembered of one goes by it."""
        return json.dumps(self.data, sort_keys=True)

    @classmethod
    def from_key(cls, key: str) -> Arch:
        return cls.from_data(json.loads(key))

    @classmethod
    def from_data(cls, raw: list[Any]) -> Arch:
        name, edits, *config = raw
        arch = cls(name, (), frozen(*config) if config else {})
        for verb, settings in edits:
            arch = arch.edit(verb, **settings)
        return arch

    def __reduce__(self) -> tuple[Any, ...]:
        return (Arch.from_data, (self.data,))


@dataclass(frozen=True, eq=False)
class Bundle:
    """A net as data: architecture plus parameters. One source of truth for size and behaviour.

    `params` maps every state_dict name to how it is stored; a tensor with several names is stored once,
    under the first (`Arch.ties` has the others). The net is derived (`engine.net.zoo.build`) and never
    kept. `origin` is the uncompressed bundle that this one was made from (`None`: it is itself the
    original); `lineage` is the recipe that made it.
    """

    arch: Arch
    params: Mapping[str, Param]
    source: Bundle | None = None
    lineage: Recipe = field(default_factory=Recipe)

    def __post_init__(self) -> None:
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    def __reduce__(self) -> tuple[Any, ...]:
        return (Bundle, (self.arch, dict(self.params), self.source, self.lineage))

    @property
    def origin(self) -> Bundle:
        return self if self.source is None else self.source

    def state(self) -> dict[str, Tensor]:
        """The decoded state_dict: name -> float tensor; names that are tied have the same tensor."""
        stored = self.decoded()
        return {**stored, **{other: stored[name] for other, name in self.arch.ties.items()}}

    def decoded(self) -> dict[str, Tensor]:
        """Every stored tensor once: name -> float tensor."""
        return {name: param.decode() for name, param in self.params.items()}

    def become(self, params: Mapping[str, Param], arch: Arch | None = None) -> Bundle:
        """This bundle with other parameters; `engine.recipe.run.apply` adds the step to its lineage."""
        return Bundle(arch or self.arch, params, self.origin, self.lineage)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of SHA-256 over architecture, names, kinds, shapes and bytes."""
        digest = hashlib.sha256(self.arch.key.encode())
        for name in sorted(self.params):
            param = self.params[name]
            digest.update(f"{name}:{param.kind.capitalize()}:{param.shape}".encode())
            for tensor in param.tensors().values():
                digest.update(tensor.detach().contiguous().numpy().data)
        return digest.hexdigest()[:16]


def weight_layers(bundle: Bundle) -> dict[str, str]:
    """Layer label -> name of its weight: every parameter of two or more dimensions.

    A label is the parameter's name without `.weight`; a recurrent layer's matrices keep their full
    names, because each is compressed by itself.

    >>> from engine.net import zoo
    >>> list(weight_layers(zoo.initial("lenet-300-100")))
    ['fc1', 'fc2', 'fc3']
    """
    return {
        name.removesuffix(".weight"): name for name, param in bundle.params.items() if len(param.shape) >= 2
    }
